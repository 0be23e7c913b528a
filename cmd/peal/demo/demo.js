// The demo page of peal dev: a live inbox, a publisher, and a line to cut.

import { Feed } from "./stream.js";
import { Inbox } from "./inbox.js";
import { Publisher } from "./publisher.js";
import { current, caller } from "./session.js";
import { toast } from "./toasts.js";
import * as view from "./view.js";

// Inbox and feed.

let inbox;
let feed;
let publisher;
let connected = null; // the data of this connection's first event
let connections = 0;
let received = 0;
let blocks = 0;
let heartbeat = 0; // when the last one came

const events = {
  connected(value) {
    connections++;
    connected = value;
    if (away?.resumed || away?.cursor === "") away = null;
    if (away) away.resumed = true;
    inbox.unread = value.unread;
    view.showUnread(inbox.unread);
    view.showFact("recovered", value.recovered ? "yes" : "no");
    view.showFact("reconnects", String(connections - 1));
  },

  notification(value) {
    received++;
    const replayed = Date.parse(value.createdAt) < Date.parse(connected.timestamp);
    const entry = inbox.add(value, replayed);
    view.showFact("received", String(received));
    view.showUnread(inbox.unread, !value.silent);
    if (!entry) {
      if (away) away.repeated++;
      return;
    }
    show(true);
    if (replayed && away) away.recovered++;
    if (!replayed || connections > 1) toast(value);
    publisher.arrived(value.id);
    announceNew();
  },

  gap(value) {
    inbox.gap(value.code);
    view.showFact("recovered", "no: gap");
    if (away) away.gap = true;
    show(true);
  },

  heartbeat() {
    heartbeat = Date.now();
  },
};

function onEvent(block, value) {
  view.log(block, ++blocks);
  if (value !== undefined && Object.hasOwn(events, block.event)) events[block.event](value);
  inbox.cursor = feed.cursor;
  inbox.touch();
  view.showFact("cursor", feed.cursor || "none");
  if (state.name === "live") describe(); // the story of a resume goes on
}

function show(fresh = false) {
  view.showEntries(inbox.entries, fresh);
  view.showUnread(inbox.unread);
}

let fresh = 0;
let telling = 0;

// announceNew tells screen readers how many came, at most once a second.
function announceNew() {
  fresh++;
  telling ||= setTimeout(() => {
    view.announce(fresh === 1 ? "1 new notification" : `${fresh} new notifications`);
    fresh = telling = 0;
  }, 1000);
}

// The connection and its story.

let state = { name: "connecting" };

// away is the last absence, from the loss of a connection until the one after
// the next: {at, cursor} of its beginning, {sent, arrived} of this page's own
// samples, {recovered, repeated} of what came after it, {resumed, gap}.
let away = null;

function onState(next) {
  const gone = ["waiting", "offline", "refused"].includes(next.name);
  if (gone && (!away || away.resumed)) {
    away = { cursor: feed.cursor, sent: 0, arrived: 0, recovered: 0, repeated: 0, resumed: false, gap: false };
  }
  if (next.name === "offline") away.at = new Date();
  state = next;
  describe();
  view.announce({ live: "Connection live", waiting: "Connection lost, reconnecting", offline: "Offline", refused: "Connection refused" }[next.name] ?? "");
}

function describe() {
  view.showConnection(state.name, words[state.name]());
}

const words = {
  connecting: () => ({
    pill: "Connecting", title: "Connecting", action: "Drop the connection",
    text: feed.cursor ? `Asking for everything after ${feed.cursor}.` : "Asking for a token and opening the stream.",
  }),
  live: () => ({
    pill: "Live", title: "Live", action: "Drop the connection",
    text: away ? resumed() : "Notifications arrive as soon as they are stored. Drop the connection, send a few, and watch them come in afterwards.",
  }),
  waiting: () => {
    const s = Math.max(1, Math.ceil((state.until - Date.now()) / 1000));
    return {
      pill: `Reconnecting in ${s} s`, title: `Reconnecting in ${s} s`, action: "Try now",
      text: `${state.reason}. Nothing is lost: the feed will go on after the last id seen.`,
    };
  },
  offline: () => ({
    pill: "Offline", title: "Offline", action: "Reconnect",
    text: `You closed the connection at ${view.clock(away.at)}. ${away.sent === 0 ? "Send some samples now" : `${away.sent} sent meanwhile`}: peal stores them, and on reconnecting this page asks for what came after ${away.cursor || "its start"}.`,
  }),
  refused: () => ({ pill: "Refused", title: "Refused", action: "Try again", text: `${state.reason}.` }),
};

// resumed tells what the resume has brought so far.
function resumed() {
  const { cursor, sent, arrived, recovered, repeated, gap } = away;
  if (gap) return "Back, with a gap: some of the history is no longer stored, and the list says where.";
  if (sent > arrived) return `Catching up after ${cursor}: ${arrived} of ${sent} so far.`;
  if (sent + recovered === 0) return `Nothing is missed: nothing new was stored after ${cursor}, and the feed goes on from there.`;
  const what = sent > 0 ? `${arrived} of ${sent} sent while offline arrived` : `${recovered} stored while offline arrived`;
  const once = repeated > 0 ? `${repeated} came again and were dropped` : "each once";
  return `Nothing is missed: ${what}, ${once}. The feed went on right after ${cursor}.`;
}

function toggle() {
  if (state.name === "waiting") return feed.hurry();
  if (state.name === "offline" || state.name === "refused") return feed.start();
  feed.stop();
}

// Start.

async function open(renew) {
  const s = await current(renew);
  return { url: `${s.api}/ticket/sse/notifications`, headers: { ...caller(s), Accept: "text/event-stream" } };
}

async function start() {
  const s = await current();
  view.showSession(s);
  publisher = new Publisher({ absence: () => (state.name === "live" ? null : away), onChange: describe });
  publisher.preview(s, "mention");
  inbox = new Inbox(`peal.demo/${s.tenant}/${s.realm}/${s.user}`);
  show();
  feed = new Feed({ cursor: inbox.cursor, open, onEvent, onState });
  view.showFact("cursor", feed.cursor || "none");
  feed.start();

  view.$("toggle").addEventListener("click", toggle);
  addEventListener("online", () => feed.hurry());
  setInterval(() => {
    view.tick();
    if (state.name === "waiting") describe();
    if (heartbeat) view.showFact("heartbeat", view.ago(heartbeat));
  }, 1000);
}

start().catch((err) => {
  view.showConnection("refused", { pill: "Refused", title: "No session", action: "Reload", text: `${err.reason ?? "peal does not answer"}.` });
  view.$("toggle").addEventListener("click", () => location.reload());
});
