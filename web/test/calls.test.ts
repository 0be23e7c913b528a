import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { Read } from "../src/api.ts";
import { PealError } from "../src/client/problem.ts";
import { Browser, Service, Tab, tenant } from "./stage.ts";

// Neither does the service take it, nor do the types.
// @ts-expect-error
({ all: true, read: false }) satisfies Read;

/** live starts a tab that is connected. */
async function live(t: TestContext): Promise<{ tab: Tab; service: Service }> {
  const service = await Service.start(t);
  const tab = new Tab(service).start(t);
  (await service.next()).connect();
  await tab.status("live");
  return { tab, service };
}

const path = (s: string) => "/api/v2/ticketing/" + s;

test("each call is as the API has it", async (t) => {
  const { tab, service } = await live(t);
  const fetched = t.mock.method(globalThis, "fetch");
  const list = { notifications: [], next: null, cursor: "c-1", readState: "s" };
  for (const [call, method, url, body, answer] of [
    [() => tab.client.list(), "GET", "ticket/notification/list", "", list],
    [() => tab.client.list({ limit: 20, before: "c&1", unread: true, type: ["mention", "comment"], priority: ["urgent"], ticketId: "ü/1" }), "GET",
      "ticket/notification/list?limit=20&before=c%261&unread=true&type=mention&type=comment&priority=urgent&ticketId=%C3%BC%2F1", "", list],
    [() => tab.client.count(), "GET", "ticket/notification/count", "", { unread: 1 }],
    [() => tab.client.read({ ids: ["a"], read: false }), "PUT", "ticket/notification/read", '{"ids":["a"],"read":false}', { changed: 1, unread: 2 }],
    [() => tab.client.read({ all: true }), "PUT", "ticket/notification/read", '{"all":true}', { changed: 1, unread: 0 }],
  ] as const) {
    const got = call();
    const asked = await service.next();
    assert.deepEqual([asked.request.method, asked.request.url, asked.body], [method, path(url), body]);
    assert.equal(asked.header("realmname"), "acme");
    assert.equal(asked.header("x-tenantid"), tenant);
    assert.equal(asked.token, service.asked[0]?.token, "the token there is");
    assert.equal(asked.header("content-type"), body ? "application/json" : undefined);
    assert.equal(asked.header("if-match"), undefined);
    assert.equal(fetched.mock.calls.at(-1)?.arguments[1]?.cache, "no-store");
    asked.json(answer);
    assert.deepEqual(await got, answer);
  }
  assert.equal(tab.clock.size, 2, "of the feed: its watchdog and its renewal");
});

test("preferences come with their version, and go with it", async (t) => {
  const { tab, service } = await live(t);
  const got = tab.client.preferences();
  let asked = await service.next();
  assert.deepEqual([asked.request.method, asked.request.url], ["GET", path("user/preference")]);
  asked.json({ minPriority: "high" }, { ETag: '"1"' });
  assert.deepEqual(await got, { value: { minPriority: "high" }, etag: '"1"' });

  const put = tab.client.setPreferences({ minPriority: "low" }, '"1"');
  asked = await service.next();
  assert.deepEqual([asked.request.method, asked.request.url, asked.body, asked.header("if-match")], ["PUT", path("user/preference"), '{"minPriority":"low"}', '"1"']);
  asked.json({ minPriority: "low", types: {} }, { ETag: '"2"' });
  assert.deepEqual(await put, { value: { minPriority: "low", types: {} }, etag: '"2"' });

  const silent = tab.client.setPreferences({});
  asked = await service.next();
  assert.equal(asked.header("if-match"), undefined);
  asked.response.writeHead(204, { ETag: '"3"' }).end();
  assert.deepEqual(await silent, { value: {}, etag: '"3"' });
});

test("a refusal is a PealError", async (t) => {
  const { tab, service } = await live(t);
  for (const [answer, want] of [
    [(a) => a.refuse(412, "PRECONDITION_FAILED"), { status: 412, code: "PRECONDITION_FAILED", requestId: "request-1", message: "412 why" }],
    [(a) => a.refuse(403, "FORBIDDEN"), { status: 403, code: "FORBIDDEN", requestId: "request-1", message: "403 why" }],
    [(a) => void a.response.writeHead(502).end("<h1>"), { status: 502, code: "", requestId: "", message: "502" }],
    [(a) => void a.response.writeHead(500).end("null"), { status: 500, code: "", requestId: "", message: "500" }],
  ] as [(a: Awaited<ReturnType<Service["next"]>>) => void, object][]) {
    const call = tab.client.setPreferences({}, '"1"').catch((e: unknown) => e);
    answer(await service.next());
    const e = (await call) as PealError;
    assert.ok(e instanceof PealError);
    assert.deepEqual({ status: e.status, code: e.code, requestId: e.requestId, message: e.message }, want);
  }
  assert.equal(tab.client.status.name, "live", "which is the connection's");
});

test("a call that is refused for its token asks for another, once", async (t) => {
  const { tab, service } = await live(t);
  const calls = [tab.client.count(), tab.client.read({ all: true })];
  const [one, two] = [await service.next(), await service.next()];
  one.refuse(401, "UNAUTHENTICATED");
  two.refuse(401, "UNAUTHENTICATED");
  const again = [await service.next(), await service.next()];
  assert.deepEqual(tab.whys, ["start", "refused"], "two calls need one token");
  for (const asked of again) {
    assert.match(asked.token ?? "", /^token-2-refused/);
    asked.json(asked.body);
  }
  assert.deepEqual((await Promise.all(calls)).map(String), ["", '{"all":true}']);

  const refused = tab.client.count().catch((e: PealError) => e.status);
  (await service.next()).refuse(401, "UNAUTHENTICATED");
  (await service.next()).refuse(401, "UNAUTHENTICATED");
  assert.equal(await refused, 401);
  assert.deepEqual(tab.whys, ["start", "refused", "refused"]);
  assert.equal(service.pending, 0);
});

test("who needs a token while one is asked for gets that one", async (t) => {
  const service = await Service.start(t);
  const tab = new Tab(service).start(t);
  const calls = [tab.client.count(), tab.client.count()];
  for (const asked of [await service.next(), await service.next(), await service.next()])
    if (asked.request.url === path("ticket/notification/count")) asked.json({});
  await Promise.all(calls);
  assert.deepEqual(tab.whys, ["start"]);
});

test("each tab calls with a token of its own", async (t) => {
  const service = await Service.start(t);
  const browser = new Browser();
  new Tab(service, browser).start(t);
  (await service.next()).connect();
  const other = new Tab(service, browser);
  other.token = () => "other";
  other.start(t);
  await other.status("live");
  const call = other.client.count();
  const asked = await service.next();
  assert.equal(asked.token, "other");
  assert.deepEqual(other.whys, ["start"]);
  asked.json({});
  await call;
});

test("a call without an answer ends after 30 s, or with the client", async (t) => {
  const { tab, service } = await live(t);
  const late = assert.rejects(tab.client.count(), { name: "AbortError" });
  const asked = await service.next();
  tab.clock.advance(30_000);
  await late;
  await asked.gone();
  const dripping = assert.rejects(tab.client.count(), { name: "AbortError" });
  const second = await service.next();
  second.response.writeHead(200).write("{");
  tab.client.close();
  await dripping;
  await assert.rejects(tab.client.count(), { name: "AbortError" });
  assert.deepEqual(tab.held, { timers: 0, listeners: 0, locks: 0, channels: 0 });
  assert.equal(service.pending, 0);
});

// A click on a notification marks it, and a router then takes away the bell, which
// closes its client: not one mark got to the service.
test("what was begun to write is written, though the client is closed", async (t) => {
  const { tab, service } = await live(t);
  const writes = [tab.client.read({ all: true }), tab.client.setPreferences({ minPriority: "low" }), tab.client.count().catch((e: Error) => e.name)];
  tab.client.close();
  const asked = [await service.next(), await service.next()];
  assert.deepEqual(asked.map((a) => a.request.method), ["PUT", "PUT"]);
  for (const a of asked) a.json({}, { ETag: '"1"' });
  assert.deepEqual(await Promise.all(writes), [{}, { value: {}, etag: '"1"' }, "AbortError"]);
  await assert.rejects(tab.client.read({ all: true }), { name: "AbortError" }, "what is begun later");
  assert.equal(service.pending, 0);
  assert.deepEqual(tab.held, { timers: 0, listeners: 0, locks: 0, channels: 0 });
});

test("what is being written is given a token though the client is closed, and 30 s", async (t) => {
  const service = await Service.start(t);
  const tab = new Tab(service);
  let give!: (token: string) => void;
  tab.token = () => new Promise((resolve) => (give = resolve));
  tab.start(t);
  const late = assert.rejects(tab.client.read({ all: true }), { name: "AbortError" });
  await tab.until(() => tab.whys.length > 0);
  tab.client.close();
  give("late");
  const asked = await service.next();
  assert.deepEqual([asked.request.method, asked.token], ["PUT", "late"]);
  tab.clock.advance(30_000);
  await late;
  await asked.gone();
  assert.deepEqual(tab.held, { timers: 0, listeners: 0, locks: 0, channels: 0 });
});

test("a call that reaches nobody rejects with what fetch throws", async (t) => {
  const { tab, service } = await live(t);
  const call = assert.rejects(tab.client.count(), TypeError);
  (await service.next()).abort();
  await call;
});

test("what is marked outlives the page, unless a browser would refuse it for its length", async (t) => {
  const { tab, service } = await live(t);
  const fetched = t.mock.method(globalThis, "fetch");
  for (const [call, want] of [
    [() => tab.client.read({ ids: ["notif-550e8400-e29b-41d4-a716-446655440000"] }), true],
    [() => tab.client.read({ all: true }), true],
    // Browsers bound all that is under way together to 64 KiB.
    [() => tab.client.read({ ids: Array.from({ length: 500 }, (_, i) => String(i).padStart(128, "x")) }), false],
    [() => tab.client.setPreferences({ mutedTickets: Array.from({ length: 1000 }, (_, i) => String(i)) }), false],
  ] as const) {
    const got = call();
    (await service.next()).json({});
    await got;
    assert.equal(!!fetched.mock.calls.at(-1)?.arguments[1]?.keepalive, want);
  }
});
