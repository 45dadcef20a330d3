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
      'gatewayd connects your Bitcoin miners to your own node and, if you like, to a DATUM pool such as OCEAN. Your node chooses the transactions; the pool only decides whom a block pays. Without a pool, you mine solo. Works with Stratum V1 and V2 miners.',
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
      description: 'Bitcoin Core: provides block templates, and receives the blocks you find',
      optional: false,
      metadata: { title: 'Bitcoin Core', icon: 'https://bitcoin.org/img/icons/opengraph.png' },
    },
  },
})
