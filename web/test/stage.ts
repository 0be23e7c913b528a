// What the tests of the client stand on: a service that does what it is told over
// real HTTP, and a browser whose clock, locks and storage are the test's. Nothing
// here waits for time: a test waits until something has happened.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { client } from "../src/client/client.ts";
import type { Env } from "../src/client/env.ts";
import type { Client, Options, PealEvent } from "../src/client/options.ts";

export const tenant = "11111111-1111-4111-8111-111111111111";
export const began = Date.parse("2025-07-10T12:35:00.000Z");
export const at = (ms: number): string => new Date(began + ms).toISOString();

/** A golden of the domain, with what a test wants otherwise. */
const golden = JSON.parse(readFileSync("../testdata/notification/assignment.json", "utf8"));
export const notification = (id: string, more: object = {}) => ({ ...golden, id, ...more });

/** Something that changes, and who waits until it is as they want. */
class Changing {
  private waiting = new Set<() => void>();

  changed(): void {
    for (const look of this.waiting) look();
  }

  until(is: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!is()) return;
        this.waiting.delete(look);
        resolve();
      };
      this.waiting.add(look);
      look();
    });
  }
}

/** A request that the service has got. */
export class Asked {
  constructor(
    readonly request: IncomingMessage,
    readonly response: ServerResponse,
    readonly body: string,
  ) {}

  header(name: string): string | undefined {
    const v = this.request.headers[name.toLowerCase()];
    return Array.isArray(v) ? v.join() : v;
  }

  get token(): string | undefined {
    return this.header("authorization")?.replace("Bearer ", "");
  }

  /** refuse answers as the service does. */
  refuse(status: number, code: string, headers: Record<string, string> = {}): void {
    this.response.writeHead(status, { ...headers, "Content-Type": "application/problem+json" });
    this.response.end(JSON.stringify({ type: "about:blank", title: "T", status, code, detail: "why", instance: "request-1" }));
  }

  json(value: unknown, headers: Record<string, string> = {}): void {
    this.response.writeHead(200, { ...headers, "Content-Type": "application/json" });
    this.response.end(JSON.stringify(value));
  }

  /** stream begins an event stream with what it is given. */
  stream(text = ""): this {
    this.response.writeHead(200, { "Content-Type": "text/event-stream" });
    this.response.flushHeaders();
    return this.send(text);
  }

  send(text: string): this {
    if (text) this.response.write(text);
    return this;
  }

  event(event: string, data: unknown, id = "", retry = -1): this {
    return this.send(frame(event, data, id, retry));
  }

  /** connect begins the stream of a user who has unread ones. */
  connect(id = "c-0", more: object = {}): this {
    return this.stream(frame("connected", connected(more), id, 1000));
  }

  notify(n: number, more: object = {}): this {
    return this.event("notification", notification(`n${n}`, more), `c-${n}`);
  }

  /** abort ends the response as the service ends one. */
  abort(): void {
    this.response.destroy();
  }

  /** gone waits until the client has ended the connection. */
  async gone(): Promise<void> {
    if (!this.response.closed) await once(this.response, "close");
  }
}

export const connected = (more: object = {}) => ({
  message: "Connected to notification stream", userId: "jane", timestamp: at(0), expiresAt: at(3_600_000),
  recovered: false, unread: 0, readState: "s-1", ...more,
});

export function frame(event: string, data: unknown, id = "", retry = -1): string {
  const text = typeof data === "string" ? data : JSON.stringify(data);
  return `${retry < 0 ? "" : `retry: ${retry}\n`}event: ${event}\ndata: ${text}\n${id && `id: ${id}\n`}\n`;
}

/** A service that answers each request as the test then says. */
export class Service extends Changing {
  readonly asked: Asked[] = []; // all, in order
  private taken = 0;

  private constructor(private readonly server: Server) {
    super();
  }

  static async start(t: TestContext): Promise<Service> {
    const server = createServer(async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      s.asked.push(new Asked(request, response, body));
      s.changed();
    });
    const s = new Service(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => {
      server.close();
      server.closeAllConnections();
    });
    return s;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** next waits for the next request. */
  async next(): Promise<Asked> {
    await this.until(() => this.pending > 0);
    return this.asked[this.taken++] as Asked;
  }

  /** pending is how many requests no one has taken. */
  get pending(): number {
    return this.asked.length - this.taken;
  }
}

/** A clock that stands still until it is told. */
export class Clock extends Changing {
  now = began;
  private timers = new Set<{ at: number; f: () => void }>();

  after(ms: number, f: () => void): () => void {
    assert.ok(ms >= 0, `a timer of ${ms} ms`);
    const timer = { at: this.now + ms, f };
    this.timers.add(timer);
    this.changed();
    return () => void this.timers.delete(timer);
  }

  advance(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      const due = [...this.timers].filter((t) => t.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.timers.delete(due);
      this.now = Math.max(this.now, due.at);
      due.f();
    }
    this.now = end;
  }

  /** set waits until there is a timer for a moment, in ms from now. */
  set(ms: number): Promise<void> {
    return this.until(() => [...this.timers].some((t) => Math.round(t.at - this.now) === Math.round(ms)));
  }

  get size(): number {
    return this.timers.size;
  }
}

interface Claim {
  name: string;
  owner: object;
  grant: () => void;
  reject: (e: unknown) => void;
}

/** The locks of a browser, as https://w3c.github.io/web-locks/ has them. */
export class Locks {
  private queue: Claim[] = [];
  private held = new Map<string, Claim>();

  /** of is what one tab sees of them. */
  of(owner: object, run = (f: () => void) => f()): LockManager {
    const request = (name: string, options: LockOptions, callback: LockGrantedCallback<unknown>) =>
      new Promise((resolve, reject) => {
        const aborted = () => new DOMException("", "AbortError");
        if (options.signal?.aborted) return reject(aborted());
        const claim: Claim = {
          name,
          owner,
          reject: (e) => run(() => reject(e)),
          grant: () => {
            this.held.set(name, claim);
            const done = () => {
              if (this.held.get(name) === claim) this.held.delete(name);
              this.next();
            };
            Promise.resolve(callback({ mode: "exclusive", name })).then(resolve, reject).finally(done);
          },
        };
        options.signal?.addEventListener("abort", () => {
          if (!this.queue.includes(claim)) return;
          this.queue.splice(this.queue.indexOf(claim), 1);
          reject(aborted());
        });
        if (options.steal) {
          this.held.get(name)?.reject(aborted());
          this.held.delete(name);
          this.queue.unshift(claim);
        } else this.queue.push(claim);
        queueMicrotask(() => this.next());
      });
    return { request, query: async () => ({}) } as unknown as LockManager;
  }

  private next(): void {
    const i = this.queue.findIndex((c) => !this.held.has(c.name));
    const [claim] = i < 0 ? [] : this.queue.splice(i, 1);
    claim?.grant();
  }

  /** crash takes away what a tab has, as when its process dies. */
  crash(owner: object): void {
    this.queue = this.queue.filter((c) => c.owner !== owner);
    for (const [name, claim] of this.held) if (claim.owner === owner) this.held.delete(name);
    this.next();
  }

  get size(): number {
    return this.queue.length + this.held.size;
  }
}

class Shelf implements Pick<Storage, "getItem" | "setItem"> {
  readonly items = new Map<string, string>();
  broken = false;
  getItem(name: string): string | null {
    if (this.broken) throw new DOMException("", "SecurityError");
    return this.items.get(name) ?? null;
  }
  setItem(name: string, value: string): void {
    if (this.broken) throw new DOMException("", "QuotaExceededError");
    this.items.set(name, value);
  }
}

/** What the tabs of one browser share. */
export class Browser {
  readonly local = new Shelf();
  readonly locks = new Locks();
  readonly said: string[] = []; // what went over channels
  tabs = 0;
  channels = 0; // open ones
}

/** A tab, with what it was told. */
export class Tab extends Changing {
  readonly clock = new Clock();
  readonly session = new Shelf();
  readonly events: PealEvent[] = [];
  readonly whys: string[] = [];
  readonly reported: unknown[] = [];
  readonly listeners = new Map<string, Set<(e: Event) => void>>();
  readonly random: number;
  online = true;
  visible = true;
  dead = false;
  private frozen: (() => void)[] | undefined;
  stopped = false; // it has no timers, but answers
  said = 0; // messages over the channel
  heard = 0; // and from it
  token: Options["token"] = (why) => `token-${this.whys.length}-${why}-${"x".repeat(20)}`;
  client!: Client;

  constructor(
    readonly service: Service,
    readonly browser = new Browser(),
    readonly sharing = true,
  ) {
    super();
    this.random = 0.5 + browser.tabs++ / 100;
  }

  env(): Env {
    const { browser, clock } = this;
    return {
      origin: "http://page.invalid",
      fetch: (...args) => fetch(...args),
      now: () => clock.now,
      random: () => this.random,
      after: (ms, f) => {
        if (ms > 0) return clock.after(ms, f);
        const timer = setImmediate(() => this.stopped || f());
        return () => clearImmediate(timer);
      },
      online: () => this.online,
      visible: () => this.visible,
      listen: (name, f, signal) => {
        const all = this.listeners.get(name) ?? new Set();
        this.listeners.set(name, all.add(f));
        signal.addEventListener("abort", () => all.delete(f));
      },
      report: (error) => this.reported.push(error),
      locks: this.sharing ? browser.locks.of(this, (f) => this.run(f)) : undefined,
      channel: (name) => this.open(name),
      storage: (shared) => (shared ? browser.local : this.session) as unknown as Storage,
    };
  }

  private open(name: string): BroadcastChannel {
    const channel = new BroadcastChannel(name);
    this.browser.channels++;
    const [post, close] = [channel.postMessage.bind(channel), channel.close.bind(channel)];
    channel.postMessage = (message) => {
      if (this.dead) return;
      this.said++;
      this.browser.said.push(JSON.stringify(message));
      post(message);
    };
    Object.defineProperty(channel, "onmessage", {
      set: (f: (e: MessageEvent) => void) => channel.addEventListener("message", (e) => this.run(() => {
        f(e as MessageEvent);
        this.heard++;
        this.changed();
      })),
    });
    channel.close = () => {
      this.browser.channels--;
      close();
    };
    return channel;
  }

  /** start makes the client, and ends it with the test. */
  start(t: TestContext, more: Partial<Options> = {}): this {
    this.client = client(this.env(), {
      url: this.service.url, realm: "acme", tenant, user: "jane",
      token: (why) => {
        this.whys.push(why);
        this.changed();
        return this.token(why);
      },
      ...more,
    });
    for (const type of ["connected", "notification", "state", "gap", "heartbeat", "error", "status", "unread", "refetch"] as const)
      this.client.on(type, (e) => {
        this.events.push(structuredClone(e));
        this.changed();
      });
    t.after(() => this.client.close());
    return this;
  }

  status(name: string): Promise<void> {
    return this.until(() => this.client.status.name === name);
  }

  has(id: string): Promise<void> {
    return this.until(() => this.ids.includes(id));
  }

  /** beats waits for so many heartbeats: what was sent before the last has been seen to. */
  beats(n: number): Promise<void> {
    return this.until(() => this.of("heartbeat").length >= n);
  }

  of<T extends PealEvent["type"]>(type: T): Extract<PealEvent, { type: T }>[] {
    return this.events.filter((e): e is Extract<PealEvent, { type: T }> => e.type === type);
  }

  get ids(): string[] {
    return this.of("notification").map((e) => e.data.id);
  }

  fire(name: string): void {
    for (const f of this.listeners.get(name) ?? []) f(new Event(name));
  }

  /** reason is why the client waits. */
  get reason(): string {
    const { status } = this.client;
    return "reason" in status ? status.reason : "";
  }

  /** retry lets the wait pass that the client is in. */
  async retry(): Promise<number> {
    await this.status("waiting");
    const { status } = this.client;
    assert.equal(status.name, "waiting");
    const wait = (status as { until: number }).until - this.clock.now;
    this.clock.advance(wait);
    await this.until(() => this.client.status !== status);
    return wait;
  }

  /** crash is the end of its process: nothing is said, and nothing given back. */
  crash(): void {
    this.dead = true;
    this.browser.locks.crash(this);
  }

  /** freeze stops what comes by channels and locks, until thaw, which lets it in as it came. */
  freeze(): void {
    this.frozen ??= [];
  }

  thaw(): void {
    const all = this.frozen ?? [];
    this.frozen = undefined;
    for (const f of all) f();
  }

  private run(f: () => void): void {
    if (this.frozen) this.frozen.push(f);
    else f();
  }

  /** held is what the client has of the browser. */
  get held(): Record<string, number> {
    return {
      timers: this.clock.size,
      listeners: [...this.listeners.values()].reduce((n, all) => n + all.size, 0),
      locks: this.browser.locks.size,
      channels: this.browser.channels,
    };
  }
}

export const beat = { timestamp: at(0) };
