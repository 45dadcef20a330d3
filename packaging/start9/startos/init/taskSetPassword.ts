import { setPassword } from '../actions/setPassword'
import { sdk } from '../sdk'
import { adminPassword } from '../utils'

export const taskSetPassword = sdk.setupOnInit(async (effects) => {
  if (!(await adminPassword.read().const(effects))) {
    await sdk.action.createOwnTask(effects, setPassword, 'critical', {
      reason: 'The dashboard needs a password: your bitcoin address is set there',
    })
  }
})
