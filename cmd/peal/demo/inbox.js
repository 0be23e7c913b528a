// What the page knows of the inbox: the newest entries, what is unread, and the
// place in the feed. It is kept in sessionStorage, so that a reload resumes
// where the page was; list and cursor are written together or not at all.

const most = 100; // entries on the page
const mostSeen = 1000; // ids remembered to recognise a repeat

// An entry is {kind: "notification", value, recovered} or {kind: "gap", code}.
export class Inbox {
  entries = []; // newest first, at most 100
  unread = 0;
  cursor = "";
  #key;
  #seen = new Set();
  #saving = 0;

  // key names the inbox in sessionStorage.
  constructor(key) {
    this.#key = key;
    try {
      const { entries = [], unread = 0, cursor = "" } = JSON.parse(sessionStorage.getItem(key)) ?? {};
      Object.assign(this, { entries, unread, cursor });
    } catch {
      // Storage that is closed or holds something else: begin anew.
    }
    for (const entry of this.entries) if (entry.value) this.#seen.add(entry.value.id);
    addEventListener("pagehide", () => this.#save());
  }

  // add takes a notification from the feed. It returns the entry, or null for a
  // repeat. Either way it is one that the count in `connected` did not hold yet.
  add(value, recovered) {
    if (!value.read) this.unread++;
    this.touch();
    if (this.#seen.has(value.id)) return null;
    return this.#insert({ kind: "notification", value, recovered });
  }

  // gap notes that what came before it is no longer stored.
  gap(code) {
    return this.#insert({ kind: "gap", code });
  }

  // touch has the inbox written soon.
  touch() {
    this.#saving ||= setTimeout(() => this.#save(), 50);
  }

  #insert(entry) {
    this.entries.unshift(entry);
    this.entries.length = Math.min(this.entries.length, most);
    if (entry.value) this.#seen.add(entry.value.id);
    if (this.#seen.size > mostSeen) this.#seen.delete(this.#seen.values().next().value);
    this.touch();
    return entry;
  }

  #save() {
    clearTimeout(this.#saving);
    this.#saving = 0;
    const { entries, unread, cursor } = this;
    try {
      sessionStorage.setItem(this.#key, JSON.stringify({ entries, unread, cursor }));
    } catch {
      // Full or closed storage costs only the resume after a reload.
    }
  }
}
