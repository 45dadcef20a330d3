import { setupManifest } from '@start9labs/start-sdk'

export const manifest = setupManifest({
  id: 'gatewayd',
  title: 'gatewayd',
  license: 'MIT',
  packageRepo: '@REPOSITORY@',
  upstreamRepo: '@REPOSITORY@',
  marketingUrl: '@REPOSITORY@',
  donationUrl: null,
  description: {
    short: "Mine with your own node's blocks",
    long:
      'gatewayd connects your Bitcoin miners to your own node. Your node chooses the transactions; a DATUM pool such as OCEAN, if you like, only says whom a block pays. Without a pool, you mine solo. Miners speak Stratum V1 or V2.',
  },
  volumes: ['main'],
  images: {
    gatewayd: {
      source: { dockerBuild: { dockerfile: '../../Dockerfile', workdir: '../..' } },
      arch: ['x86_64', 'aarch64'],
    },
  },
  dependencies: {
    bitcoind: {
      description: 'Bitcoin Core: gives the blocks to mine, and takes those that are found',
      optional: false,
      metadata: { title: 'Bitcoin Core', icon: 'https://bitcoin.org/img/icons/opengraph.png' },
    },
  },
})
