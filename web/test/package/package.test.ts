// What is published: the built modules, their types, and nothing beside them. tsc
// looks at it apart from the sources, which declare the same element.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import type * as bell from "../../dist/peal-bell.js";
import type * as peal from "../../dist/peal.js";

/** load is what a module of dist exports. */
const load = async (name: string): Promise<string[]> => Object.keys(await import(pathToFileURL(resolve("dist", name)).href)).sort();

// tsc holds these against the types: each value they export is here, and no other.
const ofPeal: Record<keyof typeof peal, true> = { PealError: true, connect: true };
const ofBell: Record<keyof typeof bell, true> = { ...ofPeal, PealBell: true, english: true };

test("the types export the values that the modules do", async () => {
  assert.deepEqual(await load("peal.js"), Object.keys(ofPeal).sort());
  // As much of a browser as it takes to load the element.
  Object.assign(globalThis, {
    HTMLElement: class {},
    CSSStyleSheet: class { replaceSync() {} },
    customElements: { get() {}, define() {} },
  });
  assert.deepEqual(await load("peal-bell.js"), Object.keys(ofBell).sort());
});

test("the package has what it promises, and no more", () => {
  const [packed] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts", "--offline"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  const files: string[] = packed.files.map((f: { path: string }) => f.path).sort();
  assert.deepEqual(files, ["LICENSE", "README.md", "dist/peal-bell.d.ts", "dist/peal-bell.js", "dist/peal.d.ts", "dist/peal.js", "package.json"]);
  const { exports } = JSON.parse(readFileSync("package.json", "utf8"));
  for (const entry of Object.values<Record<string, string>>(exports))
    for (const file of Object.values(entry)) assert.ok(files.includes(file.replace("./", "")), file);
});
