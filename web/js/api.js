// The gateway's HTTP API: the one place that knows its paths, the CSRF token and the form of errors.

// The page's base path, which a proxy may set: "" or like "/gatewayd".
export const ROOT = new URL("..", import.meta.url).pathname.replace(/\/$/, "");
export const BASE = `${ROOT}/api/v1`;
// Longer than any answer takes; without it, a gateway that hangs would look like a slow one.
const TIMEOUT_MS = 15_000;

// Cookies go to every port of a host, so the session's cookie is worth nothing without this token,
// which is given once, to the page that signs in. The browser keeps it for this tab, under this origin
// alone; our other tabs ask this one for it.
const TOKEN_KEY = `gatewayd${ROOT}.token`;
const TABS_MS = 150;
const tabs = new BroadcastChannel(TOKEN_KEY);
tabs.unref?.(); // otherwise it would keep Node, where the tests run, alive forever
const kept = storage();
let csrfToken = kept?.getItem(TOKEN_KEY) ?? null;

tabs.addEventListener("message", ({ data }) => {
  if (data?.asks && csrfToken) tabs.postMessage({ token: csrfToken });
  else if (typeof data?.token === "string") keep(data.token);
});

// An unsuccessful answer, or no answer at all (status 0).
export class ApiError extends Error {
  constructor(status, message, problems = [], code = null) {
    super(message);
    this.status = status;
    this.problems = problems;
    this.code = code; // stays the same while the message may change
  }
}

export const get = (path) => ask("GET", path);
export const post = (path, body) => ask("POST", path, body);
export const put = (path, body) => ask("PUT", path, body);
export const remove = (path) => ask("DELETE", path);

export async function session() {
  if (!csrfToken) await askTabs();
  const answer = await get("/session");
  if (!answer.signed_in && !answer.may_set_up) keep(null);
  return answer;
}

export async function signIn(password) {
  const answer = await post("/session", { password });
  keep(answer.csrf_token);
  // Their cookie has been replaced.
  tabs.postMessage({ token: csrfToken });
  return answer;
}

export async function signOut() {
  await ask("DELETE", "/session");
  keep(null);
}

function keep(token) {
  csrfToken = token;
  if (token) kept?.setItem(TOKEN_KEY, token);
  else kept?.removeItem(TOKEN_KEY);
}

// A new tab can get the token from another one.
function askTabs() {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      tabs.removeEventListener("message", done);
      resolve();
    };
    const timer = setTimeout(done, TABS_MS);
    tabs.addEventListener("message", done);
    tabs.postMessage({ asks: true });
  });
}

// Some browsers are set to store nothing; viewing needs nothing stored.
function storage() {
  try {
    return sessionStorage;
  } catch {
    return null;
  }
}

async function ask(method, path, body) {
  const headers = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (csrfToken) headers["x-csrf-token"] = csrfToken;
  // A proxy may strip the path, which the session's cookie is set for.
  if (method !== "GET" && ROOT) headers["x-gatewayd-path"] = ROOT;
  let response;
  try {
    response = await fetch(BASE + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (error) {
    const why =
      error.name === "TimeoutError"
        ? "The gateway took too long to answer."
        : "The gateway is not answering.";
    throw new ApiError(0, why);
  }
  return read(response);
}

async function read(response) {
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    if (response.ok && response.status !== 204)
      throw new ApiError(response.status, "The gateway's answer could not be read.");
  }
  if (response.ok) return answer;
  throw new ApiError(
    response.status,
    answer?.message ?? `The gateway answered with HTTP status ${response.status}.`,
    answer?.problems ?? [],
    answer?.error ?? null,
  );
}
