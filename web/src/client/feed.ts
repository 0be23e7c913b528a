import type { Notification, ServerEvent, StreamError } from "../api.ts";
import { backoff, retryAfter } from "./backoff.ts";
import { ask, refusal, type Service } from "./calls.ts";
import type { PealEvent, Status } from "./options.ts";
import { parser, type Block } from "./parser.ts";
import { cursorIn, type Place } from "./place.ts";
import type { Why } from "./token.ts";

/** What the server sends, with what the client adds to it. */
export type FeedEvent = Exclude<PealEvent, { type: "status" | "unread" | "refetch" }>;

/** Who a feed is for. Both are called in the order of what happened, and must not throw. */
export interface Reader {
  /** hand gives an event, and the cursor after it, "" if it has none. */
  hand(e: FeedEvent, cursor: string): void;
  status(s: Status): void;
}

export interface Feed {
  /** wake has a feed that waits try again now, and one that has died unnoticed come back. */
  wake(): void;
  close(): void;
}

const idle = 75_000; // ms without a byte: the server sends a heartbeat every 30 s
const impatience = 30_000; // ms for a token, an answer and the first event together
const eager = 5_000; // ms that a connection must have lasted to be a good one, whose end is answered as if it were the first

/** How an attempt ended. */
interface End {
  reason: string;
  final?: boolean; // trying again would not help
  why?: Why | undefined; // the token is to blame, so that a new one makes up for it
  after?: number; // ms: Retry-After
}

/** feed follows the caller's inbox from place on, until it is closed or refused. */
export function feed(service: Service, place: Place, reader: Reader): Feed {
  const { env, options, tokens } = service;
  let closed = false;
  let retry = 0; // ms: the server's last retry
  let failures = 0; // waits since a connection was good
  let spent = false; // a new token has been answered with an attempt at once, and no connection was good since
  let used = ""; // the token of the last attempt
  let since = ""; // the server's time from which on all that was made has come live
  let wake = () => {}; // what a wake-up does just now
  let end: () => void = wake; // ends the attempt or the wait that is under way

  async function run(): Promise<void> {
    let why: Why | undefined;
    reader.status({ name: "connecting" });
    for (;;) {
      const ended = await attempt(why);
      if (closed) return;
      if (ended.final) {
        closed = true;
        reader.status({ name: "refused", reason: ended.reason });
        return;
      }
      why = ended.why;
      if (why && !spent) {
        spent = true;
        continue; // the status too stays what it was
      }
      await pause(ended);
      if (closed) return;
      reader.status({ name: "connecting" });
    }
  }

  // attempt makes one request and follows the answer to its end.
  async function attempt(why: Why | undefined): Promise<End> {
    const abort = new AbortController();
    let ended: End | undefined; // decided by us, before the stream has noticed
    let opened = 0; // when `connected` came
    let last = env.now(); // when the last byte came
    let cancel = () => {}; // takes back the watchdog's next look
    let renewal = cancel; // and this the renewal
    end = () => {
      cancel();
      renewal();
      abort.abort();
    };
    const stop = (e: End) => {
      ended ??= e;
      end();
    };

    // The watchdog. Its timer may come late, in a hidden tab or after a sleep:
    // who wakes us lets it look at once.
    const started = last;
    const look = (): void => {
      cancel();
      const left = (opened ? last + idle : started + impatience) - env.now();
      if (left <= 0) stop({ reason: "silent" });
      else cancel = env.after(left, look);
    };
    wake = look;
    look();
    const stopped = new Promise<"">((resolve) => abort.signal.addEventListener("abort", () => resolve("")));

    // renew gets a new token while the old one is still good, and only then ends
    // the connection: the next one goes on at the cursor.
    const renew = (expires: number): void => {
      // A fifth before the end, a minute at most, and not all clients at once.
      const left = expires - env.now();
      renewal = env.after(Math.max(5_000, left - Math.min(60_000, left / 5) * (1 + env.random())), async () => {
        const token = await tokens.get("expiring", used).catch(() => used);
        if (abort.signal.aborted) return;
        if (token !== used) stop({ reason: "renewed", why: "expiring" });
        else renew(expires);
      });
    };

    const from = place.resume();
    const block = (b: Block): void => {
      if (b.retry >= 0) retry = b.retry;
      if (ended || closed) return;
      const e = event(b);
      if (!e) return;
      if (e.type === "connected") {
        // Nothing of another user's gets further than this.
        if (e.data.userId !== options.user) return stop({ reason: "the token is another user's", final: true });
        opened = env.now();
        since ||= e.data.timestamp;
        const life = Date.parse(e.data.expiresAt) - Date.parse(e.data.timestamp); // by the server's clock
        if (life > 0) renew(opened + life);
        reader.status({ name: "live" });
      } else if (e.type !== "error" && !opened) {
        return stop({ reason: "not connected" });
      } else if (e.type === "notification") {
        // A replay takes a moment only, and brings what is older than the
        // connection. Timestamps compare as text.
        e.fresh = !e.data.read && (!from || env.now() - opened > eager || e.data.createdAt >= since);
      }
      const cursor = cursorIn(b.id);
      reader.hand(e, cursor);
      if (closed) return; // by who was told, so that not all have been
      if (cursor) place.keep(cursor);
      if (e.type === "error") stop(farewell(e.data));
    };

    try {
      const token = await Promise.race([tokens.get(why, why && used).catch(() => ""), stopped]);
      if (!token) return ended ?? { reason: "no token", why };
      used = token;
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      if (from) headers["Last-Event-ID"] = from;
      const answer = await ask(service, "ticket/sse/notifications", used, { signal: abort.signal }, headers);
      if (answer.status !== 200 || !answer.headers.get("Content-Type")?.startsWith("text/event-stream") || !answer.body) {
        const { code, status } = await refusal(answer);
        return {
          reason: code || "status " + status,
          final: [400, 403, 406].includes(status),
          why: status === 401 ? "refused" : undefined,
          after: retryAfter(answer.headers.get("Retry-After"), env.now()),
        };
      }
      const read = parser(block);
      const chunks = answer.body.getReader();
      const text = new TextDecoder();
      for (;;) {
        const { done, value } = await chunks.read();
        if (done) return ended ?? { reason: "ended" };
        last = env.now();
        read(text.decode(value, { stream: true }));
      }
    } catch {
      // The network, an abort of ours, or a block that is too long.
      return ended ?? { reason: opened ? "broken" : "unreachable" };
    } finally {
      end();
      if (opened && env.now() - opened > eager) {
        spent = false;
        failures = 0;
      }
      if (!opened || !ended?.why) since = ""; // what comes next was not seen live
    }
  }

  // pause waits until it is time for the next attempt.
  function pause({ reason, after = 0 }: End): Promise<void> {
    const began = env.now();
    const { floor, wait } = backoff(failures++, retry, after, env.random());
    return new Promise((resolve) => {
      let cancel = () => {};
      const sleep = (ms: number) => {
        cancel();
        if (ms <= 0) return end();
        cancel = env.after(ms, end);
        reader.status({ name: "waiting", until: env.now() + ms, reason });
      };
      end = () => {
        cancel();
        resolve();
      };
      wake = () => sleep(began + floor - env.now());
      if (env.online()) sleep(wait);
      else reader.status({ name: "offline" });
    });
  }

  run();
  return {
    wake: () => wake(),
    close() {
      closed = true;
      end();
    },
  };
}

// farewell is what an `error` event means for the next attempt.
function farewell({ code }: StreamError): End {
  return { reason: code, why: code === "TOKEN_EXPIRED" ? "expiring" : code === "REVOKED" ? "refused" : undefined };
}

// event makes one of a block; undefined of what is malformed or not known, which
// must not end what comes after it.
function event({ event: type, data, id }: Block): FeedEvent | undefined {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {}
  if (!value || typeof value !== "object") return;
  switch (type) {
    case "notification":
      return typeof (value as Notification).id === "string" ? { type, data: value as Notification, cursor: id, fresh: true } : undefined;
    case "connected":
    case "state":
      return Number.isInteger((value as { unread: number }).unread) ? ({ type, data: value } as FeedEvent) : undefined;
    case "gap":
    case "heartbeat":
    case "error":
      return { type, data: value } as ServerEvent as FeedEvent;
  }
}
