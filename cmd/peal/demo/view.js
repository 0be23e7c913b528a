// The page: everything that touches the document. Text from the server becomes
// text nodes only.

import { samples } from "./samples.js";

const mostLogged = 200; // events in the log

export const $ = (id) => document.getElementById(id);

// make builds an element. A property with a hyphen is set as an attribute.
function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "data") Object.assign(node.dataset, value);
    else if (name.includes("-")) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setText(id, text) {
  say($(id), text);
}

// A DevicePanel is the section of a device: its screen and what is around it.
export class DevicePanel {
  #section;
  #screen;

  // onToggle hears that the line is to be cut or plugged in.
  constructor(name, onToggle) {
    this.#section = $(name);
    this.#screen = this.#section.querySelector("iframe");
    this.#section.querySelector("button").addEventListener("click", onToggle);
  }

  get window() {
    return this.#screen.contentWindow;
  }

  post(message) {
    this.window.postMessage(message, location.origin);
  }

  // show tells the state of the client, and its story in one sentence.
  show({ name }, story) {
    const words = { connecting: "Connecting", live: "Live", waiting: "Reconnecting", offline: "Offline", refused: "Refused" };
    this.#section.dataset.connection = name;
    say(this.#section.querySelector(".state"), words[name]);
    say(this.#section.querySelector(".story"), story);
    say(this.#section.querySelector("button"), name === "offline" || name === "refused" ? "Plug it in" : "Cut the line");
  }
}

export function showSession(session) {
  setText("version", session.version ?? "");
  const part = (name, value) => make("span", {}, `${name} `, make("b", {}, value));
  $("whom").replaceChildren(part("user", session.user), part("realm", session.realm), part("tenant", session.tenant));
}

export function showSamples(onSend) {
  for (const [type, { label, priority }] of Object.entries(samples)) {
    const button = make(
      "button", { type: "button", className: "sample", data: { type, priority }, "aria-label": `Send ${label}, ${priority} priority` },
      make("span", { className: "dot" }), label,
    );
    button.addEventListener("click", () => onSend(type));
    $("burst").before(button);
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

let logged = 0;

// log shows an event of a device.
export function log({ device, event, data, cursor }) {
  setText("log-count", String(++logged));
  $("log").prepend(make(
    "tr", {},
    make("td", { className: "mono dim" }, new Date().toLocaleTimeString([], { hour12: false })),
    make("td", {}, device),
    make("td", {}, make("span", { className: "event", data: { event } }, event)),
    make("td", { className: "mono data" }, cursor ? `${cursor} ` : "", JSON.stringify(data)),
  ));
  if ($("log").childElementCount > mostLogged) $("log").lastElementChild.remove();
}
