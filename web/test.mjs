// Runs the tests: builds each with esbuild, since Node.js 20 takes no TypeScript.
import { readdirSync, rmSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "build", "test");
const tests = ["test", "src"]
  .flatMap((folder) => readdirSync(join(here, folder), { recursive: true }).map((name) => join(here, folder, name)))
  .filter((file) => file.endsWith(".test.ts"));

rmSync(out, { recursive: true, force: true });
await build({ entryPoints: tests, outdir: out, outbase: here, bundle: true, format: "esm", platform: "node", target: "node20", sourcemap: "inline", outExtension: { ".js": ".mjs" } });
const built = readdirSync(out, { recursive: true }).filter((name) => name.endsWith(".mjs")).map((name) => join(out, name));
// A test that waits for what never comes ends so.
const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", "--test-reporter=dot", "--test-timeout=30000", ...process.argv.slice(2), ...built], { stdio: "inherit", cwd: here });
process.exit(status ?? 1);
