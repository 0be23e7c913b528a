// Elements without innerHTML and without style attributes: so the bell needs
// nothing of a page's content security policy. Text becomes text nodes only.

type Writable = "part" | "role" | "popover";
type Properties<E> = { [P in Exclude<keyof E, Writable>]?: E[P] } & { [P in Writable]?: string };

/** h makes an element with these properties. Children that are empty, false or
 * undefined are left out. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K, properties: Properties<HTMLElementTagNameMap[K]> = {}, ...children: (Node | string | false | undefined)[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child) as (Node | string)[]);
  return element;
}

/** button makes a button with some content. */
export function button(className: string, onclick: () => void, ...content: (Node | string)[]): HTMLButtonElement {
  return h("button", { className, onclick }, ...content);
}

/** tool makes a button that shows a picture only. */
export function tool(picture: string, label: string, onclick: () => void): HTMLButtonElement {
  return h("button", { className: "tool", title: label, onclick }, icon(picture));
}

/** say sets a text, if it is another: a live region tells only what changes. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** link answers where a link may lead: http and https only, absolute. Anything
 * else, such as javascript:, is "". */
export function link(url: unknown, base = document.baseURI): string {
  try {
    const to = new URL(url as string, base);
    return url && /^https?:$/.test(to.protocol) ? to.href : "";
  } catch {
    return "";
  }
}

const svg = "http://www.w3.org/2000/svg";

/** icon draws the picture of a name, or the bell for one that is not known. It
 * says nothing to a screen reader. */
export function icon(name: string): SVGElement {
  const picture = document.createElementNS(svg, "svg");
  const path = document.createElementNS(svg, "path");
  picture.setAttribute("viewBox", "0 0 12 12");
  picture.ariaHidden = "true";
  path.setAttribute("d", pictures.get(name) ?? bell);
  picture.append(path);
  return picture;
}

// The pictures: one path each, in a square of 12, drawn as a line.

const bell = "M2 8h8L9 7V5a3 3 0 0 0-6 0v2zM5 10h2";
const round = "M2 6a4 4 0 1 0 8 0 4 4 0 1 0-8 0";

/** The types that are known, in the contract's order, and their pictures. */
export const types: Record<string, string> = {
  assignment: "M4 4a2 2 0 1 0 4 0 2 2 0 1 0-4 0M2 10c0-4 8-4 8 0",
  reassignment: "M2 4h8L8 2m2 6H2l2 2",
  statusChange: round + "M6 2v8m2-7v6",
  comment: "M2 2h8v6H6l-3 2V8H2z",
  mention: "M4 6a2 2 0 1 0 4 0 2 2 0 1 0-4 0m4-2v2c0 2 2 2 2 0a4 4 0 1 0-2 3",
  slaWarning: round + "M6 4v2l2 1",
  slaBreach: "M6 2l4 8H2zM6 5v2m0 1v0",
  approval: "M3 2h4l2 2v6H3zM5 7l1 1 2-2",
  approvalDecision: "M3 2h4l2 2v6H3zM5 5h2M5 7l1 1 2-2",
  escalation: "M3 6l3-3 3 3M3 9l3-3 3 3",
  merge: "M3 2v8M3 3c0 3 2 3 7 3M8 4l2 2-2 2",
  resolution: round + "M4 6l1 1 3-3",
  reopened: "M2 2v3h3M2 5a4 4 0 1 1 0 2",
  watchAdded: "M1 6c2-4 8-4 10 0-2 4-8 4-10 0M5 6a1 1 0 1 0 2 0 1 1 0 1 0-2 0",
};

const pictures = new Map(Object.entries({
  ...types,
  mute: bell + "M2 2l8 8",
  close: "M3 3l6 6m0-6L3 9",
  preferences: "M2 4h5m2 0h1M2 8h1m2 0h5M7 3v2h2V3zM3 7v2h2V7z",
}));
