import { sdk } from './sdk'
import {
  BitcoindManifest,
  configFile,
  dataDir,
  nodeAddress,
  nodeDir,
  passwordFile,
  stratumPort,
  uiPort,
} from './utils'

export const main = sdk.setupMain(async ({ effects }) => {
  const node = await nodeAddress(effects)

  const container = await sdk.SubContainer.eager(
    effects,
    { imageId: 'gatewayd' },
    sdk.Mounts.of()
      .mountVolume({ volumeId: 'main', subpath: null, mountpoint: dataDir, readonly: false })
      .mountDependency<BitcoindManifest>({
        dependencyId: 'bitcoind',
        volumeId: 'main',
        subpath: null,
        mountpoint: nodeDir,
        readonly: true,
      }),
    'gatewayd',
  )

  // Everything else is in gatewayd.toml, which the dashboard's settings page edits.
  const env: Record<string, string> = {
    GATEWAYD_LEDGER__DATA_DIR: dataDir,
    GATEWAYD_API__LISTEN: `0.0.0.0:${uiPort}`,
    GATEWAYD_API__ADMIN_PASSWORD_FILE: passwordFile,
    // gatewayd reads the cookie again when the node has made a new one. Without a node, nothing
    // answers there and gatewayd waits.
    GATEWAYD_NODE: `[{rpc_url="http://${node ?? '127.0.0.1:8332'}", rpc_cookie_file="${nodeDir}/.cookie"}]`,
  }

  return sdk.Daemons.of(effects)
    .addDaemon('gatewayd', {
      subcontainer: container,
      exec: {
        command: ['gatewayd', '--config', configFile, 'run'],
        env,
        // The node's cookie is for root only.
        user: 'root',
        sigtermTimeout: 30_000,
      },
      ready: {
        display: 'Dashboard',
        fn: () =>
          sdk.healthCheck.checkPortListening(effects, uiPort, {
            successMessage: 'The dashboard is ready',
            errorMessage: 'The dashboard is not ready',
          }),
      },
      requires: [],
    })
    .addHealthCheck('work', {
      ready: {
        display: 'Work for miners',
        trigger: sdk.trigger.cooldownTrigger(30_000),
        fn: async () => {
          const { exitCode, stderr } = await container.exec(
            ['gatewayd', '--config', configFile, 'healthcheck'],
            { env },
          )
          return exitCode === 0
            ? { result: 'success', message: `Miners get work on port ${stratumPort}` }
            : { result: 'loading', message: `${stderr}`.trim() || 'No work yet' }
        },
      },
      requires: ['gatewayd'],
    })
})
