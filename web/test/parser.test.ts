import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { maxBlock, parser, type Block } from "../src/client/parser.ts";

type Row = [rule: string, stream: string, want: Partial<Block>[]];

// The rules of the standard, and the examples it gives. A block without data is
// no event, but its retry counts.
const rows: Row[] = [
  ["nothing", "", []],
  ["lines of data are joined", "data: YHOO\ndata: +2\ndata: 10\n\n", [{ data: "YHOO\n+2\n10" }]],
  ["the standard's second example", ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
    [{ data: "first event", id: "1" }, { data: "second event" }, { data: " third event" }]],
  ["the standard's third example", "data\n\ndata\ndata\n\ndata:", [{ data: "\n" }]],
  ["the standard's fourth example", "data:test\n\ndata: test\n\n", [{ data: "test" }, { data: "test" }]],
  ["CR ends a line", "event: gap\rdata: a\rdata: b\r\r", [{ event: "gap", data: "a\nb" }]],
  ["CRLF ends a line once", "event: gap\r\ndata: a\r\n\r\ndata: b\r\n\r\n", [{ event: "gap", data: "a" }, { data: "b" }]],
  ["ends are mixed", "data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\r", [{ data: "a\nb\nc" }, { data: "d" }]],
  ["LF CR is two ends", "data: a\n\rdata: b\n\n", [{ data: "a" }, { data: "b" }]],
  ["comments are skipped", ":\n: x\n:data: y\ndata: a\n:\n\n", [{ data: "a" }]],
  ["unknown fields are skipped", "foo: x\nDATA: y\n data: z\ndata : z\ndata: a\n\n", [{ data: "a" }]],
  ["one space after the colon goes", "data:a\ndata: b\ndata:  c\ndata:\td\n\n", [{ data: "a\nb\n c\n\td" }]],
  ["only the first colon counts", "data: a: b:c\n\n", [{ data: "a: b:c" }]],
  ["the last event field counts", "event: gap\nevent: state\ndata: a\n\n", [{ event: "state", data: "a" }]],
  ["an empty event field takes the name back", "event: gap\nevent\ndata: a\n\n", [{ data: "a" }]],
  ["a block cut off is discarded", "id: 1\ndata: a\n\nid: 2\ndata: b\n", [{ id: "1", data: "a" }]],
  ["an id is its own block's", "id: 1\ndata: a\n\ndata: b\n\n", [{ id: "1", data: "a" }, { data: "b" }]],
  ["an id with NUL is ignored", "id: 2\x00\ndata: a\n\n", [{ data: "a" }]],
  ["retry is digits", "retry: 1000\n\nretry: 1000x\ndata: b\n\nretry: -1\ndata: c\n\nretry:\ndata: d\n\nretry:  1\ndata: e\n\nretry: ١\ndata: f\n\nretry: 0\n\n",
    [{ retry: 1000 }, { data: "b" }, { data: "c" }, { data: "d" }, { data: "e" }, { data: "f" }, { retry: 0 }]],
  ["NUL in data is data", "data: a\0b\n\n", [{ data: "a\0b" }]],
];

/** read parses a stream that comes in pieces, and leaves out blocks that say nothing. */
function read(pieces: Iterable<string>): Block[] {
  const blocks: Block[] = [];
  const take = parser((b) => {
    if (b.data || b.retry >= 0) blocks.push(b);
  });
  for (const piece of pieces) take(piece);
  return blocks;
}

const whole = (b: Partial<Block>): Block => ({ event: "", data: "", id: "", retry: -1, ...b });

/** cut cuts text into pieces of n, with an empty one after each: a decoder may give one. */
function* cut(text: string, n: number): Generator<string> {
  for (let i = 0; i < text.length; i += n) {
    yield text.slice(i, i + n);
    yield "";
  }
}

for (const [rule, stream, want] of rows)
  test("parser: " + rule, () => {
    assert.deepEqual(read([stream]), want.map(whole));
    for (let n = 1; n < stream.length; n++) assert.deepEqual(read(cut(stream, n)), want.map(whole), `in pieces of ${n}`);
  });

test("an event is there with the byte that completes it", () => {
  for (const stream of ["data: a\r\r", "data: a\n\n", "data: a\r\n\r"]) {
    const got: string[] = [];
    const take = parser((b) => got.push(b.data));
    take(stream.slice(0, -1));
    assert.deepEqual(got, []);
    take(stream.slice(-1));
    assert.deepEqual(got, ["a"]);
  }
});

test("the frames of our own server are read, however they are cut", () => {
  const frames = readFileSync("../sse/testdata/frames.sse", "utf8");
  const want = read([frames]);
  assert.deepEqual(want.map((b) => b.event), ["connected", "notification", "state", "ticketUpdate", "gap", "heartbeat", "error"]);
  assert.deepEqual(want.map((b) => b.id), ["abcdefgh-41", "abcdefgh-42", "", "abcdefgh-43", "abcdefgh-44", "", ""]);
  assert.deepEqual(want.map((b) => b.retry), [1742, -1, -1, -1, -1, -1, 2000]);
  for (const b of want) JSON.parse(b.data);
  for (let n = 1; n < 200; n++) assert.deepEqual(read(cut(frames, n)), want);
});

test("what is kept of a block is bounded", () => {
  const long = "x".repeat(maxBlock / 2 - 10);
  const fits = `data:${long}\ndata:${long}\n\n`;
  assert.equal(read([fits, fits, fits])[2]?.data.length, 2 * long.length + 1);
  for (const piece of ["x".repeat(1000), "data: x\n", ":\n", "data: xxxxxxxxxxxxxxxxxxxxxxxxx\r"])
    assert.throws(() => {
      const take = parser(() => assert.fail("there is no event"));
      for (let n = 0; n <= 3 * maxBlock; n += piece.length) take(piece);
    }, RangeError, JSON.stringify(piece));
});
