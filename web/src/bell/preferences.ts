// The preferences: a form.

import type { Client, PealError, Preferences, Stored } from "../client/index.ts";
import { h, types } from "./dom.ts";
import type { Words } from "./messages.ts";

const priorities = ["", "low", "medium", "high", "urgent"];

/** chosen is the preferences after a form was filled in. What is as it was stays
 * as it was written: what was left out goes on being what the tenant says, which a
 * form cannot know. So who switches off quiet hours is left with none, from and to
 * the same: without them they would have the tenant's. */
export function chosen(value: Preferences, form: FormData): Preferences {
  const hours = value.quietHours;
  const next = { ...value, types: { ...value.types } as Record<string, boolean> };
  for (const type in types) if (form.has(type) !== (next.types[type] ?? true)) next.types[type] = form.has(type);
  const text = (name: string) => form.get(name) as never;
  delete next.minPriority;
  if (text("minPriority")) next.minPriority = text("minPriority");
  if (value.mutedTickets) next.mutedTickets = form.getAll("muted") as string[];
  if (hours) next.quietHours = { ...hours, to: hours.from };
  if (form.has("quiet")) next.quietHours = { from: text("from"), to: text("to"), timeZone: text("timeZone"), exceptUrgent: form.has("exceptUrgent") };
  return next as Preferences;
}

/** form makes the form. number answers a ticket's number; say tells the user
 * something; saved gets what was saved. */
export function form(words: Words, client: Client, { value, etag }: Stored, number: (ticketId: string) => string, say: (text: string) => void, saved: (value: Preferences) => void): HTMLFormElement {
  const { messages } = words;
  const save = h("button", { className: "primary" }, messages.save);
  const element = h("form");
  let saving = false;

  const check = (name: string, label: string, checked: boolean, value = "on") =>
    h("label", { className: "check" }, h("input", { type: "checkbox", name, value, checked }), label);
  const field = (label: string, control: HTMLElement) => h("label", {}, label, control);
  const select = (name: string, chosen: string, values: string[], text = (value: string) => value) =>
    h("select", { name }, ...values.map((value) => h("option", { value, selected: value === chosen }, text(value))));
  const group = (label: string, ...content: Node[]) => h("fieldset", {}, h("legend", {}, label), ...content);

  function fill(): void {
    const hours = value.quietHours;
    const on = hours?.from !== hours?.to;
    const zone = hours?.timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone; // which the list may lack
    const time = (name: string, value: string) => h("input", { type: "time", name, value, required: true });
    const details = h("fieldset", {},
      h("div", { className: "two" }, field(messages.from, time("from", on ? hours!.from : "22:00")), field(messages.to, time("to", on ? hours!.to : "07:00"))),
      field(messages.timeZone, select("timeZone", zone, [zone, ...Intl.supportedValuesOf("timeZone")])),
      check("exceptUrgent", messages.exceptUrgent, hours?.exceptUrgent ?? !hours));
    const onoff = check("quiet", messages.quiet, on);
    onoff.onchange = () => { details.hidden = details.disabled = !(onoff.control as HTMLInputElement).checked; };
    details.hidden = details.disabled = !on;
    const muted = value.mutedTickets ?? [];

    element.replaceChildren(h("div", { className: "scroll" },
      group(messages.tellMe, h("div", { className: "two" }, ...Object.keys(types).map((type) => check(type, words.name(type), (value.types as Record<string, boolean> | undefined)?.[type] ?? true)))),
      field(messages.atLeast, select("minPriority", value.minPriority ?? "", priorities, (name) => words.name(name) || messages.asSet)),
      onoff, details,
      muted.length > 0 && group(messages.mutedTickets, h("div", { className: "two" }, ...muted.map((id) => check("muted", number(id), true, id)))),
    ), save);
  }

  element.onsubmit = async (e) => {
    e.preventDefault();
    if (saving) return;
    saving = true;
    try {
      saved((await client.setPreferences(chosen(value, new FormData(element)), etag)).value);
    } catch (err) {
      let text = messages.failed;
      if ((err as PealError).status === 412)
        try {
          ({ value, etag } = await client.preferences());
          fill();
          save.focus(); // what had it is gone
          text = messages.changed;
        } catch {}
      say(text);
    }
    saving = false;
  };

  fill();
  return element;
}
