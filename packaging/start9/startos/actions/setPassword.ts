import { utils } from '@start9labs/start-sdk'
import { sdk } from '../sdk'
import { adminPassword } from '../utils'

export const setPassword = sdk.Action.withoutInput(
  'set-password',

  async ({ effects }) => {
    const exists = !!(await adminPassword.read().const(effects))
    return {
      name: exists ? 'Reset Password' : 'Create Password',
      description: 'Whoever has the password may change settings on the dashboard',
      warning: null,
      allowedStatuses: 'any',
      group: null,
      visibility: 'enabled',
    }
  },

  async ({ effects }) => {
    const password = utils.getDefaultString({ charset: 'a-z,A-Z,2-9', len: 22 })
    await adminPassword.write(effects, `${password}\n`)
    return {
      version: '1',
      title: 'Success',
      message: 'Restart gatewayd if it is running, then sign in on the dashboard with this password.',
      result: {
        type: 'single',
        value: password,
        masked: true,
        copyable: true,
        qr: false,
      },
    }
  },
)
