import { FileHelper, T } from '@start9labs/start-sdk'
import { sdk } from './sdk'

export const uiPort = 7152
export const stratumPort = 23334

// Where things are in gatewayd's container.
export const dataDir = '/data'
export const configFile = `${dataDir}/gatewayd.toml`
export const passwordFile = `${dataDir}/admin-password`
export const nodeDir = '/mnt/bitcoind'

/** The dashboard's password, as the action writes it. */
export const adminPassword = FileHelper.string({
  base: sdk.volumes.main,
  subpath: 'admin-password',
})

/** What is used here of the manifest of Bitcoin Core. */
export type BitcoindManifest = T.SDKManifest & {
  id: 'bitcoind'
  volumes: ['main']
}

/** The node's RPC over the bridge; null until it is installed. Whoever asks runs again on a change. */
export const nodeAddress = (effects: T.Effects) =>
  sdk.host
    .getBridgeAddress(effects, { packageId: 'bitcoind', hostId: 'rpc', internalPort: 8332 })
    .const()
