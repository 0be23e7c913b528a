import assert from "node:assert/strict";
import { test } from "node:test";
import { types } from "../../src/bell/dom.ts";
import { chosen } from "../../src/bell/preferences.ts";
import type { Preferences } from "../../src/client/index.ts";

// filled is the form as it is shown of value, with changes: undefined unchecks.
function filled(value: Preferences, changes: Record<string, string | string[] | undefined>): FormData {
  const form = new FormData();
  for (const type in types) if (value.types?.[type] ?? true) form.set(type, "on");
  form.set("minPriority", value.minPriority ?? "");
  for (const id of value.mutedTickets ?? []) form.append("muted", id);
  for (const [name, set] of Object.entries(changes)) {
    form.delete(name);
    for (const text of [set ?? []].flat()) form.append(name, text);
  }
  return form;
}

const quiet = { quiet: "on", from: "22:00", to: "07:00", timeZone: "Asia/Kolkata", exceptUrgent: "on" };

for (const [what, value, changes, want] of [
  ["nothing: the tenant's stay the tenant's", {}, {}, { types: {} }],
  ["a type off", {}, { comment: undefined }, { types: { comment: false } }],
  ["a type on again", { types: { comment: false, merge: false } }, { comment: "on" }, { types: { comment: true, merge: false } }],
  ["what was written stays written", { types: { comment: true }, minPriority: "high" }, {}, { types: { comment: true }, minPriority: "high" }],
  ["the least priority", {}, { minPriority: "medium" }, { types: {}, minPriority: "medium" }],
  ["a ticket unmuted", { mutedTickets: ["1", "2"] }, { muted: ["2"] }, { types: {}, mutedTickets: ["2"] }],
  ["quiet hours", {}, quiet, { types: {}, quietHours: { from: "22:00", to: "07:00", timeZone: "Asia/Kolkata", exceptUrgent: true } }],
  ["quiet hours for urgent ones too", {}, { ...quiet, exceptUrgent: undefined }, { types: {}, quietHours: { from: "22:00", to: "07:00", timeZone: "Asia/Kolkata", exceptUrgent: false } }],
  ["no quiet hours any more, nor the tenant's", { quietHours: { from: "22:00", to: "07:00", timeZone: "UTC" } }, {}, { types: {}, quietHours: { from: "22:00", to: "22:00", timeZone: "UTC" } }],
  ["no quiet hours, as before", { quietHours: { from: "22:00", to: "22:00", timeZone: "UTC" } }, {}, { types: {}, quietHours: { from: "22:00", to: "22:00", timeZone: "UTC" } }],
  ["all priorities, where the tenant wants fewer", {}, { minPriority: "low" }, { types: {}, minPriority: "low" }],
  ["the tenant's priority", { minPriority: "high" }, { minPriority: "" }, { types: {} }],
  ["a type that this bell does not know", { types: { archived: false } }, {}, { types: { archived: false } }],
] as [string, Preferences, Record<string, string | string[] | undefined>, Preferences][]) {
  test(`a form changes what was touched: ${what}`, () => {
    const before = structuredClone(value);
    assert.deepEqual(chosen(value, filled(value, changes)), want);
    assert.deepEqual(value, before, "and not what it was given");
  });
}
