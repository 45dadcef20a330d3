import { sdk } from './sdk'

export const setDependencies = sdk.setupDependencies(async () => ({
  bitcoind: {
    kind: 'running',
    // Without a flavour: Bitcoin Core. Bitcoin Knots (#knots) is on another chain since 29.3.1, where
    // SHA-256 miners have nothing to mine.
    versionRange: '>=30.0:0',
    healthChecks: ['bitcoind'],
  },
}))
