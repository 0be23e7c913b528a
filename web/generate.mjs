// Makes TypeScript of the schemas of ../node/openapi.yaml: of what an event of
// x-events carries, and of what the calls of the client take and answer. It knows
// as much of JSON Schema as stands there, and throws at anything else.
import { readFileSync } from "node:fs";
import { parse } from "yaml";

// What client.ts names, beside the events.
const wanted = ["Count", "List", "Read", "ReadAnswer", "Preferences", "Problem"];

const events = "/api/v2/ticketing/ticket/sse/notifications";

// Names that would hide what JavaScript has under them.
const renamed = { Error: "StreamError" };

const source = new URL("../node/openapi.yaml", import.meta.url);

/** generate returns the text of src/api.ts. */
export function generate() {
  const document = parse(readFileSync(source, "utf8"), { merge: true });
  const schemas = document.components.schemas;
  const sent = document.paths[events].get.responses["200"].content["text/event-stream"]["x-events"];
  const found = new Map(); // name → declaration
  const visit = (name) => {
    if (found.has(name)) return renamed[name] ?? name;
    if (!schemas[name]) throw new Error(`openapi.yaml has no schema ${name}`);
    const ours = renamed[name] ?? name;
    found.set(name, ""); // a schema may name itself
    found.set(name, declare(ours, schemas[name], visit));
    return ours;
  };
  const members = Object.entries(sent).map(
    ([type, event]) => `${comment(`${event.when}${event.id ? `. Its id: ${event.id}` : ""}`, "  ")}  | { type: ${JSON.stringify(type)}; data: ${type_(event.data, "", visit)} }`,
  );
  wanted.forEach(visit);
  const declarations = [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, text]) => text);
  return [
    "// Code generated from node/openapi.yaml by generate.mjs. DO NOT EDIT.\n",
    `/** The events that the server sends. */\nexport type ServerEvent =\n${members.join("\n")};\n`,
    ...declarations,
  ].join("\n");
}

function declare(name, schema, visit) {
  const head = comment(schema.description, "");
  if (schema.type === "object" && schema.properties && !schema.oneOf) return `${head}export interface ${name} ${body(schema, "", visit)}\n`;
  return `${head}export type ${name} = ${type_(schema, "", visit)};\n`;
}

/** type_ is the TypeScript of one schema. */
function type_(schema, indent, visit) {
  if (schema.never) return "never";
  if (schema.$ref) return visit(schema.$ref.replace(/^#\/components\/schemas\//, ""));
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((v) => JSON.stringify(v)).join(" | ");
  if (schema.type === "object" && schema.oneOf) return choices(schema).map((s) => body(s, indent, visit)).join(" | ");
  const some = schema.oneOf ?? schema.anyOf;
  if (some) return some.map((s) => type_(s, indent, visit)).join(" | ");
  if (schema.allOf) return schema.allOf.map((s) => type_(s, indent, visit)).join(" & ");
  if (Array.isArray(schema.type)) return schema.type.map((type) => type_({ ...schema, type }, indent, visit)).join(" | ");
  switch (schema.type) {
    case "string":
    case "boolean":
    case "null":
      return schema.type;
    case "integer":
    case "number":
      return "number";
    case "array": {
      const items = type_(schema.items, indent, visit);
      return /[|&]/.test(items) && !items.startsWith("{") ? `(${items})[]` : `${items}[]`;
    }
    case "object":
      return body(schema, indent, visit);
  }
  throw new Error(`a schema that is not understood: ${JSON.stringify(schema)}`);
}

/** choices makes one object of each way to have the properties of which exactly one is required. A way may narrow others. */
function choices({ oneOf, required = [], properties }) {
  for (const s of oneOf) if (!/^required(,properties)?$/.test(Object.keys(s).join())) throw new Error(`a choice that is not understood: ${JSON.stringify(s)}`);
  const chosen = new Set(oneOf.flatMap((s) => s.required));
  return oneOf.map((s) => ({
    required: [...required, ...s.required],
    properties: Object.fromEntries(
      Object.entries(properties).map(([name, p]) => [name, chosen.has(name) && !s.required.includes(name) ? { never: true } : { ...p, ...s.properties?.[name] }]),
    ),
  }));
}

function body(schema, indent, visit) {
  const inner = indent + "  ";
  const required = new Set(schema.required);
  const lines = Object.entries(schema.properties ?? {}).map(([name, property]) => {
    const key = /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name);
    return `${comment(property.description, inner)}${inner}${key}${required.has(name) ? "" : "?"}: ${type_(property, inner, visit)};\n`;
  });
  const more = schema.additionalProperties;
  if (more && typeof more === "object") {
    // A property that may be absent is one of the others to TypeScript.
    const absent = lines.length > 0 ? " | undefined" : "";
    lines.push(`${inner}[key: string]: ${type_(more, inner, visit)}${absent};\n`);
  }
  return lines.length === 0 ? "Record<string, unknown>" : `{\n${lines.join("")}${indent}}`;
}

function comment(text, indent) {
  if (!text) return "";
  const lines = text.trim().replaceAll("*/", "* /").split("\n");
  if (lines.length === 1) return `${indent}/** ${lines[0]} */\n`;
  return `${indent}/**\n${lines.map((l) => `${indent} * ${l}`.trimEnd()).join("\n")}\n${indent} */\n`;
}
