// The demo page of peal dev: a publisher, and two devices of one user whose lines
// can be cut. Each device is a page of its own, in a frame.

import { Publisher } from "./publisher.js";
import { current } from "./session.js";
import * as view from "./view.js";

// A Device is what this page knows of a frame: its state, what it has shown, and
// its last absence, {sent, arrived} of the samples that were sent meanwhile.
class Device {
  status = { name: "connecting" };
  away = null;
  #seen = new Set(); // ids of notifications
  #twice = 0;

  constructor(name) {
    this.name = name;
    this.panel = new view.DevicePanel(name, () => this.#toggle());
  }

  // take handles a message of the frame, and answers the id of a notification
  // that is new there.
  take({ status, event, data }) {
    let fresh;
    if (status) {
      if (["offline", "waiting"].includes(status.name)) this.away ??= { sent: new Set(), arrived: 0 };
      this.status = status;
    }
    if (event === "gap") this.away = null;
    if (event === "notification") {
      if (this.#seen.has(data.id)) this.#twice++;
      else fresh = data.id;
      this.#seen.add(data.id);
      if (this.away?.sent.has(data.id)) this.away.arrived++;
    }
    this.show();
    return fresh;
  }

  // sent hears of a sample that was stored.
  sent(id) {
    if (this.status.name === "live") {
      if (this.away && this.away.arrived === this.away.sent.size) this.away = null;
      return;
    }
    this.away?.sent.add(id);
    this.show();
  }

  show() {
    this.panel.show(this.status, this.#story());
  }

  #story() {
    const { sent, arrived } = this.away ?? {};
    const n = sent?.size ?? 0;
    switch (this.status.name) {
      case "live":
        if (n > arrived) return `Catching up: ${arrived} of ${n} so far.`;
        if (n > 0) return `Nothing missed: ${arrived} of ${n} sent meanwhile arrived, ${this.#twice ? `${this.#twice} twice` : "each once"}.`;
        return "What is sent appears here as soon as it is stored.";
      case "offline":
        return n > 0 ? `${n} sent meanwhile. peal keeps them for this device.` : "The line is cut. Send a few samples now.";
      case "waiting":
        return `Reconnecting by itself: ${this.status.reason}.`;
      case "refused":
        return `Refused: ${this.status.reason}.`;
      default:
        return "Connecting.";
    }
  }

  #toggle() {
    this.panel.post(this.status.name === "offline" || this.status.name === "refused" ? "plug" : "cut");
  }
}

const devices = new Map(["laptop", "phone"].map((name) => [name, new Device(name)]));

const publisher = new Publisher({
  online: () => [...devices.values()].filter((device) => device.status.name === "live").map((device) => device.name),
  onStored: (id) => devices.forEach((device) => device.sent(id)),
});

addEventListener("message", ({ origin, source, data }) => {
  const device = devices.get(data?.device);
  if (origin !== location.origin || source !== device?.panel.window) return;
  if (data.event) view.log(data);
  const id = device.take(data);
  if (id) publisher.arrived(id, device.name);
});

current().then(
  (session) => {
    view.showSession(session);
    publisher.preview(session, "mention");
  },
  (err) => view.setText("result", `${err.reason ?? "peal does not answer"}.`),
);
