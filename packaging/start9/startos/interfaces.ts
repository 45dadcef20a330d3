import { sdk } from './sdk'
import { stratumPort, uiPort } from './utils'

export const setInterfaces = sdk.setupInterfaces(async ({ effects }) => {
  const web = await sdk.MultiHost.of(effects, 'main').bindPort(uiPort, { protocol: 'http' })
  const ui = sdk.createInterface(effects, {
    name: 'Dashboard',
    id: 'ui',
    description: 'Hashrate, miners, the pool, your node, settings',
    type: 'ui',
    masked: false,
    schemeOverride: null,
    username: null,
    path: '',
    query: {},
  })

  const mining = await sdk.MultiHost.of(effects, 'mining').bindPort(stratumPort, {
    protocol: null,
    addSsl: null,
    preferredExternalPort: stratumPort,
    secure: { ssl: false },
  })
  const stratum = sdk.createInterface(effects, {
    name: 'Stratum',
    id: 'stratum',
    description: 'Point your miners here: Stratum V1 or V2',
    type: 'api',
    masked: false,
    schemeOverride: null,
    username: null,
    path: '',
    query: {},
  })

  return [await web.export([ui]), await mining.export([stratum])]
})
