import { FileHelper, T } from '@start9labs/start-sdk'
import { sdk } from './sdk'

export const uiPort = 7152
export const stratumPort = 23334

// Where things are in gatewayd's container.
export const dataDir = '/data'
export const configFile = `${dataDir}/gatewayd.toml`
export const passwordFile = `${dataDir}/admin-password`
export const nodeDir = '/mnt/bitcoind'

/** The dashboard's password, which the action writes. */
export const adminPassword = FileHelper.string({
  base: sdk.volumes.main,
  subpath: 'admin-password',
})

/** The parts of Bitcoin Core's manifest that are used here. */
export type BitcoindManifest = T.SDKManifest & {
  id: 'bitcoind'
  volumes: ['main']
}

/** The node's RPC over the bridge; null until it is installed. The caller runs again when it changes. */
export const nodeAddress = (effects: T.Effects) =>
  sdk.host
    .getBridgeAddress(effects, { packageId: 'bitcoind', hostId: 'rpc', internalPort: 8332 })
    .const()
