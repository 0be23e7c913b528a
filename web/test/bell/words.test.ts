import assert from "node:assert/strict";
import { test } from "node:test";
import { link } from "../../src/bell/dom.ts";
import { Words } from "../../src/bell/messages.ts";

test("numbers choose the form of a text, and are written as the language writes them", () => {
  const unread = { one: "{n} непрочитанное", few: "{n} непрочитанных", many: "{n} непрочитанных!", other: "{n} непрочитанного" };
  const ru = new Words({ unread }, "ru");
  assert.deepEqual([1, 3, 5, 21].map((n) => ru.say(ru.messages.unread, n)), ["1 непрочитанное", "3 непрочитанных", "5 непрочитанных!", "21 непрочитанное"]);
  const en = new Words({}, "en-US");
  assert.equal(en.say(en.messages.moreThan, 1234), "more than 1,234 unread");
  assert.equal(new Words({}, "de").say(en.messages.unread, 1234), "1.234 unread");
});

test("what the messages leave out is English", () => {
  const words = new Words({ title: "Mitteilungen", names: { comment: "Kommentar" } }, "de");
  assert.equal(words.messages.title, "Mitteilungen");
  assert.equal(words.messages.save, "Save");
  assert.deepEqual(["comment", "slaBreach", "statusChange", "urgent", "constructor"].map((name) => words.name(name)), ["Kommentar", "SLA breach", "Status change", "Urgent", "Constructor"]);
});

test("a name that is none does no harm", () => {
  const words = new Words({}, "en");
  for (const [name, want] of [[undefined, ""], [null, ""], ["", ""], [7, "7"]]) assert.equal(words.name(name as string), want);
});

test("a text is put in as it is", () => {
  const words = new Words({}, "en");
  assert.equal(words.say(words.messages.mute, 0, "$& {n} <b>"), "Mute $& {n} <b>");
});

test("a language tag that is none is the browser's own", () => {
  assert.equal(new Words({}, "not a tag!").locale, undefined);
  assert.equal(new Words({}, "en-us").locale, "en-US");
});

test("how long ago, and never in the future", () => {
  const words = new Words({}, "en");
  const min = 60_000;
  for (const [before, want] of [
    [-5 * min, "now"], [0, "now"], [29_000, "now"], [min, "1 min. ago"], [59 * min, "59 min. ago"], [60 * min, "1 hr. ago"],
    [23 * 60 * min, "23 hr. ago"], [24 * 60 * min, "yesterday"], [29 * 24 * 60 * min, "29 days ago"],
  ] as const)
    assert.equal(words.ago(1e12 - before, 1e12), want, String(before));
});

test("only http and https are ever followed", () => {
  const base = "https://desk.example/inbox";
  for (const [url, want] of [
    ["/tickets/1", "https://desk.example/tickets/1"],
    ["https://other.example/x", "https://other.example/x"],
    ["http://other.example/", "http://other.example/"],
    ["javascript:alert(1)", ""],
    [" java\nscript:alert(1)", ""],
    ["data:text/html,x", ""],
    ["blob:https://desk.example/1", ""],
    ["https://", ""],
    ["", ""],
    [undefined, ""],
    [null, ""],
  ] as const)
    assert.equal(link(url, base), want, String(url));
});
