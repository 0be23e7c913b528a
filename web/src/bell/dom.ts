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
  return name(button("tool", onclick, icon(picture)), label);
}

/** name names a control that shows no text. */
export function name<E extends HTMLElement>(control: E, text: string): E {
  control.ariaLabel = control.title = text;
  return control;
}

/** say sets a text, if it is another: a live region tells only what changes. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** link answers where a link may lead: http and https only, absolute. Anything
 * else, such as javascript:, is "". */
export function link(url: unknown, base: string): string {
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
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.ariaHidden = "true";
  path.setAttribute("d", pictures.get(name) ?? bell);
  picture.append(path);
  return picture;
}

// The pictures: one path each, in a square of 24, drawn as a line.

const bell = "M4 17h16l-2-3v-4a6 6 0 0 0-12 0v4zM10 20h4";
const round = "M4 12a8 8 0 1 0 16 0 8 8 0 1 0-16 0";

/** The types that are known, in the contract's order, and their pictures. */
export const types: Record<string, string> = {
  assignment: "M8 8a4 4 0 1 0 8 0 4 4 0 1 0-8 0M4 20c1-7 15-7 16 0",
  reassignment: "M4 8h15l-4-4m5 12H5l4 4",
  statusChange: round + "M12 4v16m4-15v14",
  comment: "M4 5h16v11h-8l-5 4v-4H4z",
  mention: "M8 12a4 4 0 1 0 8 0 4 4 0 1 0-8 0m8-4v5c0 4 4 4 4-1a8 8 0 1 0-4 7",
  slaWarning: round + "M12 8v4l3 2",
  slaBreach: "M12 4l9 16H3zM12 10v4m0 3v0",
  approval: "M6 3h8l5 5v13H6zM9 14l2 2 4-4",
  approvalDecision: "M6 3h8l5 5v13H6zM9 10h6M9 15l2 2 4-4",
  escalation: "M6 12l6-6 6 6M6 19l6-6 6 6",
  merge: "M6 4v16M6 6c0 6 4 6 13 6m-4-4 4 4-4 4",
  resolution: round + "M8 12l3 3 5-6",
  reopened: "M5 5v5h5M5 10a8 8 0 1 1-1 4",
  watchAdded: "M2 12c5-8 15-8 20 0-5 8-15 8-20 0M10 12a2 2 0 1 0 4 0 2 2 0 1 0-4 0",
};

const pictures = new Map(Object.entries({
  ...types,
  mute: bell + "M3 3l18 18",
  close: "M6 6l12 12m0-12L6 18",
  preferences: "M4 8h10m4 0h2M4 16h2m4 0h10M14 6v4h4V6zM6 14v4h4v-4z",
}));
