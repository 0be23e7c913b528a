import assert from "node:assert/strict";
import { test } from "node:test";
import { entries, type Entries } from "../../src/bell/list.ts";
import type { List, Notification } from "../../src/client/index.ts";

function notification(id: string, read = false): List["notifications"][number] {
  return {
    id, read, type: "comment", ticketId: "t", ticketNumber: "INC-1", title: "t", message: "m", priority: "medium", category: "",
    createdAt: "2025-07-10T12:35:00.000Z", actionUrl: "/tickets/t", actor: { id: "system", name: "System", avatar: null }, reasons: [], cursor: id,
  };
}

// page reads "b a*": newest first, * is read.
function page(text: string, next: string | null = null) {
  return { notifications: text.split(" ").filter(Boolean).map((word) => notification(word.replace("*", ""), word.endsWith("*"))), next };
}

function shown(list: Entries): string {
  return list.items.map((n) => n.id + (list.isRead(n) ? "*" : "")).join(" ");
}

function item(list: Entries, id: string): Notification {
  const n = list.items.find((n) => n.id === id);
  assert.ok(n, id);
  return n;
}

function filled(text: string): Entries {
  const list = entries();
  list.begin();
  list.fill(page(text));
  return list;
}

test("what arrives goes on top, once, and pages below", () => {
  const list = filled("c b*");
  list.arrive(notification("d"));
  list.arrive(notification("d"));
  list.arrive(notification("c"));
  list.begin();
  list.fill(page("b a", "z"), true);
  assert.equal(shown(list), "d c b* a");
  assert.equal(list.next, "z");
});

test("a first page takes the place of all but of what arrived while it was on its way", () => {
  const list = filled("b a");
  list.arrive(notification("c"));
  list.begin();
  list.arrive(notification("e"));
  list.fill(page("d c* b*", "b"));
  assert.equal(shown(list), "e d c* b*");
  list.begin();
  list.arrive(notification("f"));
  list.fill(page("f e d"));
  assert.equal(shown(list), "f e d");
});

// A page may hold what has not been told of yet, and what was told of after begin.
test("what a page holds stands where the page has it", () => {
  const list = filled("d");
  list.begin();
  list.arrive(notification("e"));
  list.fill(page("f e d"));
  assert.equal(shown(list), "f e d");
  list.arrive(notification("f"));
  assert.equal(shown(list), "f e d");
});

test("what state events tell while a page is on its way is true after it", () => {
  const list = filled("b a");
  list.begin();
  list.tell([{ id: "b", read: true }]);
  list.tell([{ id: "a", read: true }, { id: "a", read: false }]);
  list.fill(page("b a*"));
  assert.equal(shown(list), "b* a");
  list.begin();
  list.fill(page("b a*"));
  assert.equal(shown(list), "b a*", "what was told before it is in the page");
});

// A row that stays keeps the notification it was made with: if that were another
// object, a click would go by what was read at first.
test("what was there stays the same object", () => {
  const list = filled("b a");
  const b = item(list, "b");
  list.begin();
  list.fill(page("c b* a"));
  assert.equal(item(list, "b"), b);
  assert.ok(list.isRead(b));
});

test("a mark shows at once, counts once, and is taken back if it is refused", () => {
  const list = filled("b a");
  const mark = list.mark(item(list, "b"), true);
  assert.equal(shown(list), "b* a");
  assert.equal(list.unread(2), 1);
  list.settle(mark, undefined);
  assert.equal(shown(list), "b a");
  assert.equal(list.unread(2), 2);
});

for (const [order, run] of Object.entries({
  "before the answer": (list: Entries, mark: ReturnType<Entries["mark"]>) => {
    list.tell([{ id: "b", read: true }]);
    assert.equal(list.unread(1), 1);
    list.settle(mark, 1);
  },
  "after the answer": (list: Entries, mark: ReturnType<Entries["mark"]>) => {
    list.settle(mark, 1);
    assert.equal(list.unread(2), 1, "the client's number does not hold it yet");
    list.tell([{ id: "b", read: true }]);
  },
  "in an order to refetch": (list: Entries, mark: ReturnType<Entries["mark"]>) => {
    list.settle(mark, 1);
    list.tell(undefined);
  },
  "in the number of a new connection": (list: Entries, mark: ReturnType<Entries["mark"]>) => {
    list.settle(mark, 1);
    list.recount();
  },
})) {
  test(`the state event of a mark comes ${order}`, () => {
    const list = filled("b a");
    run(list, list.mark(item(list, "b"), true));
    assert.equal(shown(list), "b* a");
    assert.equal(list.unread(1), 1, "the client's number holds it now");
  });
}

test("a mark that changed nothing is told of by nobody", () => {
  const list = filled("b a");
  list.settle(list.mark(item(list, "b"), true), 0);
  assert.equal(list.unread(1), 1);
  assert.equal(shown(list), "b* a");
});

test("another device has the last word if its change came later", () => {
  const list = filled("b a");
  const mark = list.mark(item(list, "b"), true);
  list.tell([{ id: "b", read: true }]);
  list.tell([{ id: "b", read: false }]);
  list.settle(mark, 1);
  assert.equal(shown(list), "b a");
  assert.equal(list.unread(2), 2);
});

test("two marks of one notification: the later is shown, and each is told once", () => {
  const list = filled("b a");
  const first = list.mark(item(list, "b"), true);
  const second = list.mark(item(list, "b"), false);
  assert.equal(shown(list), "b a");
  assert.equal(list.unread(2), 2);
  list.settle(first, 1);
  list.tell([{ id: "b", read: true }]);
  list.settle(second, 1);
  list.tell([{ id: "b", read: false }]);
  assert.equal(shown(list), "b a");
  assert.equal(list.unread(2), 2);
});

test("all as read: nothing is left but what comes after", () => {
  const list = filled("b a*");
  const mark = list.markAll(7);
  assert.equal(shown(list), "b* a*");
  assert.equal(list.unread(7), 0);
  list.arrive(notification("c"));
  assert.equal(list.unread(8), 1);
  assert.equal(shown(list), "c b* a*");
  list.settle(mark, undefined);
  assert.equal(list.unread(8), 8);
  assert.equal(shown(list), "c b a*");
});

// The number was 0, then 6, then 0 again, since any mark was taken for that of all.
test("all as read while another device marks one: the number stays 0", () => {
  const list = filled("c b a");
  const mark = list.markAll(7);
  list.tell([{ id: "b", read: true }]);
  assert.equal(list.unread(6), 0, "the six others are on their way");
  list.arrive(notification("d"));
  assert.equal(list.unread(7), 1, "and what comes meanwhile counts");
  list.settle(mark, 6);
  list.tell([..."cazyxw"].map((id) => ({ id, read: true })));
  assert.equal(list.unread(1), 1);
  assert.equal(shown(list), "d c* b* a*");
});

for (const [what, before] of [
  ["all", (list) => list.markAll(2)],
  ["one of them", (list) => list.mark(item(list, "a"), true)],
] as [string, (list: Entries) => unknown][]) {
  test(`all as read after ${what}: what arrives then is unread`, () => {
    const list = filled("b a");
    before(list);
    list.markAll(list.unread(2));
    list.arrive(notification("c"));
    assert.equal(list.unread(3), 1);
    assert.equal(shown(list), "c b* a*");
  });
}

test("the number is never negative, and unknown stays unknown", () => {
  const list = filled("b a");
  list.mark(item(list, "a"), true);
  list.mark(item(list, "b"), true);
  assert.equal(list.unread(1), 0);
  assert.equal(list.unread(-1), -1);
});
