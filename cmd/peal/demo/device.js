// One device: a small helpdesk with the bell in it. The page around it, which
// plays the cable, is told of everything that happens.

import { connect } from "./peal-bell.js";
import { tickets } from "./samples.js";
import { current } from "./session.js";

const device = location.hash.slice(1);
const bell = document.querySelector("peal-bell");
const $ = (id) => document.getElementById(id);

// The events of the server, as its client hands them out.
const events = ["connected", "notification", "state", "gap", "heartbeat", "error"];

function tell(message) {
  parent.postMessage({ device, ...message }, location.origin);
}

// plug opens the connection, which goes on where the last one ended.
function plug({ realm, tenant, user }) {
  const { open } = bell;
  const token = async (why) => (await current(why !== "start")).token;
  bell.client = connect({ realm, tenant, user, token, share: false, device });
  bell.open = open;
  const { client } = bell;
  for (const type of events) client.on(type, ({ data, cursor }) => tell({ event: type, data, cursor }));
  client.on("status", ({ status }) => tell({ status }));
  tell({ status: client.status });
}

// A single-page app routes by itself: the bell's links lead to tickets here.
bell.addEventListener("peal-open", (e) => {
  e.preventDefault();
  const { ticketNumber, title, message, category } = e.detail.notification;
  $("one-meta").textContent = [ticketNumber, category].filter(Boolean).join(" · ");
  $("one-title").textContent = title;
  $("one-text").textContent = message;
  show(true);
});

function show(one) {
  $("one").hidden = !one;
  $("all").hidden = one;
  if (one) $("one-title").focus();
}

function text(className, content) {
  const span = document.createElement("span");
  span.className = className;
  span.textContent = content;
  return span;
}

async function start() {
  for (const landmark of ["header", "main"]) document.querySelector(landmark).ariaLabel = `Helpdesk on the ${device}`;
  const session = await current();
  $("avatar").textContent = session.user.charAt(0).toUpperCase();
  addEventListener("message", ({ origin, source, data }) => {
    if (origin !== location.origin || source !== parent) return;
    if (data === "cut") bell.client.close();
    if (data === "plug") plug(session);
  });
  plug(session);
}

for (const { number, title, category } of tickets) {
  const row = document.createElement("li");
  row.append(text("number", number), text("name", title), text("category", category));
  $("tickets").append(row);
}
$("back").addEventListener("click", () => show(false));
start().catch((err) => tell({ status: { name: "refused", reason: err.reason ?? "peal does not answer" } }));
