import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { at, beat, connected, frame, Service, Tab } from "./stage.ts";

async function alone(t: TestContext, prepare: (tab: Tab) => void = () => {}): Promise<{ tab: Tab; service: Service }> {
  const service = await Service.start(t);
  const tab = new Tab(service);
  prepare(tab);
  tab.start(t, { share: false });
  return { tab, service };
}

test("a 401 asks the page once at once, and then backs off", async (t) => {
  const { tab, service } = await alone(t);
  const tokens = new Set<string | undefined>();
  const refuse = async () => {
    const asked = await service.next();
    tokens.add(asked.token);
    asked.refuse(401, "UNAUTHENTICATED", { "WWW-Authenticate": "Bearer" });
  };
  await refuse();
  await refuse(); // no time has passed
  assert.deepEqual(tab.whys, ["start", "refused"]);
  const waits = [];
  for (let i = 0; i < 6; i++) {
    await tab.status("waiting");
    assert.equal(tab.reason, "UNAUTHENTICATED");
    waits.push(await tab.retry());
    await refuse();
  }
  assert.deepEqual(waits, [500, 1_000, 2_000, 4_000, 8_000, 15_000]);
  assert.equal(tokens.size, 8, "a new token for each try");
  assert.deepEqual(new Set(tab.whys.slice(1)), new Set(["refused"]));
  await tab.retry();
  (await service.next()).connect();
  await tab.status("live");
});

test("a refused token does not come back by a callback that fails", async (t) => {
  const { tab, service } = await alone(t);
  tab.token = () => Promise.reject(new Error("the issuer is away"));
  (await service.next()).refuse(401, "UNAUTHENTICATED");
  await tab.retry();
  await tab.retry();
  assert.equal(service.pending, 0);
  tab.token = () => "good";
  await tab.retry();
  const asked = await service.next();
  assert.equal(asked.token, "good");
  assert.deepEqual(tab.whys, ["start", "refused", "refused", "refused", "refused"]);
});

test("400, 403 and 406 are for good", async (t) => {
  for (const [status, code] of [[400, "INVALID_REQUEST"], [403, "FORBIDDEN"], [406, "NOT_ACCEPTABLE"]] as const) {
    const { tab, service } = await alone(t);
    (await service.next()).refuse(status, code);
    await tab.status("refused");
    assert.deepEqual(tab.client.status, { name: "refused", reason: code });
    assert.equal(tab.clock.size, 0);
    tab.fire("online");
    tab.fire("pageshow");
    assert.equal(tab.clock.size, 0);
    assert.equal(service.pending, 0);
  }
});

test("429 and 503 wait as long as they say, and a wake-up does not cut that short", async (t) => {
  for (const [status, code] of [[429, "RATE_LIMIT"], [503, "UNAVAILABLE"]] as const) {
    const { tab, service } = await alone(t);
    (await service.next()).refuse(status, code, { "Retry-After": "7" });
    await tab.status("waiting");
    assert.deepEqual(tab.client.status, { name: "waiting", until: tab.clock.now + 7_500, reason: code });
    tab.clock.advance(3_000);
    tab.fire("visibilitychange");
    assert.deepEqual(tab.client.status, { name: "waiting", until: tab.clock.now + 4_000, reason: code });
    tab.clock.advance(3_999);
    assert.equal(tab.client.status.name, "waiting");
    tab.clock.advance(1);
    await tab.status("connecting");
    (await service.next()).connect();
    await tab.status("live");
  }
});

test("anything else is backed off from", async (t) => {
  const { tab, service } = await alone(t);
  const reasons = [];
  for (const answer of [
    (a: Awaited<ReturnType<Service["next"]>>) => a.refuse(500, "INTERNAL"),
    (a) => a.refuse(404, "NOT_FOUND"),
    (a) => void a.response.writeHead(502, { "Content-Type": "text/html" }).end("<h1>Bad Gateway"),
    (a) => void a.response.writeHead(200, { "Content-Type": "text/html" }).end("sign in"),
    (a) => void a.response.writeHead(204).end(),
    (a) => void a.response.writeHead(302, { Location: "/login" }).end(),
    (a) => a.abort(),
  ] satisfies ((a: Awaited<ReturnType<Service["next"]>>) => void)[]) {
    answer(await service.next());
    await tab.status("waiting");
    reasons.push(tab.reason);
    await tab.retry();
  }
  assert.deepEqual(reasons, ["INTERNAL", "NOT_FOUND", "status 502", "status 200", "status 204", "unreachable", "unreachable"]);
  const asked = await service.next();
  assert.equal(asked.request.url, "/api/v2/ticketing/ticket/sse/notifications", "no redirect is followed");
  asked.connect();
  await tab.status("live");
  tab.clock.advance(5_001);
  asked.abort();
  await tab.status("waiting");
  assert.equal((tab.client.status as { until: number }).until - tab.clock.now, 1_000, "from the start, by the server's retry");
});

test("a callback that fails, or gives no token, is asked again later", async (t) => {
  const { tab, service } = await alone(t, (tab) => (tab.token = () => Promise.reject(new Error("x"))));
  await tab.retry();
  for (const token of ["", undefined, null, 7, "two words", "line\nline", "größe"]) {
    tab.token = () => token as string;
    await tab.retry();
    assert.deepEqual(service.asked, []);
  }
  await tab.status("waiting");
  assert.equal(tab.reason, "no token");
  tab.token = () => {
    throw new Error("at once");
  };
  await tab.retry();
  tab.token = () => "good";
  await tab.retry();
  assert.equal((await service.next()).token, "good");
  assert.deepEqual(new Set(tab.whys), new Set(["start"]));
  // Whoever writes the page finds each in the console, and no token there.
  assert.deepEqual([...new Set(tab.reported.map(String))], ["Error: x", "Error: peal: the callback gave no token", "Error: at once"]);
  assert.equal(tab.reported.length, tab.whys.length - 1, "each once");
});

test("a callback that never answers is asked again too", async (t) => {
  const { tab, service } = await alone(t, (tab) => (tab.token = () => new Promise<string>(() => {})));
  await tab.until(() => tab.whys.length === 1);
  tab.clock.advance(30_000);
  tab.token = () => "good";
  await tab.retry();
  assert.equal((await service.next()).token, "good");
  assert.deepEqual(tab.reported.map(String), ["Error: peal: no token in 30 s"]);
});

test("a token is renewed before it expires, and the feed goes on where it was", async (t) => {
  const { tab, service } = await alone(t);
  const first = await service.next();
  // The server's clock and ours need not agree.
  first.connect("c-0", { timestamp: at(9e9), expiresAt: at(9e9 + 900_000) }).notify(1);
  await tab.has("n1");
  // A minute before the end, and half a minute more by the random number.
  tab.clock.advance(30_000);
  first.event("heartbeat", beat);
  await tab.beats(1);
  for (let beats = 2; tab.clock.now < Date.parse(at(780_000)); beats++) {
    tab.clock.advance(30_000);
    first.event("heartbeat", beat);
    await tab.beats(beats);
  }
  tab.clock.advance(29_999);
  assert.deepEqual(tab.whys, ["start"]);
  first.notify(2);
  await tab.has("n2");
  tab.clock.advance(1);
  const second = await service.next();
  assert.deepEqual(tab.whys, ["start", "expiring"]);
  assert.match(second.token ?? "", /^token-2-expiring/);
  assert.equal(second.header("last-event-id"), "c-2");
  await first.gone();
  second.connect("c-2", { recovered: true, expiresAt: at(20_000) }).notify(3);
  await tab.has("n3");
  tab.clock.advance(14_000); // 20 s - 20 s / 5 * 1.5
  (await service.next()).connect("c-3", { recovered: true }).notify(4);
  await tab.has("n4");
  assert.deepEqual(tab.whys, ["start", "expiring", "expiring"]);
  assert.deepEqual(tab.ids, ["n1", "n2", "n3", "n4"]);
  assert.deepEqual(tab.of("status").map((e) => e.status.name), ["live"], "nobody need know");
});

test("the connection stays until there is a new token", async (t) => {
  const { tab, service } = await alone(t);
  const first = await service.next();
  first.connect("c-0", { expiresAt: at(20_000) });
  await tab.status("live");
  tab.token = () => Promise.reject(new Error("the issuer is away"));
  tab.clock.advance(14_000); // 20 s - 20 s / 5 * 1.5
  await tab.until(() => tab.whys.length === 2);
  await tab.clock.set(5_000);
  tab.token = () => "token-1-start-" + "x".repeat(20); // the same once more
  tab.clock.advance(5_000);
  await tab.until(() => tab.whys.length === 3);
  await tab.clock.set(5_000);
  first.notify(1);
  await tab.has("n1");
  tab.token = () => "another";
  tab.clock.advance(5_000);
  assert.equal((await service.next()).token, "another");
  assert.deepEqual(tab.whys, ["start", "expiring", "expiring", "expiring"]);
});

test("a token that has expired or is revoked is replaced at once, but not in a circle", async (t) => {
  for (const [code, why] of [["TOKEN_EXPIRED", "expiring"], ["REVOKED", "refused"]] as const) {
    const { tab, service } = await alone(t);
    const end = async () => (await service.next()).connect().event("error", { code, message: "" }, "", 1_500);
    const first = await end();
    await first.gone();
    const second = await end(); // no time has passed
    assert.notEqual(second.token, first.token);
    assert.deepEqual(tab.whys, ["start", why]);
    assert.equal(await tab.retry(), 1_500);
    const third = await service.next();
    third.connect();
    assert.deepEqual(tab.whys, ["start", why, why]);
    await tab.until(() => tab.of("connected").length === 3);
    tab.clock.advance(5_001); // it has lasted: what comes now is another story
    third.event("error", { code, message: "" });
    (await service.next()).connect();
    assert.deepEqual(tab.whys, ["start", why, why, why]);
    assert.deepEqual(tab.of("error").map((e) => e.data.code), [code, code, code]);
  }
});

test("a server that ends a connection for its own reason is come back to as it says", async (t) => {
  for (const code of ["DRAINING", "SLOW_CLIENT", "CONNECTION_LIMIT"]) {
    const { tab, service } = await alone(t);
    (await service.next()).connect("c-1").event("error", { code, message: "" }, "", 2_345);
    await tab.status("waiting");
    assert.deepEqual(tab.client.status, { name: "waiting", until: tab.clock.now + 2_345, reason: code });
    tab.fire("online");
    assert.equal(service.pending, 0, "not before that, whatever happens");
    tab.clock.advance(2_345);
    assert.equal((await service.next()).header("last-event-id"), "c-1");
    assert.deepEqual(tab.whys, ["start"]);
  }
});

test("after its last word nothing of a connection counts", async (t) => {
  const { tab, service } = await alone(t);
  const asked = await service.next();
  asked.connect("c-1");
  await tab.status("live");
  const last = frame("error", { code: "DRAINING", message: "" }, "", 1_000);
  asked.send(last + frame("gap", { code: "UNKNOWN_CURSOR", message: "" }, "c-9"));
  await tab.retry();
  assert.equal((await service.next()).header("last-event-id"), "c-1");
  assert.deepEqual(tab.of("gap"), []);
});

test("75 s of silence end a connection, and any byte puts that off", async (t) => {
  const { tab, service } = await alone(t);
  const asked = await service.next();
  asked.connect("c-1");
  await tab.status("live");
  tab.clock.advance(74_999);
  asked.event("heartbeat", beat);
  await tab.beats(1);
  tab.clock.advance(74_999);
  assert.equal(tab.client.status.name, "live");
  tab.clock.advance(1);
  await asked.gone();
  await tab.status("waiting");
  assert.equal(tab.reason, "silent");
  await tab.retry();
  assert.equal((await service.next()).header("last-event-id"), "c-1");
});

test("an answer that does not come, or does not begin, is waited for 30 s", async (t) => {
  const { tab, service } = await alone(t);
  await service.next();
  tab.clock.advance(30_000);
  await tab.retry();
  (await service.next()).stream(":\n\n");
  tab.clock.advance(30_000);
  await tab.retry();
  (await service.next()).response.writeHead(401).write("and then nothing");
  tab.clock.advance(30_000);
  await tab.retry();
  (await service.next()).connect();
  await tab.status("live");
});

test("who comes back to a tab after a sleep need not wait for timers", async (t) => {
  const { tab, service } = await alone(t);
  const asked = await service.next();
  asked.connect("c-1");
  await tab.status("live");
  tab.fire("visibilitychange");
  assert.equal(tab.client.status.name, "live");
  tab.clock.now += 80_000; // without one timer
  tab.visible = false;
  tab.fire("visibilitychange");
  assert.equal(asked.response.closed, false);
  tab.visible = true;
  tab.fire("visibilitychange");
  await asked.gone();
  await tab.retry();
  await service.next();
});

test("a wait ends when the page is looked at or the network is back", async (t) => {
  for (const name of ["visibilitychange", "online", "pageshow"]) {
    const { tab, service } = await alone(t);
    (await service.next()).refuse(500, "INTERNAL");
    await tab.status("waiting");
    tab.fire(name);
    await tab.status("connecting");
    (await service.next()).connect();
    await tab.status("live");
  }
});

test("there is no waiting in rounds without a network", async (t) => {
  const { tab, service } = await alone(t);
  const asked = await service.next();
  asked.connect("c-1");
  await tab.status("live");
  tab.online = false;
  asked.abort();
  await tab.status("offline");
  assert.equal(tab.clock.size, 0);
  tab.clock.advance(3_600_000);
  assert.equal(service.pending, 0);
  tab.online = true;
  tab.fire("online");
  const next = await service.next();
  assert.equal(next.header("last-event-id"), "c-1");
  next.connect("c-1");
  await tab.status("live");
});

test("whatever fails, and however early, is not asked for in a tight circle", async (t) => {
  for (const [what, end] of Object.entries<(asked: Awaited<ReturnType<Service["next"]>>) => unknown>({
    "no answer": (a) => a.abort(),
    "500 without a body": (a) => void a.response.writeHead(500).end(),
    "401, whatever the token": (a) => a.refuse(401, "UNAUTHENTICATED"),
    "429 without a time": (a) => a.refuse(429, "RATE_LIMIT"),
    "503 with a time of none": (a) => a.refuse(503, "UNAVAILABLE", { "Retry-After": "0" }),
    "an end before anything": (a) => a.stream().response.end(),
    "an end right after the beginning": (a) => a.stream(frame("connected", connected(), "c-0", 0)).response.end(),
    "a token that is always expired": (a) => a.stream(frame("connected", connected(), "c-0", 0) + frame("error", { code: "TOKEN_EXPIRED", message: "" }, "", 0)),
    "a user who is always revoked": (a) => a.stream(frame("connected", connected(), "c-0", 0) + frame("error", { code: "REVOKED", message: "" }, "", 0)),
    "a block that is too long": (a) => a.stream(frame("connected", connected(), "c-0", 0)).send("data: " + "x".repeat(2 << 20)),
  })) {
    const { tab, service } = await alone(t);
    for (let waited = 0; waited < 60_000; waited += await tab.retry()) {
      do {
        end(await service.next());
        await Promise.race([tab.status("waiting"), service.until(() => service.pending > 0)]);
      } while (service.pending > 0);
      await tab.status("waiting");
    }
    assert.ok(service.asked.length <= 10, `${what}: ${service.asked.length} requests in a minute`);
    tab.client.close();
  }
});
