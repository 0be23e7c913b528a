import assert from "node:assert/strict";
import { test } from "node:test";
import { seen } from "../src/client/seen.ts";

test("the last 1,024 ids are remembered, and no more", () => {
  const known = seen();
  for (let i = 0; i < 1024; i++) assert.equal(known(`n${i}`), false);
  for (let i = 0; i < 1024; i++) assert.equal(known(`n${i}`), true, `n${i}`);
  assert.equal(known("another"), false);
  for (let i = 1; i < 1024; i++) assert.equal(known(`n${i}`), true, `n${i} came after the oldest`);
  assert.equal(known("n0"), false, "the oldest");
});
