import type { Count, Cursor, Id, List, Preferences, Priority, Read, ReadAnswer, ServerEvent, Type } from "../api.ts";

export interface Options {
  /** Of the service, such as "https://peal.example.com"; "" or left out: the page's own origin. */
  url?: string;
  /** The realm that has issued the tokens, and the tenant's id. */
  realm: string;
  tenant: string;
  /**
   * Who is signed in. Names what tabs share and what is stored, and must be who
   * the token says: otherwise the client ends with the status "refused".
   */
  user: string;
  /**
   * Gives a token: the first, a new one before the last expires, or another one
   * because the service has refused the last. May throw: that is reported as an
   * error of the page, and it is asked again later.
   */
  token: (why: "start" | "expiring" | "refused") => string | Promise<string>;
  /** One connection for all tabs of this browser, where it can do that. Default true. */
  share?: boolean;
  /** Separates clients of one user that are not to share. Default "". */
  device?: string;
}

export type Status =
  | { name: "connecting" }
  | { name: "live" }
  /** Between two tries; until is in ms since 1970. */
  | { name: "waiting"; until: number; reason: string }
  /** The browser says so; or the client is closed. */
  | { name: "offline" }
  /** For good: trying again would not help. */
  | { name: "refused"; reason: string };

export type PealEvent =
  | Exclude<ServerEvent, { type: "notification" }>
  /** fresh: it has just been made, as far as can be told, and is not repeated from while nobody was here. */
  | (Extract<ServerEvent, { type: "notification" }> & { cursor: Cursor; fresh: boolean })
  | { type: "status"; status: Status }
  /** The client's unread has changed. */
  | { type: "unread"; unread: number }
  /** What is on the screen may be out of date: fetch the list again. Comes also once when the feed has begun. */
  | { type: "refetch" };

export interface ListQuery {
  /** 1 to 200; default 50. */
  limit?: number;
  /** The `next` of the page before. */
  before?: Cursor;
  unread?: boolean;
  type?: Type[];
  priority?: Priority[];
  ticketId?: Id;
}

/** Preferences and their version. */
export interface Stored {
  value: Preferences;
  etag: string;
}

/**
 * Calls reject with a PealError where the service refuses, and with what fetch
 * throws where there was no answer.
 */
export interface Client {
  /** Names what the clients of one user and device share, in all tabs of a browser. */
  readonly name: string;
  readonly status: Status;
  /** How many are unread; -1 before it is known. */
  readonly unread: number;
  /** Has handler called with every event of a type. What it returns takes that back. */
  on<T extends PealEvent["type"]>(type: T, handler: (e: Extract<PealEvent, { type: T }>) => void): () => void;
  list(query?: ListQuery): Promise<List>;
  count(): Promise<Count>;
  read(what: Read): Promise<ReadAnswer>;
  preferences(): Promise<Stored>;
  /** With the etag of what was read, it is refused with 412 if that has changed since. */
  setPreferences(value: Preferences, etag?: string): Promise<Stored>;
  /**
   * Ends the feed, and the calls that read; no handler is called any more. What
   * read and setPreferences have begun to write still goes to the service.
   */
  close(): void;
}
