import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { beat, Browser, Service, Tab, tenant } from "./stage.ts";

/**
 * stage starts so many tabs of one browser; the first leads, and is connected.
 * Each has been told once to fetch its list again.
 */
async function stage(t: TestContext, n: number) {
  const service = await Service.start(t);
  const browser = new Browser();
  const tabs: Tab[] = [];
  const add = async (): Promise<Tab> => {
    const tab = new Tab(service, browser).start(t);
    tabs.push(tab);
    return tab;
  };
  const leader = await add();
  const feed = await service.next();
  feed.connect("c-0", { unread: 2 });
  await leader.status("live");
  for (let i = 1; i < n; i++) await (await add()).status("live");
  return { service, browser, tabs, feed, add };
}

test("one connection serves all tabs, and each gets everything", async (t) => {
  const { service, tabs, feed } = await stage(t, 3);
  feed.notify(1).event("state", { unread: 1, readState: "s-2", changed: [{ id: "n1", read: true }] }).event("gap", { code: "HISTORY_TRUNCATED", message: "" }, "c-5");
  feed.notify(2).event("heartbeat", beat);
  for (const tab of tabs) {
    await tab.beats(1);
    assert.deepEqual(tab.ids, ["n1", "n2"]);
    assert.equal(tab.client.unread, 2);
    assert.deepEqual([tab.of("state").length, tab.of("gap").length, tab.of("refetch").length], [1, 1, 2]);
    assert.equal(tab.of("notification")[1]?.cursor, "c-2");
  }
  assert.equal(service.asked.length, 1);
  assert.deepEqual(tabs.map((tab) => tab.whys.length), [1, 0, 0], "a token is needed by who connects");
});

test("a tab that comes later knows at once what the others know", async (t) => {
  const { tabs, feed, add } = await stage(t, 2);
  feed.notify(1);
  await tabs[1]?.has("n1");
  const tab = await add();
  await tab.status("live");
  assert.equal(tab.client.unread, 3);
  assert.deepEqual(tab.ids, []);
  // Its read state too: one that is known is no news.
  feed.event("state", { unread: 0, readState: "s-9", changed: [] });
  await tab.until(() => tab.client.unread === 0);
  assert.deepEqual(tabs.map((tab) => tab.of("refetch").length), [1, 1, 1]);
});

// Its list may have been answered while the leader was busy, and the snapshot is
// made after what has come since.
test("a tab that comes later fetches its list again once it is told where the others are", async (t) => {
  const { service, tabs, feed, add } = await stage(t, 1);
  const [leader] = tabs as [Tab];
  leader.freeze();
  const tab = await add();
  const list = tab.client.list();
  (await service.next()).json({ notifications: [], next: null, cursor: "c-0", readState: "s-1" });
  assert.deepEqual((await list).notifications, []);
  feed.notify(1);
  await leader.has("n1");
  leader.thaw();
  await tab.status("live");
  assert.equal(tab.client.unread, 3);
  assert.deepEqual(tab.ids, []);
  assert.equal(tab.of("refetch").length, 1);
  // What others ask for is an answer to all, and no news to those who know it.
  await (await add()).status("live");
  feed.notify(2);
  await tab.has("n2");
  assert.equal(tab.of("refetch").length, 1);
});

test("all know how the connection stands", async (t) => {
  const { service, tabs, feed } = await stage(t, 2);
  const [leader, other] = tabs as [Tab, Tab];
  feed.event("error", { code: "DRAINING", message: "" }, "", 1_500);
  await other.status("waiting");
  assert.deepEqual(other.client.status, leader.client.status);
  await leader.retry();
  (await service.next()).connect("c-0");
  await other.status("live");
  assert.deepEqual(other.of("error").map((e) => e.data.code), ["DRAINING"]);
});

for (const [how, end] of [
  ["is closed", (tab: Tab) => tab.client.close()],
  ["is left for another page", (tab: Tab) => tab.fire("pagehide")],
  ["dies", (tab: Tab) => tab.crash()],
] as const)
  test(`when the tab that leads ${how}, another goes on where it was itself`, async (t) => {
    const { service, browser, tabs, feed } = await stage(t, 3);
    const [leader, second, third] = tabs as [Tab, Tab, Tab];
    feed.notify(1).notify(2);
    await second.has("n2");
    await third.has("n2");
    end(leader);
    const next = await service.next();
    assert.deepEqual(tabs.map((tab) => tab.whys.length), [1, 1, 0]);
    assert.equal(next.header("last-event-id"), "c-2");
    assert.equal(browser.local.items.size, 1);
    next.connect("c-1", { unread: 3, recovered: true }).notify(2).notify(3).event("heartbeat", beat);
    for (const tab of [second, third]) {
      await tab.beats(1);
      assert.deepEqual(tab.ids, ["n1", "n2", "n3"]);
      assert.equal(tab.client.unread, 5);
    }
    assert.equal(browser.locks.size, 2);
  });

test("who takes over goes on where it was itself, though another was further", async (t) => {
  const { service, browser, tabs, feed } = await stage(t, 2);
  const [leader, other] = tabs as [Tab, Tab];
  feed.notify(1);
  await other.has("n1");
  leader.dead = true; // what it says is not heard any more
  feed.notify(2);
  await leader.has("n2");
  leader.crash();
  const next = await service.next();
  assert.deepEqual([...browser.local.items.values()], ["c-2"]);
  assert.equal(next.header("last-event-id"), "c-1");
  next.connect("c-1", { unread: 3, recovered: true }).notify(2);
  await other.has("n2");
});

test("the next page goes on where the last tab was", async (t) => {
  const { service, tabs, feed, add } = await stage(t, 2);
  feed.notify(1);
  for (const tab of tabs) await tab.has("n1");
  for (const tab of tabs) tab.client.close();
  await feed.gone();
  await add();
  assert.equal((await service.next()).header("last-event-id"), "c-1");
});

test("a page that comes back from the browser's cache joins again, and fetches what it has missed", async (t) => {
  const { service, browser, tabs, feed } = await stage(t, 2);
  const [first, second] = tabs as [Tab, Tab];
  feed.notify(1);
  await second.has("n1");
  first.fire("pagehide");
  assert.deepEqual([first.held.timers, browser.channels], [0, 1]);
  const next = await service.next();
  next.connect("c-1", { unread: 3, recovered: true }).notify(2);
  await second.has("n2");
  first.fire("pageshow");
  await first.until(() => first.client.unread === 4);
  assert.equal(first.of("refetch").length, 2);
  next.notify(3);
  await first.has("n3");
  assert.deepEqual(first.ids, ["n1", "n3"]);
  assert.equal(service.asked.length, 2);
  // It was away once more, and nothing has happened.
  second.fire("pagehide");
  const last = await service.next();
  last.connect("c-3", { unread: 5, recovered: true });
  await first.until(() => first.client.unread === 5);
  second.fire("pageshow");
  await second.until(() => second.client.unread === 5);
  assert.equal(second.of("refetch").length, 1);
  // And once more, while something was read: no cursor tells of that.
  second.fire("pagehide");
  last.event("state", { unread: 4, readState: "s-2", changed: [{ id: "n1", read: true }] });
  await first.until(() => first.client.unread === 4);
  second.fire("pageshow");
  await second.until(() => second.client.unread === 4);
  assert.equal(second.of("refetch").length, 2);
});

// In Chromium a frozen tab hears its channel and answers, though it takes nothing
// from the network any more and has no timers; the others went on trusting it.
for (const how of ["dead", "stopped"] as const) test(`a leader that is frozen, and so ${how}, loses the lead to a tab that is looked at`, async (t) => {
  const { service, browser, tabs, feed } = await stage(t, 2);
  const [frozen, awake] = tabs as [Tab, Tab];
  feed.notify(1);
  await awake.has("n1");
  frozen[how] = true; // and keeps its lock
  // 75 s without a word, and 10 s for an answer, each with a random part of 10 s more.
  awake.visible = false;
  awake.clock.advance(75_000 + 5_100 + 10_000 + 5_100 + 1);
  assert.equal(awake.whys.length, 0, "not while nobody looks");
  awake.visible = true;
  const [said, heard] = [frozen.said, awake.heard];
  awake.fire("visibilitychange");
  // One that is stopped does answer, and all that it says is heard.
  if (how === "stopped") await awake.until(() => frozen.said > said && awake.heard - heard >= frozen.said - said);
  awake.clock.advance(10_000 + 5_100 + 1);
  const next = await service.next();
  assert.equal(next.header("last-event-id"), "c-1");
  next.connect("c-1", { unread: 3 }).notify(2);
  await awake.has("n2");
  // The other notices as soon as it can, ends its connection and follows.
  await feed.gone();
  frozen[how] = false;
  frozen.fire("visibilitychange");
  next.notify(3);
  await frozen.has("n3");
  assert.deepEqual(frozen.ids, ["n1", "n2", "n3"]);
  assert.equal(frozen.client.unread, 5);
  assert.equal(browser.locks.size, 2);
  assert.equal(service.asked.length, 2);
});

// It knows of no leader then, and nothing but its clock tells that it leads later.
test("a tab that takes the lead away before it has heard of a leader is followed by all", async (t) => {
  const { service, browser, tabs, feed } = await stage(t, 3);
  const [first, frozen, third] = tabs as [Tab, Tab, Tab];
  feed.notify(1);
  for (const tab of tabs) await tab.has("n1");
  first.client.close();
  (await service.next()).connect("c-1", { unread: 3, recovered: true }).notify(2);
  await third.has("n2");
  frozen.dead = true; // and keeps its lock
  const last = new Tab(service, browser).start(t);
  last.clock.advance(10_000 + 5_300 + 1);
  const next = await service.next();
  next.connect("c-2", { unread: 4, recovered: true }).notify(3);
  for (const tab of [last, third]) await tab.has("n3");
  assert.deepEqual(third.ids, ["n1", "n2", "n3"]);
  assert.deepEqual([third.whys.length, last.whys.length], [0, 1]);
});

test("a leader that is asked and has nothing to say keeps the lead", async (t) => {
  const { tabs } = await stage(t, 2);
  const [, other] = tabs as [Tab, Tab];
  await other.clock.set(75_000 + 5_100);
  other.clock.advance(20_000);
  other.fire("visibilitychange");
  await other.clock.set(10_000 + 5_100); // asks
  await other.clock.set(75_000 + 5_100); // has heard
});

test("who does not lead any more is not heard", async (t) => {
  const { service, browser, tabs, feed } = await stage(t, 3);
  const [leader, second, third] = tabs as [Tab, Tab, Tab];
  const last = JSON.parse(browser.said.at(-1) as string);
  leader.client.close();
  const next = await service.next();
  next.connect("c-0", { unread: 2 });
  await feed.gone();
  const old = new BroadcastChannel(`peal:${JSON.stringify([service.url + "/api/v2/ticketing/", "acme", tenant, "jane", ""])}`);
  t.after(() => old.close());
  for (const term of [last.term, last.term + 1e9]) old.postMessage({ term, message: { ...last.message, event: { type: "state", data: { unread: 99, readState: "s-99" } } } });
  // What it has said is there before what is said after it.
  await new Promise(setImmediate);
  next.notify(1);
  for (const tab of [second, third]) {
    await tab.has("n1");
    assert.equal(tab.client.unread, 3);
    assert.deepEqual(tab.of("state"), []);
  }
});

test("a leader that answers keeps the lead, however long nothing happens", async (t) => {
  const { service, tabs, feed } = await stage(t, 2);
  const [leader, other] = tabs as [Tab, Tab];
  leader.online = false;
  feed.abort();
  await other.status("offline");
  const answers = () => other.browser.said.filter((m) => m.includes('"snapshot":true')).length;
  for (let i = 0; i < 5; i++) {
    const before = answers();
    leader.clock.advance(75_000 + 5_100 + 1);
    other.clock.advance(75_000 + 5_100 + 1); // asks
    await other.clock.set(75_000 + 5_100); // has heard
    assert.equal(answers(), before + 1);
    // The question is a wake-up too: the leader has tried again.
    (await service.next()).refuse(503, "UNAVAILABLE");
    await leader.until(() => leader.of("status").filter((e) => e.status.name === "offline").length === i + 2);
  }
  assert.equal(other.whys.length, 0);
});

test("a tab whose token is refused makes room for one with a better one", async (t) => {
  const service = await Service.start(t);
  const browser = new Browser();
  const bad = new Tab(service, browser).start(t);
  const good = new Tab(service, browser).start(t);
  (await service.next()).connect("c-9", { userId: "mallory", unread: 7 }).notify(1);
  await bad.status("refused");
  (await service.next()).connect("c-1", { unread: 1 }).notify(2);
  await good.has("n2");
  assert.deepEqual(good.ids, ["n2"]);
  assert.equal(bad.client.unread, -1);
  assert.deepEqual(bad.ids, []);
  assert.deepEqual([...browser.local.items.values()], ["c-2"]);
  bad.fire("pageshow");
  bad.fire("visibilitychange");
  assert.equal(browser.locks.size, 1);
});

test("users, tenants, realms and devices do not share", async (t) => {
  const service = await Service.start(t);
  const browser = new Browser();
  for (const more of [{}, { user: "john" }, { tenant: "22222222-2222-4222-8222-222222222222" }, { realm: "globex" }, { device: "b" }]) {
    const tab = new Tab(service, browser).start(t, more);
    const feed = await service.next();
    const user = more.user ?? "jane";
    feed.connect("c-" + user + (more.device ?? ""), { userId: user, unread: 1 });
    await tab.status("live");
    assert.equal(feed.header("last-event-id"), undefined);
  }
  assert.equal(browser.local.items.size, 5);
});

test("without locks or channel each tab has a connection of its own", async (t) => {
  const service = await Service.start(t);
  const browser = new Browser();
  for (let i = 0; i < 2; i++) {
    const tab = new Tab(service, browser, false).start(t);
    const feed = await service.next();
    assert.equal(feed.header("last-event-id"), undefined);
    feed.connect("c-0").notify(1);
    await tab.has("n1");
    assert.equal(tab.session.items.size, 1);
    tab.client.close();
    assert.deepEqual(tab.held, { timers: 0, listeners: 0, locks: 0, channels: 0 });
  }
  assert.equal(browser.local.items.size, 0);
});

test("where locks can't be had after all, a tab goes on by itself", async (t) => {
  const service = await Service.start(t);
  const tab = new Tab(service);
  tab.browser.locks.of = () => ({ request: () => Promise.reject(new DOMException("", "SecurityError")) }) as unknown as LockManager;
  tab.start(t);
  (await service.next()).connect().notify(1);
  await tab.has("n1");
});

// Firefox has the constructor also where it lets a page store nothing, and throws.
test("where there may be no channel after all, a tab goes on by itself", async (t) => {
  const service = await Service.start(t);
  const tab = new Tab(service);
  const env = tab.env();
  tab.env = () => ({
    ...env,
    channel() {
      throw new DOMException("", "SecurityError");
    },
  });
  tab.start(t);
  const feed = await service.next();
  feed.connect().notify(1);
  await tab.has("n1");
  tab.fire("pagehide");
  await feed.gone();
  tab.fire("pageshow");
  (await service.next()).connect("c-1").notify(2);
  await tab.has("n2");
  tab.client.close();
  assert.deepEqual(tab.held, { timers: 0, listeners: 0, locks: 0, channels: 0 });
});

test("close leaves nothing, whoever leads", async (t) => {
  const { service, browser, tabs } = await stage(t, 2);
  const [leader, other] = tabs as [Tab, Tab];
  other.client.close();
  assert.equal(other.clock.size, 0);
  leader.client.close();
  await new Promise(setImmediate);
  for (const tab of tabs) assert.deepEqual(tab.held, { timers: 0, listeners: 0, locks: 0, channels: 0 });
  assert.equal(browser.channels, 0);
  assert.equal(service.asked.length, 1);
});

test("a token is in the header, and nowhere else", async (t) => {
  const written: string[] = [];
  for (const name of ["log", "info", "warn", "error", "debug"] as const) t.mock.method(console, name, (...args: unknown[]) => written.push(args.join(" ")));
  const { service, browser, tabs, feed } = await stage(t, 2);
  const [leader, other] = tabs as [Tab, Tab];
  feed.notify(1);
  await other.has("n1");
  feed.event("error", { code: "REVOKED", message: "" });
  (await service.next()).refuse(401, "UNAUTHENTICATED");
  await leader.retry();
  (await service.next()).refuse(403, "FORBIDDEN");
  await leader.status("refused");
  (await service.next()).connect("c-1");
  await other.status("live");
  const call = other.client.count();
  (await service.next()).refuse(401, "UNAUTHENTICATED");
  (await service.next()).refuse(401, "UNAUTHENTICATED");
  const error = (await call.catch((e: unknown) => e)) as Error;
  leader.client.close();
  other.client.close();
  for (const asked of service.asked) assert.match(asked.token ?? "", /^token-/);
  const all = JSON.stringify([written, browser.said, [...browser.local.items], [...leader.session.items], leader.events, other.events,
    service.asked.map((a) => a.request.url), String(error), error]);
  assert.match(all, /c-1/);
  assert.doesNotMatch(all, /token-\d/);
});

test("a tab that is closed just as it begins to lead gives the lead back", async (t) => {
  const { service, browser, tabs, feed } = await stage(t, 3);
  const [leader, second, third] = tabs as [Tab, Tab, Tab];
  feed.notify(1);
  await third.has("n1");
  second.client.on("status", ({ status }) => status.name === "connecting" && second.client.close());
  leader.client.close();
  await second.status("offline");
  const next = await service.next();
  assert.equal(third.whys.length, 1);
  next.connect("c-1");
  await third.status("live");
  assert.equal(second.clock.size, 0);
  assert.equal(browser.locks.size, 1);
  assert.equal(service.asked.length, 2);
});

test("a leader that was frozen and goes on is not believed, though it answers", async (t) => {
  const { service, tabs, feed } = await stage(t, 3);
  const [frozen, awake, third] = tabs as [Tab, Tab, Tab];
  feed.notify(1);
  for (const tab of tabs) await tab.has("n1");
  frozen.freeze();
  third.visible = false;
  awake.clock.advance(75_000 + 5_100 + 10_000 + 5_100 + 1);
  const next = await service.next();
  next.connect("c-1", { unread: 3 }).notify(2);
  await third.has("n2");
  const heard = third.events.length;
  // Its messages come first, and one of them asks who leads; then that the lock is gone.
  frozen.thaw();
  await frozen.until(() => frozen.client.unread === 4);
  next.notify(3);
  for (const tab of tabs) await tab.has("n3");
  assert.deepEqual(third.events.slice(heard).map((e) => e.type), ["notification", "unread"]);
});
