// The gateway's HTTP API: one place that knows paths, the CSRF token and what errors look like.

// Where the page is, which a proxy may show below a path of its own: "" or like "/gatewayd".
export const ROOT = new URL("..", import.meta.url).pathname.replace(/\/$/, "");
export const BASE = `${ROOT}/api/v1`;
// Longer than any answer takes; without it a gateway that hangs would look like one that is slow.
const TIMEOUT_MS = 15_000;

let csrfToken = null;

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

export async function session() {
  return remember(await get("/session"));
}

export async function signIn(password) {
  return remember(await post("/session", { password }));
}

export const signOut = () => ask("DELETE", "/session");

function remember(answer) {
  csrfToken = answer.csrf_token;
  return answer;
}

async function ask(method, path, body) {
  const headers = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (method !== "GET" && csrfToken) headers["x-csrf-token"] = csrfToken;
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
