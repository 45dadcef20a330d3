// Whether this visitor may change things.

import * as api from "./api.js";

let current = null;
const listeners = new Set();

export const session = () => current;
export const isSignedIn = () => Boolean(current?.signed_in);
// Until there is an address and a password, whoever has the code from the log may make the first
// settings.
export const maySetUp = () => isSignedIn() || Boolean(current?.may_set_up);

export function onSession(listener) {
  listeners.add(listener);
}

export async function askSession() {
  return take(await api.session());
}

export async function signIn(password) {
  return take(await api.signIn(password));
}

export async function signOut() {
  // Already signed out: fine.
  await api.signOut().catch((error) => {
    if (error.status !== 401) throw error;
  });
  return askSession();
}

function take(answer) {
  current = answer;
  for (const listener of listeners) listener();
  return answer;
}
