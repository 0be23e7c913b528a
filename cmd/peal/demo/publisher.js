// Publishing samples, and telling how long each took to the screens.

import { samples, compose, request, curl, redact } from "./samples.js";
import { current, problem } from "./session.js";
import * as view from "./view.js";

const burst = 20;
const mostEarly = 200;

// Publisher sends samples. A batch is what one click sends: {began, total,
// waiting}; waiting maps each device that was online to how many it still lacks.
export class Publisher {
  #pending = new Map(); // notification id → its batch
  #early = []; // [id, device] of those that came before the answer to their POST
  #turn = 0;
  #body = null; // of the curl on the page

  // online answers the names of the devices that are; onStored hears the id of
  // each sample once it is stored.
  constructor({ online, onStored }) {
    Object.assign(this, { online, onStored });
    view.showSamples((type) => this.#send([type]));
    view.$("burst").addEventListener("click", () => {
      const types = Object.keys(samples);
      this.#send(Array.from({ length: burst }, (_, i) => types[i % types.length]));
    });
    view.$("copy").addEventListener("click", () => this.#copy());
  }

  // preview shows what a click on a type would send.
  preview(session, type) {
    this.#show(request(session, compose(type, session.user, this.#turn)));
  }

  // arrived takes the id of every notification that is new on a device.
  arrived(id, device) {
    const batch = this.#pending.get(id);
    if (batch) return this.#arrive(batch, device);
    this.#early.push([id, device]);
    if (this.#early.length > mostEarly) this.#early.shift();
  }

  async #send(types) {
    const total = types.length;
    const batch = { began: performance.now(), total, waiting: new Map(this.online().map((device) => [device, total])), took: [] };
    const failures = (await Promise.all(types.map((type) => this.#post(type, batch)))).filter(Boolean);
    if (failures.length > 0) {
      view.setText("result", `${total > 1 ? `${failures.length} of ${total} not` : "Not"} published: ${failures[0]}`);
    } else if (batch.waiting.size > 0 || batch.took.length === 0) {
      view.setText("result", total > 1 ? `${total} × 202 Accepted: stored.` : "202 Accepted: stored.");
    }
  }

  // #post publishes one sample and answers why it could not, if so.
  async #post(type, batch) {
    try {
      for (const renew of [false, true]) {
        const session = await current(renew);
        const req = request(session, compose(type, session.user, this.#turn++));
        this.#show(req);
        const response = await fetch(req.url, { method: req.method, headers: req.headers, body: JSON.stringify(req.body) });
        if (response.ok) return this.#stored((await response.json()).id, batch);
        if (response.status !== 401 || renew) return await problem(response);
      }
    } catch (err) {
      return err.reason ?? "peal does not answer";
    }
  }

  #stored(id, batch) {
    this.#pending.set(id, batch);
    for (const [early, device] of this.#early) if (early === id) this.#arrive(batch, device);
    this.#early = this.#early.filter(([early]) => early !== id);
    this.onStored(id);
  }

  #arrive(batch, device) {
    const left = batch.waiting.get(device) - 1;
    if (!(left >= 0)) return; // it was away when the sample was sent
    batch.waiting.set(device, left);
    if (left > 0) return;
    batch.waiting.delete(device);
    batch.took.push(`${device} ${Math.max(1, Math.round(performance.now() - batch.began))} ms`);
    view.setText("result", `${batch.total > 1 ? `All ${batch.total} on screen` : "On screen"} after the click: ${batch.took.join(", ")}.`);
  }

  #show(req) {
    this.#body = req.body;
    view.showCurl(curl(redact(req)));
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(curl(request(await current(), this.#body)));
      view.setText("copy", "Copied");
    } catch {
      view.setText("copy", "Not allowed");
    }
    setTimeout(view.setText, 1600, "copy", "Copy for a shell");
  }
}
