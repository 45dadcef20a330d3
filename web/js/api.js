// The gateway's HTTP API: one place that knows paths, the CSRF token and what errors look like.

// Where the page is, which a proxy may show below a path of its own: "" or like "/gatewayd".
export const ROOT = new URL("..", import.meta.url).pathname.replace(/\/$/, "");
export const BASE = `${ROOT}/api/v1`;
// Longer than any answer takes; without it a gateway that hangs would look like one that is slow.
const TIMEOUT_MS = 15_000;

// Cookies go to every port of a host, so one is worth nothing without this token, which is given
// once, to the page that signs in. The browser keeps it for this tab, under this origin alone; other
// tabs of ours ask for it.
const TOKEN_KEY = `gatewayd${ROOT}.token`;
const TABS_MS = 150;
const tabs = new BroadcastChannel(TOKEN_KEY);
tabs.unref?.(); // in Node, where tests look at this, it would go on for ever
const kept = storage();
let csrfToken = kept?.getItem(TOKEN_KEY) ?? null;

tabs.addEventListener("message", ({ data }) => {
  if (data?.asks && csrfToken) tabs.postMessage({ token: csrfToken });
  else if (typeof data?.token === "string") keep(data.token);
});

// An answer that is not a success, or none at all (status 0).
export class ApiError extends Error {
  constructor(status, message, problems = []) {
    super(message);
    this.status = status;
    this.problems = problems;
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
  // The cookie that they have is another now.
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

// A tab that is new may have the token of another.
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

// Some browsers are told to keep nothing; looking needs nothing kept.
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
  // A proxy may take it off on the way; the session's cookie is for it.
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
        : "The gateway does not answer.";
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
      throw new ApiError(response.status, "The gateway's answer cannot be read.");
  }
  if (response.ok) return answer;
  throw new ApiError(
    response.status,
    answer?.message ?? `The gateway answered ${response.status}.`,
    answer?.problems ?? [],
  );
}
