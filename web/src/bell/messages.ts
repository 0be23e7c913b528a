// Every word that the bell says, and how a number is put into it.

/** A text in the forms that a language has for a number; {n} is the number. */
export type Plural = { other: string } & { [form in Intl.LDMLPluralRule]?: string };

/** The texts in English. Braces name what is put in. */
export const english = {
  title: "Notifications",
  unread: { other: "{n} unread" } as Plural,
  moreThan: { other: "more than {n} unread" } as Plural, // the inbox has dropped some
  more: { other: "{n} more" } as Plural, // than the toasts on the screen
  all: "All",
  onlyUnread: "Unread",
  markAll: "Mark all read",
  markRead: "Mark as read",
  markUnread: "Mark as unread",
  mute: "Mute {ticket}",
  unmute: "Unmute {ticket}",
  close: "Close",
  empty: "All quiet",
  emptyUnread: "Everything is read",
  loading: "Loading…",
  failed: "That did not work.",
  retry: "Try again",
  waiting: "Reconnecting…",
  offline: "Offline.",
  refused: "Not allowed.",
  preferences: "Preferences",
  save: "Save",
  saved: "Saved.",
  changed: "Not saved: changed elsewhere, as shown.",
  tellMe: "Tell me about",
  atLeast: "With a priority of at least",
  asSet: "As set by your organisation",
  quiet: "Quiet hours, without pop-ups",
  from: "From",
  to: "To",
  timeZone: "Time zone",
  exceptUrgent: "Pop-ups for urgent ones",
  mutedTickets: "Muted tickets",
  /** Names of types and priorities. One that is not here is made of its own
   * name: statusChange is "Status change". */
  names: { slaWarning: "SLA warning", slaBreach: "SLA breach" } as Record<string, string>,
};

export type Messages = typeof english;

/** What a page may set: any part of the messages. */
export type SomeMessages = Partial<Messages>;

/** Words says messages in a language: dates, numbers and plurals are by its
 * rules. What the messages leave out is English; a language tag that is none is
 * the browser's own. */
export class Words {
  declare readonly messages: Messages;
  declare readonly locale: string | undefined;

  constructor(some: SomeMessages, locale: string) {
    this.messages = { ...english, ...some, names: { ...english.names, ...some.names } };
    try {
      this.locale = Intl.getCanonicalLocales(locale)[0];
    } catch {
      // A page's mistake, which costs no more than this.
    }
  }

  /** say fills in a text. n chooses its form and is written as the language
   * writes numbers. */
  say(text: string | Plural, n = 0, ticket = ""): string {
    const form = typeof text === "string" ? text : text[new Intl.PluralRules(this.locale).select(n)] ?? text.other;
    return form.replace(/{(n|ticket)}/g, () => ticket || this.number(n));
  }

  number(n: number): string {
    return n.toLocaleString(this.locale);
  }

  /** name is what a type or a priority is called. */
  name(name: string): string {
    const { names } = this.messages;
    name = String(name ?? ""); // whatever came
    const words = name.replace(/[A-Z]/g, (letter) => " " + letter.toLowerCase());
    return Object.hasOwn(names, name) ? names[name]! : words.charAt(0).toUpperCase() + words.slice(1);
  }

  /** ago tells how long before now a moment was, both in milliseconds. */
  ago(at: number, now: number): string {
    const format = new Intl.RelativeTimeFormat(this.locale, { numeric: "auto", style: "short" });
    const min = Math.round((now - at) / 60_000);
    for (const [unit, size] of units) if (min >= size) return format.format(-Math.floor(min / size), unit);
    return format.format(0, "second");
  }
}

const units = [["day", 1440], ["hour", 60], ["minute", 1]] as const;
