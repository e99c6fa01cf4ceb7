// The service's resources. Paths are relative to the page.

const TOKEN = "sip-proxy.token";

/** How long an answer may take, in milliseconds. */
const PATIENCE = 10000;

/** An answer that is no success. `status` is 0 where none came. */
export class Problem extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

function headers(more) {
  const secret = token.get();
  return secret === null ? more : { ...more, Authorization: `Bearer ${secret}` };
}

async function ask(path, options) {
  try {
    const common = { mode: "same-origin", cache: "no-store", credentials: "omit", redirect: "error" };
    return await fetch(path, { ...common, ...options });
  } catch (fault) {
    throw new Problem(0, fault.message);
  }
}

/** The answer's own words, else its status. */
function problem(answer, said) {
  return new Problem(answer.status, String(said?.error ?? `${answer.status} ${answer.statusText}`));
}

async function refusal(answer) {
  return problem(answer, await answer.json().catch(() => null));
}

async function body(answer, read) {
  try {
    return await read(answer);
  } catch (fault) {
    throw new Problem(0, fault.message);
  }
}

/** Reads a resource; `read` takes the body, as JSON if it is not given. */
export async function get(path, read = (answer) => answer.json()) {
  const answer = await ask(path, { headers: headers({}), signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) {
    throw await refusal(answer);
  }
  return body(answer, read);
}

/** Has the service do something. The header keeps out other sites, whose forms cannot send it. */
export async function send(method, path, content) {
  const more = { "X-Sip-Proxy": "1" };
  if (content !== undefined) {
    more["Content-Type"] = "application/json";
  }
  const answer = await ask(path, {
    method,
    headers: headers(more),
    body: content === undefined ? undefined : JSON.stringify(content),
  });
  const text = await body(answer, (it) => it.text());
  const said = text === "" ? null : await body(text, JSON.parse).catch(() => null);
  // A reload that is refused says why in the form of one that is done.
  if (answer.ok || Array.isArray(said?.faults)) {
    return said;
  }
  throw problem(answer, said);
}

/**
 * Reads a resource without an end: `take` gets the objects of each piece. Returns when the service ends it, throws
 * where that is by a fault; `signal` ends it from here.
 */
export async function follow(path, take, signal, opened = () => {}) {
  const answer = await ask(path, { headers: headers({}), signal });
  if (!answer.ok) {
    throw await refusal(answer);
  }
  opened();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      take(lines.filter((line) => line.trim() !== "").map((line) => JSON.parse(line)));
    }
  } catch (fault) {
    throw new Problem(0, fault.message);
  }
}
