// Whether this visitor may change things.

import * as api from "./api.js";

let current = null;
const listeners = new Set();

export const session = () => current;
export const isSignedIn = () => Boolean(current?.signed_in);
// Before there is an address and a password, the house may make the first settings without one.
export const maySetUp = () => isSignedIn() || Boolean(current?.setup_open);

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
  // Who is out already is out.
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
