import assert from "node:assert/strict";
import { test } from "node:test";
import { backoff, retryAfter } from "../src/client/backoff.ts";

test("the range of the wait doubles up to 30 s, and nothing is less than what the server asks for", () => {
  const half = 0.5;
  const almost = 1 - 2 ** -53;
  for (const [failures, retry, after, random, floor, wait] of [
    // Nothing is known of the server: full jitter from 1 s on.
    [0, 0, 0, 0, 0, 0],
    [0, 0, 0, half, 0, 500],
    [1, 0, 0, half, 0, 1_000],
    [4, 0, 0, half, 0, 8_000],
    [5, 0, 0, half, 0, 15_000],
    [5, 0, 0, almost, 0, 30_000],
    [5000, 0, 0, half, 0, 15_000],
    // Its retry is the floor, and where the range begins to double.
    [0, 1_730, 0, 0, 1_730, 1_730],
    [0, 1_730, 0, almost, 1_730, 1_730],
    [1, 2_000, 0, half, 2_000, 2_000],
    [2, 2_000, 0, half, 2_000, 4_000],
    [9, 2_000, 0, 0, 2_000, 2_000],
    [9, 2_000, 0, half, 2_000, 15_000],
    [0, 200, 0, half, 200, 500],
    [0, 60_000, 0, 0, 60_000, 60_000],
    // Retry-After comes on top.
    [0, 0, 5_000, 0, 5_000, 5_000],
    [0, 0, 5_000, half, 5_000, 5_500],
    [3, 1_000, 5_000, half, 6_000, 9_000],
    // A mistaken one parks nobody.
    [0, 1e9, 0, 0, 300_000, 300_000],
    [0, 2_000, 300_000, 0, 300_000, 300_000],
  ] as const) {
    const got = backoff(failures, retry, after, random);
    assert.deepEqual({ floor: got.floor, wait: Math.round(got.wait) }, { floor, wait }, `${failures} failures, retry ${retry}, after ${after}, random ${random}`);
  }
});

test("Retry-After is seconds or a date", () => {
  const now = Date.parse("2025-07-10T12:35:00Z");
  for (const [value, want] of [
    [null, 0],
    ["", 0],
    ["0", 0],
    ["7", 7_000],
    ["300", 300_000],
    ["99999999999999999999", 300_000],
    ["-1", 0],
    ["x", 0],
    ["Thu, 10 Jul 2025 12:35:09 GMT", 9_000],
    ["Thu, 10 Jul 2025 12:34:00 GMT", 0],
    ["Thu, 10 Jul 2035 12:34:00 GMT", 300_000],
  ] as const)
    assert.equal(retryAfter(value, now), want, String(value));
});
