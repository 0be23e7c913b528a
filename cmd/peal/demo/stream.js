// The event-stream wire format, and a feed that outlives its connections.
// EventSource can't send headers, so this reads the body of a fetch.

// watchdog is how long a connection may be silent before it counts as dead, in
// milliseconds: two heartbeats of 30 s and some air.
const watchdog = 75_000;

// openTimeout bounds the wait for the session and for the response's headers,
// in milliseconds.
const openTimeout = 15_000;

// maxBackoff bounds the jitter that repeated failures add, in milliseconds.
const maxBackoff = 30_000;

// Parser turns the text of an event stream into blocks. It takes CR, LF and
// CRLF as line ends and any split into chunks. A block that the stream's end
// cuts short is dropped, as the standard asks.
export class Parser {
  #rest = ""; // the line that has not ended yet
  #afterCR = false; // the last chunk ended in CR: an LF that follows belongs to it
  #block = {};

  // onBlock gets {event, id, retry, data}; id, retry and data are undefined
  // where the block has no such field. onRetry gets milliseconds, as soon as the
  // field is read: a cut stream may never finish its block.
  constructor({ onBlock, onRetry = () => {} }) {
    this.onBlock = onBlock;
    this.onRetry = onRetry;
  }

  push(text) {
    if (text === "") return;
    const fresh = this.#afterCR && text.startsWith("\n") ? text.slice(1) : text;
    this.#afterCR = text.endsWith("\r");
    const lines = (this.#rest + fresh).split(/\r\n|\r|\n/);
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === "") return this.#end();
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    const block = this.#block;
    if (field === "event") block.event = value;
    if (field === "data") block.data = block.data === undefined ? value : block.data + "\n" + value;
    if (field === "id" && !value.includes("\0")) block.id = value;
    if (field === "retry" && /^\d+$/.test(value)) {
      block.retry = Number(value);
      this.onRetry(block.retry);
    }
  }

  #end() {
    const block = this.#block;
    this.#block = {};
    if (Object.keys(block).length === 0) return;
    this.onBlock({ ...block, event: block.event || "message" });
  }
}

// backoff is how long to wait before the next try, in milliseconds. The
// server's own wish is never undercut: it spreads its clients with it. Failures
// in a row add full jitter on top.
export function backoff(wish, failures, random = Math.random) {
  return wish + random() * Math.min(maxBackoff, 1000 * (2 ** failures - 1));
}

// Feed keeps one connection open and opens it again after the last id seen.
//
// Its state is {name, …}: connecting; live; waiting {until, reason}; offline
// after stop; refused {reason} when trying again by itself would not help.
export class Feed {
  cursor; // the last id whose event has been handled; "" starts at the live end
  #stop = null; // aborts the present run; null while offline
  #wake = () => {};
  #retry = 2000; // the server's wish, in milliseconds

  // open(renew, signal) answers {url, headers} of a connection; renew asks for a
  // new token. onEvent gets (block, value): value is the data as JSON, or
  // undefined if it is none. onState gets every state, once.
  constructor({ cursor = "", open, onEvent, onState }) {
    Object.assign(this, { cursor, open, onEvent, onState });
  }

  start() {
    this.#abort();
    this.#stop = new AbortController();
    this.#run(this.#stop.signal);
  }

  // stop closes the connection. No event is handed out after it.
  stop() {
    this.#abort();
    this.onState({ name: "offline" });
  }

  // hurry ends a wait for the next try.
  hurry() {
    this.#wake();
  }

  #abort() {
    this.#stop?.abort();
    this.#stop = null;
    this.#wake();
  }

  async #run(stopped) {
    let failures = 0;
    let renew = false;
    for (;;) {
      this.onState({ name: "connecting" });
      const end = await this.#connect(stopped, renew);
      if (stopped.aborted) return;

      failures = end.live ? 0 : failures + 1;
      if (end.status === 401 && !renew) {
        renew = true; // once, at once: the token may be of an issuer that restarted
        continue;
      }
      if (end.refused) {
        this.onState({ name: "refused", reason: end.reason });
        return;
      }
      renew = end.renew ?? false;
      const wait = backoff(Math.max(this.#retry, end.after ?? 0), failures);
      this.onState({ name: "waiting", until: Date.now() + wait, reason: end.reason });
      await this.#sleep(wait);
      if (stopped.aborted) return;
    }
  }

  // #connect holds one connection until it ends and says how it ended:
  // {reason}, and live if it had begun, renew if it wants a new token, refused
  // and status if it was turned away, after as the least wait in milliseconds.
  async #connect(stopped, renew) {
    const cut = new AbortController();
    const signal = AbortSignal.any([stopped, cut.signal]);
    const end = { reason: "The connection was cut" };
    let patience = openTimeout;
    let heard = Date.now();
    const timer = setInterval(() => {
      if (Date.now() - heard < patience) return;
      end.reason = end.live ? `Nothing heard for ${patience / 1000} s` : "peal does not answer";
      cut.abort();
    }, 1000);

    try {
      const { url, headers } = await this.open(renew, signal);
      if (this.cursor) headers["Last-Event-ID"] = this.cursor;
      const response = await fetch(url, { headers, signal, cache: "no-store" });
      heard = Date.now();
      patience = watchdog;
      if (!isEventStream(response)) return await refusal(response);

      const parser = new Parser({
        onRetry: (ms) => (this.#retry = ms),
        onBlock: (block) => this.#handle(block, end),
      });
      const text = new TextDecoder();
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || signal.aborted) break;
        heard = Date.now();
        parser.push(text.decode(value, { stream: true }));
      }
    } catch (err) {
      if (!end.live && !signal.aborted) end.reason = err.reason ?? "peal does not answer";
    } finally {
      clearInterval(timer);
      cut.abort();
    }
    return end;
  }

  #handle(block, end) {
    const value = parse(block.data);
    if (block.event === "connected") {
      end.live = true;
      this.onState({ name: "live" });
    }
    if (block.event === "error") {
      end.reason = `${value?.message || "The server ended the connection"} (${value?.code ?? "unknown"})`;
      end.renew = ["TOKEN_EXPIRED", "REVOKED"].includes(value?.code);
    }
    if (block.id !== undefined) this.cursor = block.id;
    this.onEvent(block, value);
  }

  #sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function isEventStream(response) {
  return response.status === 200 && /^text\/event-stream\b/i.test(response.headers.get("Content-Type") ?? "");
}

// refusal says what a response means that is not an event stream.
async function refusal(response) {
  const passing = response.status >= 500 || [408, 425, 429].includes(response.status);
  const seconds = Number(response.headers.get("Retry-After"));
  return {
    status: response.status,
    refused: !passing,
    after: seconds > 0 ? seconds * 1000 : 0,
    reason: await problem(response),
  };
}

// problem puts a refusal (RFC 9457) into one line.
export async function problem(response) {
  const { code, title, detail } = parse(await response.text().catch(() => "")) ?? {};
  return [`${response.status} ${code ?? ""}`.trim(), detail || title].filter(Boolean).join(": ");
}

function parse(json) {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}
