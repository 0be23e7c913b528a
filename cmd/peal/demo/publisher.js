// Publishing samples, and telling how long each took to the screen.

import { samples, compose, request, curl, redact } from "./samples.js";
import { current } from "./session.js";
import { problem } from "./stream.js";
import * as view from "./view.js";

const burst = 20;
const mostEarly = 200;

// Publisher sends samples. A batch is what one click sends: {began, total,
// arrived, absence}; absence is the one in which it was sent, or null.
export class Publisher {
  #pending = new Map(); // notification id → its batch
  #early = new Set(); // ids that came before the answer to their POST
  #turn = 0;
  #body = null; // of the curl on the page

  // absence answers the present absence of the page, or null. onChange hears
  // that the numbers of an absence have changed.
  constructor({ absence, onChange }) {
    Object.assign(this, { absence, onChange });
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

  // arrived takes the id of every notification that reaches the page.
  arrived(id) {
    const batch = this.#pending.get(id);
    this.#pending.delete(id);
    if (batch) return this.#arrive(batch);
    this.#early.add(id);
    if (this.#early.size > mostEarly) this.#early.delete(this.#early.values().next().value);
  }

  async #send(types) {
    const batch = { began: performance.now(), total: types.length, arrived: 0, absence: this.absence() };
    const failures = (await Promise.all(types.map((type) => this.#post(type, batch)))).filter(Boolean);
    if (failures.length > 0) {
      const which = types.length > 1 ? `${failures.length} of ${types.length} not` : "Not";
      view.setText("result", `${which} published: ${failures[0]}`);
    } else if (batch.arrived < batch.total) {
      const stored = types.length > 1 ? `${types.length} × 202 Accepted: stored` : "202 Accepted: stored";
      view.setText("result", batch.absence ? `${stored}, and waiting for this page to come back` : stored);
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
    if (batch.absence) batch.absence.sent++;
    if (this.#early.delete(id)) this.#arrive(batch);
    else this.#pending.set(id, batch);
    this.onChange();
  }

  #arrive(batch) {
    batch.arrived++;
    if (batch.absence) batch.absence.arrived++;
    if (batch.arrived < batch.total) return;
    const all = batch.total > 1 ? `All ${batch.total}` : "202 Accepted:";
    if (batch.absence) return view.setText("result", `${all} arrived after the resume`);
    const ms = Math.max(1, Math.round(performance.now() - batch.began));
    view.showFact("latency", batch.total > 1 ? `${ms} ms for ${batch.total}` : `${ms} ms`);
    view.setText("result", `${all} on screen ${ms} ms after the click`);
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
    setTimeout(view.setText, 1600, "copy", "Copy");
  }
}
