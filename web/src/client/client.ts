import { calls, service } from "./calls.ts";
import type { Env } from "./env.ts";
import { feed, type FeedEvent } from "./feed.ts";
import type { Client, Options, PealEvent, Status } from "./options.ts";
import { place } from "./place.ts";
import { seen } from "./seen.ts";
import { tabs } from "./tabs.ts";
import { tokens } from "./token.ts";

/** What the leader tells the other tabs: what it was handed, or how it stands. */
interface News {
  event?: FeedEvent;
  cursor: string; // after the event
  status: Status;
  unread?: number; // with readState: a snapshot
  readState?: string;
}

/** client is connect in an environment that may be a test's. */
export function client(env: Env, options: Options): Client {
  for (const name of ["realm", "tenant", "user", "token"] as const)
    if (!options[name]) throw new TypeError(`peal: ${name} is missing`);
  const { realm, tenant, user, device = "", share = true } = options;
  const asked = service(env, options, tokens(env, options.token));
  const name = "peal:" + JSON.stringify([asked.base, realm, tenant, user, device]);
  const shared = share && !!env.locks;
  const at = place(env, name, shared);
  const known = seen();
  const handlers = new Set<{ type: string; handler: (e: never) => void }>();
  const closing = new AbortController();

  let status: Status = { name: "connecting" };
  let unread = -1;
  let readState = "";

  function emit(e: PealEvent): void {
    for (const { type, handler } of handlers) {
      try {
        if (type === e.type) handler(e as never);
      } catch (error) {
        env.report(error); // and is not the end of the feed
      }
    }
  }

  function become(next: Status): void {
    if (status.name === next.name && status.name !== "waiting") return;
    status = next;
    emit({ type: "status", status });
  }

  function counted(next: number): void {
    if (next === unread) return;
    unread = next;
    emit({ type: "unread", unread });
  }

  // take hands out an event in this tab. Every tab counts for itself, by the
  // server's rule: each number is as of the feed's place at that moment. So a
  // notification that was handed out before counts too, where `connected` has
  // begun before it.
  function take(e: FeedEvent, cursor: string): void {
    let count = unread;
    let stale = e.type === "gap";
    if (e.type === "connected" || e.type === "state") {
      count = e.data.unread;
      // A list that was fetched before the feed began may lack what came in between.
      stale = e.type === "state" ? !!e.data.refetch : !e.data.recovered || readState !== e.data.readState;
      readState = e.data.readState;
    } else if (e.type === "notification" && !e.data.read) {
      count++;
    }
    if (e.type !== "notification" || !known(e.data.id)) emit(e);
    if (cursor) at.cursor = cursor;
    counted(count);
    if (stale) emit({ type: "refetch" });
  }

  const group = tabs<News>(env, name, !shared, {
    lead: () =>
      feed(asked, at, {
        hand(event, cursor) {
          take(event, cursor);
          group.say({ event, cursor, status });
        },
        status(next) {
          // A tab that is refused says so of itself only, and makes room: the
          // token of another may be better.
          if (next.name === "refused") group.leave();
          become(next);
          group.say({ cursor: "", status });
        },
      }),
    snapshot: () => ({ cursor: at.cursor, status, unread, readState }),
    hear(news) {
      become(news.status);
      if (news.event) take(news.event, news.cursor);
      if (!news.readState) return;
      const stale = at.cursor !== news.cursor || readState !== news.readState;
      at.cursor = news.cursor;
      readState = news.readState;
      counted(news.unread as number);
      if (stale) emit({ type: "refetch" });
    },
  });

  // A page that the browser keeps for the way back must hold nothing that others
  // wait for. When it is shown again it comes like a new tab.
  const wake = () => group.wake();
  const listen = (name: Parameters<Env["listen"]>[0], f: () => void) => env.listen(name, f, closing.signal);
  listen("online", wake);
  listen("visibilitychange", () => env.visible() && wake());
  listen("pagehide", () => group.leave());
  listen("pageshow", () => {
    if (status.name !== "refused") group.join();
    wake();
  });
  group.join();

  return {
    name,
    get status() {
      return status;
    },
    get unread() {
      return unread;
    },
    on(type, handler) {
      const entry = { type, handler };
      handlers.add(entry);
      return () => void handlers.delete(entry);
    },
    ...calls(asked, closing.signal),
    close() {
      if (closing.signal.aborted) return;
      closing.abort();
      group.leave();
      become({ name: "offline" });
      handlers.clear();
    },
  };
}
