import assert from "node:assert/strict";
import { test } from "node:test";
import { rank, Stack } from "../../src/bell/toasts.ts";
import type { Notification } from "../../src/client/index.ts";

const notification = (id: string, priority: string, more: object = {}) => ({ id, priority, read: false, ...more }) as Notification;

for (const [what, n, fresh, want] of [
  ["low", notification("a", "low"), true, 0],
  ["medium", notification("a", "medium"), true, 1],
  ["high", notification("a", "high"), true, 1],
  ["urgent", notification("a", "urgent"), true, 2],
  ["a priority that is not known yet", notification("a", "extreme"), true, 1],
  ["made in quiet hours", notification("a", "urgent", { silent: true }), true, 0],
  ["replayed", notification("a", "urgent"), false, 0],
  ["read on another device", notification("a", "high", { read: true }), true, 0],
] as const) {
  test(`a toast, or an alert, or nothing: ${what}`, () => assert.equal(rank(n, fresh), want));
}

function stack(...words: string[]): Stack {
  const s = new Stack();
  for (const word of words) s.add(notification(word, word.startsWith("u") ? "urgent" : "high"));
  return s;
}

const shown = (s: Stack) => `${s.shown.map((n) => n.id).join(" ")} +${s.more}`;

test("three at a time, the others are summed up", () => {
  assert.equal(shown(stack("a", "b", "c")), "a b c +0");
  assert.equal(shown(stack("a", "b", "c", "d", "e")), "a b c +2");
});

test("what had no room does not pop up later", () => {
  const s = stack("a", "b", "c", "d", "e");
  s.remove("b");
  assert.equal(shown(s), "a c +0");
});

test("an urgent one takes the place of another, or waits", () => {
  const s = stack("a", "b", "c", "u1", "u2", "u3", "u4");
  assert.equal(shown(s), "u1 u2 u3 +4");
  s.remove("u2");
  assert.equal(shown(s), "u1 u3 u4 +0");
});

test("who opens the list has seen all but the urgent ones", () => {
  const s = stack("a", "u1", "b");
  s.seen();
  assert.equal(shown(s), "u1 +0");
  s.clear();
  assert.equal(shown(s), " +0");
});
