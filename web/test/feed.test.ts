import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { at, beat, connected, frame, notification, Service, Tab, tenant } from "./stage.ts";

/** alone starts a tab that shares with nobody. */
async function alone(t: TestContext, prepare: (tab: Tab) => void = () => {}): Promise<{ tab: Tab; service: Service }> {
  const service = await Service.start(t);
  const tab = new Tab(service);
  prepare(tab);
  tab.start(t, { share: false });
  return { tab, service };
}

const placeOf = (service: Service) => `peal:${JSON.stringify([service.url + "/api/v2/ticketing/", "acme", tenant, "jane", ""])}`;

test("a request says who is calling by headers, and nothing in its URL", async (t) => {
  const fetched = t.mock.method(globalThis, "fetch");
  const { tab, service } = await alone(t);
  const asked = await service.next();
  assert.equal(asked.request.url, "/api/v2/ticketing/ticket/sse/notifications");
  assert.equal(asked.header("authorization"), "Bearer token-1-start-" + "x".repeat(20));
  assert.equal(asked.header("realmname"), "acme");
  assert.equal(asked.header("x-tenantid"), tenant);
  assert.equal(asked.header("accept"), "text/event-stream");
  assert.equal(asked.header("last-event-id"), undefined);
  assert.equal(fetched.mock.calls[0]?.arguments[1]?.cache, "no-store");
  assert.equal(tab.client.status.name, "connecting");
  asked.connect();
  await tab.status("live");
});

test("events come in order, with what the client knows of them", async (t) => {
  const { tab, service } = await alone(t);
  const asked = await service.next();
  assert.equal(tab.client.unread, -1);
  asked.connect("c-0", { unread: 4 }).notify(1).notify(2, { read: true });
  asked.event("state", { unread: 3, readState: "s-2", changed: [{ id: "n1", read: true }] }).event("heartbeat", beat);
  await tab.beats(1);
  assert.deepEqual(
    tab.events.map((e) => (e.type === "unread" ? e.unread : e.type)),
    ["status", "connected", 4, "refetch", "notification", 5, "notification", "state", 3, "heartbeat"],
  );
  assert.equal(tab.client.unread, 3);
  const [first] = tab.of("notification");
  assert.equal(first?.cursor, "c-1");
  assert.equal(first?.data.ticketNumber, "INC-2024-001234");
});

test("it goes on where it was, after an end, and each notification is handed out once", async (t) => {
  const { tab, service } = await alone(t);
  const first = await service.next();
  first.connect("c-0", { unread: 1 }).notify(1).notify(2);
  await tab.has("n2");
  first.abort();
  await tab.retry();
  const second = await service.next();
  assert.equal(second.header("last-event-id"), "c-2");
  // The count is as of the cursor, so one that is repeated counts, and is not shown.
  second.connect("c-1", { unread: 2, recovered: true }).notify(2).notify(3).event("heartbeat", beat);
  await tab.beats(1);
  assert.deepEqual(tab.ids, ["n1", "n2", "n3"]);
  assert.equal(tab.client.unread, 4);
});

test("a clean end is an end as any other", async (t) => {
  const { tab, service } = await alone(t);
  (await service.next()).connect().response.end();
  await tab.retry();
  await service.next();
});

test("a reload goes on where the page was, and a cursor counts only when its event was handed out", async (t) => {
  const { tab, service } = await alone(t);
  const asked = await service.next();
  const seen: (string | undefined)[] = [];
  tab.client.on("notification", () => seen.push(tab.session.items.get(placeOf(service))));
  asked.connect("c-0").notify(1).notify(2).event("heartbeat", beat);
  await tab.beats(1);
  assert.deepEqual(seen, ["c-0", "c-1"]);
  assert.deepEqual([...tab.session.items], [[placeOf(service), "c-2"]]);

  tab.client.close();
  tab.start(t, { share: false });
  assert.equal((await service.next()).header("last-event-id"), "c-2");
});

test("what is stored and no cursor is not sent", async (t) => {
  for (const stored of ["", "c 1", "c-1\n", "ü", "c".repeat(65)]) {
    const { service } = await alone(t, (tab) => tab.session.items.set(placeOf(tab.service), stored));
    assert.equal((await service.next()).header("last-event-id"), undefined, JSON.stringify(stored));
  }
  const { tab, service } = await alone(t, (tab) => tab.session.items.set(placeOf(tab.service), "c".repeat(64)));
  const asked = await service.next();
  assert.equal(asked.header("last-event-id"), "c".repeat(64));
  asked.connect("c ü").event("heartbeat", beat);
  await tab.beats(1);
  assert.deepEqual([...tab.session.items.values()], ["c".repeat(64)]);
});

test("a storage that throws costs the resume after a reload, and nothing else", async (t) => {
  const { tab, service } = await alone(t, (tab) => (tab.session.broken = true));
  const asked = await service.next();
  asked.connect().notify(1);
  await tab.has("n1");
  asked.abort();
  await tab.retry();
  assert.equal((await service.next()).header("last-event-id"), "c-1");
});

test("another user's notifications are not shown, nor is the place lost", async (t) => {
  const { tab, service } = await alone(t, (tab) => tab.session.items.set(placeOf(tab.service), "c-7"));
  const asked = await service.next();
  asked.connect("c-9", { userId: "mallory", unread: 5 }).notify(10);
  await asked.gone();
  await tab.status("refused");
  assert.deepEqual(tab.events, [{ type: "status", status: { name: "refused", reason: "the token is another user's" } }]);
  assert.equal(tab.client.unread, -1);
  assert.deepEqual([...tab.session.items], [[placeOf(service), "c-7"]]);
  tab.fire("online");
  tab.fire("pageshow");
  assert.equal(tab.clock.size, 0, "it waits for nothing");
  assert.equal(service.pending, 0);
});

test("nothing is shown before it is known whose it is", async (t) => {
  const { tab, service } = await alone(t);
  for (const before of ["", frame("connected", "{", "c-0"), frame("connected", { unread: 1 }, "c-0"), frame("connected", [], "c-0")]) {
    const asked = await service.next();
    asked.stream(before).notify(1);
    if (before.includes("unread")) {
      await tab.status("refused");
      break;
    }
    await asked.gone();
    await tab.retry();
  }
  assert.deepEqual(tab.ids, []);
  assert.equal(tab.session.items.size, 0);
});

test("what is malformed is passed over", async (t) => {
  const { tab, service } = await alone(t);
  const asked = await service.next();
  asked.connect();
  for (const data of ["", "{", "null", "1", '"x"', "{}", '{"id":7}']) asked.event("notification", data, "c-bad");
  asked.event("state", { unread: "many", readState: "s" }).event("ticketUpdate", { action: "created" }, "c-other").event("future", {});
  asked.send("garbage\n\n: comment\n\ndata: {}\n\n").notify(1).event("heartbeat", beat);
  await tab.beats(1);
  assert.deepEqual(tab.events.map((e) => e.type), ["status", "connected", "unread", "refetch", "notification", "unread", "heartbeat"]);
  assert.deepEqual([...tab.session.items.values()], ["c-1"]);
  assert.equal(service.asked.length, 1);
});

test("text is whole however its bytes come, and a BOM before it is none of it", async (t) => {
  const title = "日本🎉";
  const bytes = new TextEncoder().encode("\uFEFF" + frame("connected", connected(), "c-0") + frame("notification", notification("n1", { title }), "c-1"));
  t.mock.method(globalThis, "fetch", async () => {
    const body = new ReadableStream({
      start(stream) {
        for (const byte of bytes) stream.enqueue(Uint8Array.of(byte));
      },
    });
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  });
  const { tab } = await alone(t);
  await tab.has("n1");
  assert.equal(tab.of("notification")[0]?.data.title, title);
});

test("a block without an end ends the connection, not the memory", async (t) => {
  const { tab, service } = await alone(t);
  const asked = await service.next();
  asked.connect().send("data: " + "x".repeat(2 << 20));
  await asked.gone();
  await tab.retry();
  (await service.next()).connect();
});

test("a handler that throws is not the end of the feed", async (t) => {
  const { tab, service } = await alone(t);
  const asked = await service.next();
  tab.client.on("connected", () => {
    throw new Error("theirs");
  });
  asked.connect().notify(1);
  await tab.has("n1");
  assert.equal((tab.reported[0] as Error).message, "theirs");
});

test("a handler is called until it is taken back", async (t) => {
  const { tab, service } = await alone(t);
  const got: string[] = [];
  const off = tab.client.on("notification", (e) => {
    got.push(e.data.id);
    if (e.data.id === "n2") off();
  });
  (await service.next()).connect().notify(1).notify(2).notify(3);
  await tab.has("n3");
  assert.deepEqual(got, ["n1", "n2"]);
});

test("nobody is called any more after close, not even of the event under way", async (t) => {
  const { tab, service } = await alone(t);
  const got: string[] = [];
  tab.client.on("notification", () => tab.client.close());
  tab.client.on("notification", (e) => got.push(e.data.id));
  tab.client.on("unread", (e) => got.push("unread " + e.unread));
  tab.client.on("status", (e) => got.push(e.status.name));
  (await service.next()).connect("c-0").notify(1).notify(2);
  await tab.status("offline");
  assert.deepEqual(got, ["live", "unread 0", "offline"]);
});

test("a handler that is given twice is called twice, and each is taken back by itself", async (t) => {
  const { tab, service } = await alone(t);
  const got: string[] = [];
  const handler = (e: { data: { id: string } }) => void got.push(e.data.id);
  const off = tab.client.on("notification", handler);
  tab.client.on("notification", handler);
  const asked = await service.next();
  asked.connect("c-0").notify(1);
  await tab.has("n1");
  off();
  asked.notify(2);
  await tab.has("n2");
  assert.deepEqual(got, ["n1", "n1", "n2"]);
});

test("what has just been made is fresh, and what is repeated is not", async (t) => {
  const { tab, service } = await alone(t, (tab) => tab.session.items.set(placeOf(tab.service), "c-0"));
  const asked = await service.next();
  asked.connect("c-0", { recovered: true }).notify(1, { createdAt: at(-60_000) }).notify(2, { createdAt: at(5) }).notify(3, { createdAt: at(5), read: true });
  await tab.has("n3");
  tab.clock.advance(5_001); // a replay is over by now, and this one took long to be published
  asked.notify(4, { createdAt: at(-60_000) });
  await tab.has("n4");
  // A token that is renewed is no absence; a connection that was lost is one.
  tab.token = () => "renewed";
  asked.event("error", { code: "TOKEN_EXPIRED", message: "" });
  const second = await service.next();
  second.connect("c-4", { recovered: true, timestamp: at(10_000) }).notify(5, { createdAt: at(9_990) });
  await tab.has("n5");
  second.abort();
  await tab.retry();
  (await service.next()).connect("c-5", { recovered: true, timestamp: at(20_000) }).notify(6, { createdAt: at(19_990) }).notify(7, { createdAt: at(20_001) });
  await tab.has("n7");
  assert.deepEqual(tab.of("notification").map((e) => e.fresh), [false, true, false, true, true, false, true]);
});

test("without a place everything is live", async (t) => {
  const { tab, service } = await alone(t);
  (await service.next()).connect().notify(1, { createdAt: at(-60_000) });
  await tab.has("n1");
  assert.equal(tab.of("notification")[0]?.fresh, true);
});

test("the list is to be fetched again when history or the read state is another", async (t) => {
  const { tab, service } = await alone(t);
  const refetches = () => tab.of("refetch").length;
  let asked = await service.next();
  asked.connect("c-0", { readState: "s-1" }).event("heartbeat", beat);
  await tab.beats(1);
  assert.equal(refetches(), 1, "the first connection");
  asked.event("gap", { code: "UNKNOWN_CURSOR", message: "" }, "c-3").event("heartbeat", beat);
  await tab.beats(2);
  assert.equal(refetches(), 2, "after a gap");
  asked.event("state", { unread: 1, readState: "s-2", changed: [] }).event("heartbeat", beat);
  await tab.beats(3);
  assert.equal(refetches(), 2, "a state that says what has changed");
  asked.event("state", { unread: 1, readState: "s-3", refetch: true }).event("heartbeat", beat);
  await tab.beats(4);
  assert.equal(refetches(), 3, "a state that does not");
  asked.abort();
  await tab.retry();
  asked = await service.next();
  assert.equal(asked.header("last-event-id"), "c-3");
  asked.connect("c-3", { readState: "s-3", recovered: true }).event("heartbeat", beat);
  await tab.beats(5);
  assert.equal(refetches(), 3, "the read state that was known, and nothing is missing");
  asked.abort();
  await tab.retry();
  asked = await service.next();
  asked.connect("c-3", { readState: "s-4", recovered: true }).event("heartbeat", beat);
  await tab.beats(6);
  assert.equal(refetches(), 4, "another read state");
  asked.abort();
  await tab.retry();
  (await service.next()).connect("c-4", { readState: "s-4" }).event("heartbeat", beat);
  await tab.beats(7);
  assert.equal(refetches(), 5, "a feed that does not go on where the last ended");
});

// A page fetches its list while the client connects. What is stored after the list
// is answered, and before the feed begins, is in neither.
test("a list that was fetched before the feed began is fetched again", async (t) => {
  for (const [place, recovered] of [["", false], ["c-0", true]] as const) {
    const { tab, service } = await alone(t, (tab) => tab.session.items.set(placeOf(tab.service), place));
    const feed = await service.next();
    const list = tab.client.list();
    (await service.next()).json({ notifications: [], next: null, cursor: "c-0", readState: "s-0" });
    assert.deepEqual((await list).notifications, []);
    // Without a place n1 is missing; with one, that it was read is.
    feed.connect("c-1", { unread: 1, recovered });
    await tab.until(() => tab.of("refetch").length > 0);
    assert.deepEqual(tab.events.map((e) => e.type), ["status", "connected", "unread", "refetch"]);
  }
});

test("close leaves nothing", async (t) => {
  const { tab, service } = await alone(t);
  const asked = await service.next();
  asked.connect();
  await tab.status("live");
  tab.client.close();
  await asked.gone();
  assert.deepEqual(tab.held, { timers: 0, listeners: 0, locks: 0, channels: 0 });
  assert.deepEqual(tab.client.status, { name: "offline" });
  tab.client.close(); // again is nothing
});

test("close in the middle of anything leaves nothing", async (t) => {
  for (const [name, reach] of Object.entries<(tab: Tab, service: Service) => Promise<unknown>>({
    "before the token": async (tab) => tab.client.close(),
    "in the callback": async (tab) => (tab.token = () => (tab.client.close(), "token")),
    "before the answer": async (_, service) => service.next(),
    "in a wait": async (tab, service) => ((await service.next()).refuse(503, "UNAVAILABLE"), tab.status("waiting")),
    "by a handler": async (tab, service) => {
      tab.client.on("notification", () => tab.client.close());
      (await service.next()).connect("c-0").notify(1).notify(2);
      await tab.has("n1");
    },
    "by a handler of the status": async (tab, service) => {
      tab.client.on("status", () => tab.client.close());
      (await service.next()).connect("c-0").notify(1);
      await tab.status("offline");
    },
  })) {
    const { tab, service } = await alone(t);
    await reach(tab, service);
    if (name === "in the callback") await tab.until(() => tab.whys.length > 0);
    tab.client.close();
    await new Promise(setImmediate); // whatever was under way has heard of it
    assert.deepEqual(tab.held, { timers: 0, listeners: 0, locks: 0, channels: 0 }, name);
    assert.ok(!tab.ids.includes("n2"), name);
    if (name === "by a handler") assert.deepEqual([...tab.session.items.values()], ["c-0"], "what was not handed out to all comes again");
    if (name === "by a handler of the status") assert.deepEqual(tab.of("connected"), []);
  }
});

test("bad options are said at once", (t) => {
  const tab = new Tab({ url: "http://127.0.0.1:1" } as Service);
  for (const [more, want] of [
    [{ realm: "" }, /realm/],
    [{ tenant: "" }, /tenant/],
    [{ user: "" }, /user/],
    [{ token: undefined as never }, /token/],
    [{ url: "peal.example.com" }, /URL/i],
  ] as const)
    assert.throws(() => tab.start(t, { share: false, ...more }), want);
  assert.deepEqual(tab.held, { timers: 0, listeners: 0, locks: 0, channels: 0 });
});
