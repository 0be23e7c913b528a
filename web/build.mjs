// Makes src/api.ts of ../node/openapi.yaml and dist of src, and holds what is made
// to its size. With --check it makes nothing and fails if what is there differs.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build, transform } from "esbuild";
import { generate } from "./generate.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const check = process.argv.includes("--check");

// What is built, and how many bytes of it may go over the wire, by gzip -9.
const modules = [
  { name: "peal", entry: "client/index", most: 5_000 },
  { name: "peal-bell", entry: "bell/index", most: 14_000 },
];

const trouble = [];

/** put writes a file, or sees that it is as it would be written. */
function put(name, text) {
  const file = join(here, name);
  if (check) {
    if (!existsSync(file) || readFileSync(file, "utf8") !== text) trouble.push(`web/${name} is out of date: make web`);
    return;
  }
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

/** sheets puts a style sheet into a module as a text, minified. */
const sheets = {
  name: "sheets",
  setup({ onLoad }) {
    onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { code } = await transform(readFileSync(path, "utf8"), { loader: "css", minify: true, target: ["chrome123", "firefox128", "safari17.5"] });
      return { contents: code.trim(), loader: "text" };
    });
  },
};

async function script({ name, entry, most }) {
  const { outputFiles } = await build({
    entryPoints: [join(here, "src", entry + ".ts")],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    plugins: [sheets],
    banner: { js: "// peal, Apache-2.0, https://github.com/pealhq/peal" },
    write: false,
  });
  const { text } = outputFiles[0];
  const size = gzipSync(text, { level: 9 }).length;
  console.log(`${name}.js: ${size} bytes by gzip -9, ${most} allowed`);
  if (size > most) trouble.push(`${name}.js is too large: ${size} bytes by gzip -9, ${most} allowed`);
  put(`dist/${name}.js`, text);
}

const from = (file, path) => join(dirname(file), path.replace(/\.ts$/, ".d.ts"));

/** exported are the names that a declaration file exports, its own and those of others. */
function exported(file) {
  const names = new Set();
  for (const [, list, path, own] of readFileSync(file, "utf8").matchAll(/^export (?:(?:type )?(\*|\{[^}]*\}) from "(\.[^"]+)"|(?:declare )?(?:abstract )?(?:class|const|function|interface|type) (\w+))/gm)) {
    const more = own ? [own] : list === "*" ? exported(from(file, path)) : list.match(/\w+(?=\s*[,}])/g);
    for (const name of more) names.add(name);
  }
  return names;
}

/** declarations are the types of a module in one file: those of its entry and of all that these name. */
function declarations({ name, entry }, types) {
  const names = exported(join(types, entry + ".d.ts"));
  const parts = new Map(); // file → text, what is named before what names it
  const take = (file) => {
    if (parts.has(file)) return;
    parts.set(file, "");
    const text = readFileSync(file, "utf8").replace(/^(?:import|export) (?:[^;]*? from )?"(\.[^"]+)";\n/gm, (_, path) => {
      take(from(file, path));
      return "";
    });
    parts.delete(file);
    parts.set(file, text.replace(/^export \{\};\n/m, "").trim());
  };
  take(join(types, entry + ".d.ts"));
  const text = [...parts.values()].filter(Boolean).join("\n\n");
  // What the entry does not export is there for the others only. The last line
  // keeps TypeScript from exporting all that is declared.
  const own = text.replace(/^export (?=(?:declare )?(?:abstract )?(?:class|const|function|interface|type) (\w+))/gm, (keyword, name) => (names.has(name) ? keyword : ""));
  put(`dist/${name}.d.ts`, own + "\n\nexport {};\n");
}

put("src/api.ts", generate());
const types = join(here, "build", "types");
execFileSync(process.execPath, [join(here, "node_modules/typescript/bin/tsc"), "-p", here, "--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--outDir", types, "--rootDir", join(here, "src")], { stdio: "inherit" });
for (const module of modules) {
  await script(module);
  declarations(module, types);
}
if (trouble.length > 0) {
  console.error(trouble.join("\n"));
  process.exit(1);
}
