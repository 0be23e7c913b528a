import type { Env } from "./env.ts";
import type { Client, Options } from "./options.ts";
import { PealError } from "./problem.ts";
import type { Tokens } from "./token.ts";

/** Where the calls are and who makes them. */
export interface Service {
  env: Env;
  options: Options;
  base: string;
  tokens: Tokens;
}

/** service names the service that options mean. */
export function service(env: Env, options: Options, tokens: Tokens): Service {
  const base = (options.url || env.origin).replace(/\/+$/, "") + "/api/v2/ticketing/";
  new URL(base); // throws if it is none
  return { env, options, tokens, base };
}

/** ask makes one request with the headers that every request has. */
export function ask({ env, options, base }: Service, path: string, token: string, init: RequestInit, headers: Record<string, string>): Promise<Response> {
  return env.fetch(base + path, {
    ...init,
    headers: { ...headers, Authorization: "Bearer " + token, realmname: options.realm, "x-tenantid": options.tenant },
    cache: "no-store",
    redirect: "error", // the token must not travel
  });
}

/** refusal reads an answer that is not a good one. */
export async function refusal(answer: Response): Promise<PealError> {
  return new PealError(answer.status, (await answer.json().catch(() => null)) ?? {});
}

const timeout = 30_000; // ms

/**
 * calls are those of the inbox. None begins after signal, which also ends those
 * that read. A write goes on: what a click has marked is marked, though a router
 * then takes away the bell, and its client with it.
 */
export function calls(s: Service, signal: AbortSignal): Pick<Client, "list" | "count" | "read" | "preferences" | "setPreferences"> {
  async function call(path: string, body?: unknown, etag?: string) {
    const end = new AbortController();
    const abort = () => end.abort();
    const cancel = s.env.after(timeout, abort);
    try {
      signal.throwIfAborted();
      if (!body) signal.addEventListener("abort", abort, end); // until then
      const headers: Record<string, string> = {};
      if (etag) headers["If-Match"] = etag;
      const init: RequestInit = { signal: end.signal };
      if (body) {
        headers["Content-Type"] = "application/json";
        init.method = "PUT";
        init.body = JSON.stringify(body);
        // What is marked by following a link outlives the page. Browsers refuse
        // that to more than 64 KiB, of all that is under way together.
        init.keepalive = init.body.length < 1_000;
      }
      let token = await s.tokens.get();
      let answer = await ask(s, path, token, init, headers);
      if (answer.status === 401) {
        token = await s.tokens.get("refused", token);
        answer = await ask(s, path, token, init, headers);
      }
      if (!answer.ok) throw await refusal(answer);
      const text = await answer.text();
      // Who answers a PUT with nothing has stored what it was given.
      return { value: text ? JSON.parse(text) : body, etag: answer.headers.get("ETag") ?? "" };
    } finally {
      cancel();
      abort(); // what is left of the answer
    }
  }
  const inbox = async (path: string, body?: unknown) => (await call("ticket/notification/" + path, body)).value;
  const preference = "user/preference";
  return {
    async list(query = {}) {
      const q = new URLSearchParams();
      for (const [name, value] of Object.entries(query)) for (const v of [value ?? []].flat()) q.append(name, `${v}`);
      return inbox("list?" + q);
    },
    count: () => inbox("count"),
    read: (what) => inbox("read", what),
    preferences: () => call(preference),
    setPreferences: (value, etag) => call(preference, value, etag),
  };
}
