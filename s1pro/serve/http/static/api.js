// The server as this page sees it: requests with the key, one kind of error, and server-sent events.

/** What went wrong, in words for people. `lost`: the server could not be reached, or went away. */
export class Problem extends Error {
  constructor(message, { status = 0, lost = false, retryAfter = 0 } = {}) {
    super(message);
    Object.assign(this, { status, lost, retryAfter });
  }
}

let key = "";

/** @param {string} value the API key of all requests from now on */
export function useKey(value) {
  key = value.trim();
}

/** A request; throws Problem for whatever is no success, and AbortError when `signal` stops it. */
export async function request(path, options = {}) {
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server cannot be reached.", { lost: true });
  }
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

async function problemOf(answer) {
  let message = `The server answered ${answer.status}.`;
  let code = "";
  try {
    ({ message, code } = (await answer.json()).error);
  } catch { /* no error object: a proxy, or a connection that broke */ }
  if (answer.status === 401) message = "This server asks for an API key: enter it in the settings.";
  if (answer.status === 429) message = `The server is full: ${message}`;
  const retryAfter = Number(answer.headers.get("Retry-After")) || 0;
  return new Problem(message, { status: answer.status, retryAfter, lost: code === "stopping" });
}

/** The events of a streamed answer, as objects. A stream without its end is a lost connection. */
export async function* events(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const answer = await request(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const frames = (rest + value).split("\n\n");
      rest = frames.pop();
      for (const frame of frames) {
        const data = frame.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n").trim();
        if (data === "[DONE]") return;
        if (data) yield event(data);
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof Problem) throw error;
    throw new Problem("The connection to the server was lost.", { lost: true });
  } finally {
    reader.cancel().catch(() => {});
  }
  throw new Problem("The connection to the server was lost before the answer ended.", { lost: true });
}

function event(data) {
  const found = JSON.parse(data);
  if (found.error) throw new Problem(found.error.message, { lost: found.error.code === "stopping" });
  return found;
}

/** Waits until the server answers again. */
export async function untilBack() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    try {
      if ((await fetch("/health", { cache: "no-store" })).ok) return;
    } catch { /* still away */ }
  }
}
