// The page: everything that touches the document but for the toasts. Text from
// the server becomes text nodes only.

import { samples } from "./samples.js";

const mostLogged = 200; // blocks in the event log

// settled is when a new entry has finished coming in, in milliseconds.
const settled = 2000;

const reasons = {
  assignee: "assigned to you",
  previousAssignee: "was yours",
  watcher: "you watch it",
  mention: "mentions you",
  approver: "your approval",
  requester: "you asked for it",
  queue: "your queue",
  recipient: "sent to you",
};

export const $ = (id) => document.getElementById(id);

// make builds an element. A property with a hyphen is set as an attribute.
export function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "data") Object.assign(node.dataset, value);
    else if (name.includes("-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

// typeIcon is the tile of a type in the colour of a priority. A type that this
// page does not know yet gets the bell.
export function typeIcon(type, priority) {
  const known = Object.hasOwn(samples, type);
  return make("span", { className: "tile", data: { priority } }, icon(known ? type : "bell"));
}

export function typeLabel(type) {
  return Object.hasOwn(samples, type) ? samples[type].label : type;
}

// Entries of the list. nodes maps an entry to its element.

const nodes = new Map();

// showEntries brings the list in line with entries, newest first. What is
// already shown stays where it is; fresh ones come in softly.
export function showEntries(entries, fresh = false) {
  const keep = new Set(entries);
  for (const [entry, node] of nodes) {
    if (keep.has(entry)) continue;
    node.remove();
    nodes.delete(entry);
  }
  let next = $("list").firstElementChild;
  for (const entry of entries) {
    let node = nodes.get(entry);
    if (!node) {
      node = entry.kind === "gap" ? gapNode(entry) : notificationNode(entry);
      nodes.set(entry, node);
      if (fresh) comeIn(node);
    }
    if (node === next) next = next.nextElementSibling;
    else $("list").insertBefore(node, next);
  }
  $("empty").hidden = entries.length > 0;
}

function comeIn(node) {
  node.classList.add("fresh");
  setTimeout(() => node.classList.remove("fresh"), settled);
}

function notificationNode({ value: n, recovered }) {
  const article = make(
    "article", { className: "entry" },
    typeIcon(n.type, n.priority),
    make(
      "div", { className: "entry-body" },
      make(
        "p", { className: "entry-meta" },
        make("span", { className: "mono" }, n.ticketNumber),
        make("span", {}, typeLabel(n.type)),
        make("span", { className: "priority", data: { priority: n.priority } }, n.priority),
        n.silent ? make("span", { className: "tag", title: "Made in your quiet hours: no toast" }, "silent") : null,
        recovered ? make("span", { className: "tag good", title: "Stored while this page was away" }, "recovered") : null,
      ),
      make("h3", {}, n.title),
      make("p", { className: "entry-message" }, n.message),
      make(
        "p", { className: "entry-foot" },
        n.actor ? make("span", { className: "avatar small", "aria-hidden": "true" }, initials(n.actor.name)) : null,
        make("span", {}, n.actor?.name ?? ""),
        ...(n.reasons ?? []).map((reason) => make("span", { className: "reason" }, reasons[reason] ?? reason)),
      ),
    ),
    make("div", { className: "entry-side" }, timeNode(n.createdAt)),
  );
  return make("li", {}, article);
}

function gapNode({ code }) {
  const text = code === "UNKNOWN_CURSOR"
    ? "The place this page had reached is not known any more: history before this point may be incomplete"
    : "History before this point is no longer stored";
  return make("li", { className: "gap" }, make("p", {}, icon("gap"), text, icon("gap")));
}

export function initials(name = "") {
  const words = name.split(/\s+/).filter(Boolean);
  return [words[0], words.length > 1 ? words.at(-1) : ""].map((word) => [...(word ?? "")][0] ?? "").join("").toUpperCase();
}

// Times.

function timeNode(iso) {
  const at = new Date(iso);
  const node = make("time", { dateTime: iso, title: at.toLocaleString() });
  node.textContent = ago(at);
  return node;
}

export function ago(at) {
  const s = Math.max(0, Math.round((Date.now() - at) / 1000));
  if (s < 5) return "now";
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ago`;
  return new Date(at).toLocaleDateString(undefined, { day: "numeric", month: "short" });
}

export function clock(at) {
  return at.toLocaleTimeString([], { hour12: false });
}

// tick brings relative times up to date.
export function tick() {
  for (const node of document.querySelectorAll("time")) {
    const text = ago(new Date(node.dateTime));
    if (node.textContent !== text) node.textContent = text;
  }
}

// The header, the connection and the facts.

export function showSession(session) {
  $("user").textContent = session.user;
  $("realm").textContent = session.realm;
  $("version").textContent = session.version ?? "";
  $("avatar").textContent = initials(session.user);
  const part = (name, value) => make("span", {}, `${name} `, make("b", {}, value));
  $("whom").replaceChildren(part("Signed in as", session.user), part("realm", session.realm), part("tenant", session.tenant));
}

// showUnread sets the badge; ring swings the bell.
export function showUnread(unread, ring = false) {
  const text = unread > 99 ? "99+" : String(unread);
  $("badge").textContent = text;
  $("badge").hidden = unread === 0;
  $("count").textContent = unread > 0 ? `${unread} unread` : "";
  setText("empty-title", unread > 0 ? `${unread} earlier in the inbox` : "All quiet");
  $("bell").setAttribute("aria-label", unread > 0 ? `Notifications, ${unread} unread` : "Notifications, none unread");
  document.title = unread > 0 ? `(${text}) peal: live demo` : "peal: live demo";
  if (!ring) return;
  $("bell").classList.remove("ring");
  void $("bell").offsetWidth; // restarts the animation
  $("bell").classList.add("ring");
}

// showConnection shows a state: its name colours the page, {pill, title, text,
// action} are its words.
export function showConnection(name, { pill, title, text, action }) {
  document.body.dataset.connection = name;
  setText("pill", pill);
  setText("state-title", title);
  setText("state-text", text);
  setText("toggle", action);
  $("toggle").classList.toggle("primary", name !== "live" && name !== "connecting");
}

// showFact sets one of the facts beside the connection.
export function showFact(name, text) {
  setText(`fact-${name}`, text);
  $(`fact-${name}`).title = text;
}

export function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

// announce tells screen readers.
export function announce(text) {
  setText("announce", text);
}

// The samples.

export function showSamples(onSend) {
  for (const [type, { label, priority }] of Object.entries(samples)) {
    const button = make(
      "button", { type: "button", className: "sample", data: { type, priority }, "aria-label": `Send ${label}, ${priority} priority` },
      icon(type), make("span", {}, label), make("span", { className: "dot" }),
    );
    button.addEventListener("click", () => onSend(type));
    $("samples").append(button);
  }
}

// showCurl shows a command with its names and strings in colours.
export function showCurl(text) {
  const parts = text.split(/(^curl|-[Hd] |"(?:[^"\\]|\\.)*"(?=:)|"(?:[^"\\]|\\.)*"| \\$)/m);
  $("curl").replaceChildren(...parts.map((part, i) => {
    if (i % 2 === 0) return part;
    const className = !part.startsWith('"') ? "c-word" : parts[i + 1]?.startsWith(":") ? "c-key" : "c-string";
    return make("span", { className }, part);
  }));
}

// The event log.

export function log(block, total) {
  setText("log-count", String(total));
  const name = make("span", { className: "event", data: { event: block.event } }, block.event);
  const data = [block.retry === undefined ? null : make("span", { className: "retry" }, `retry: ${block.retry}`), block.data ?? ""];
  const row = make(
    "tr", {},
    make("td", { className: "mono dim" }, clock(new Date())),
    make("td", {}, name),
    make("td", { className: "mono dim" }, block.id ?? "–"),
    make("td", { className: "mono data" }, ...data.filter((part) => part !== null)),
  );
  $("log").prepend(row);
  if ($("log").childElementCount > mostLogged) $("log").lastElementChild.remove();
}
