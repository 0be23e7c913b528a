/** The events that the server sends. */
export type ServerEvent = 
/** first, always. Its id: the cursor the feed starts after; none when a gap follows */
{
    type: "connected";
    data: Connected;
}
/** for each notification. Its id: its cursor */
 | {
    type: "notification";
    data: Notification;
}
/** the read state has changed, on whatever device */
 | {
    type: "state";
    data: State;
}
/** what was asked for is no longer stored. Its id: the cursor the feed goes on after */
 | {
    type: "gap";
    data: Gap;
}
/** every 30 s, the first within 30 s, at random */
 | {
    type: "heartbeat";
    data: Heartbeat;
}
/** last, when the server ends a connection for its own reason */
 | {
    type: "error";
    data: StreamError;
};
export interface Actor {
    id: Id;
    name: string;
    /** An https URL */
    avatar: string | null;
}
export interface Connected {
    message: "Connected to notification stream";
    userId: Id;
    timestamp: Timestamp;
    /** When the token expires and the connection ends */
    expiresAt: Timestamp;
    /** Everything after the client's cursor follows. False without a cursor or when a gap follows */
    recovered: boolean;
    /** Unread up to the cursor the connection starts after: every notification that follows with read=false adds one */
    unread: number;
    /** An opaque version. A client that comes back and finds another one refetches its list */
    readState: string;
}
export interface Count {
    unread: number;
    total: number;
    unreadByPriority: {
        urgent: number;
        high: number;
        medium: number;
        low: number;
    };
    /** Unread ones have dropped out of the inbox's bound */
    truncated: boolean;
    readState: ReadState;
}
/** Opaque printable ASCII */
export type Cursor = string;
export interface StreamError {
    code: ErrorCode;
    message: string;
}
/**
 * `DRAINING` and `SUBSCRIPTION_ERROR`: connect again, another node may
 * serve you. By the last three is refused who connects by the session
 * cookie; by `CONNECTION_LIMIT` ends also who has lost the place to others
 * while the node was cut off, and who followed by a durable subscription
 * that another connection has taken over.
 */
export type ErrorCode = "TOKEN_EXPIRED" | "REVOKED" | "DRAINING" | "SLOW_CLIENT" | "SUBSCRIPTION_ERROR" | "CONNECTION_LIMIT" | "RATE_LIMIT" | "UNAVAILABLE";
export interface Gap {
    code: GapCode;
    message: string;
}
/** After HISTORY_TRUNCATED comes what is still stored, then live; after UNKNOWN_CURSOR live */
export type GapCode = "HISTORY_TRUNCATED" | "UNKNOWN_CURSOR";
export interface Heartbeat {
    timestamp: Timestamp;
}
/** At most 128 bytes of UTF-8 without control characters */
export type Id = string;
export interface List {
    /** Newest first */
    notifications: ListedNotification[];
    /** The `before` of the next page; null: there is none */
    next: string | null;
    /** Where the list is true: what came later comes after it */
    cursor: Cursor;
    readState: ReadState;
}
/** A notification as it is stored, with its current `read`, and its place besides */
export interface ListedNotification {
    id: Id;
    type: Type;
    ticketId: Id;
    ticketNumber: Id;
    title: string;
    message: string;
    priority: Priority;
    category: string;
    createdAt: Timestamp;
    /** The current value */
    read: boolean;
    /** A path beginning with exactly one /, or an https URL of a host that the operator allows */
    actionUrl: string;
    actor: Actor;
    metadata?: Metadata;
    reasons: Reason[];
    /** Made in the user's quiet hours. Shown without sound or toast. Absent means false */
    silent?: boolean;
    /** Its place */
    cursor: Cursor;
}
/** Strings by key. At most 16 keys beside those listed. */
export interface Metadata {
    previousStatus?: string;
    newStatus?: string;
    slaType?: string;
    slaTarget?: string;
    commentId?: string;
    approvalId?: string;
    [key: string]: string | undefined;
}
/** As stored and sent, at most 16 KiB. `type` tells what of the metadata to expect. */
export interface Notification {
    id: Id;
    type: Type;
    ticketId: Id;
    ticketNumber: Id;
    title: string;
    message: string;
    priority: Priority;
    category: string;
    createdAt: Timestamp;
    /** False when it arrives live; in a replay the current value */
    read: boolean;
    /** A path beginning with exactly one /, or an https URL of a host that the operator allows */
    actionUrl: string;
    actor: Actor;
    metadata?: Metadata;
    reasons: Reason[];
    /** Made in the user's quiet hours. Shown without sound or toast. Absent means false */
    silent?: boolean;
}
/**
 * What a user wants to be told of. A value that is absent is the tenant's,
 * and where the tenant has none, every type is on, `minPriority` is low and
 * no hour is quiet. Each type is a value of its own. Muted tickets are
 * those of both. At most 147,456 bytes of JSON without spaces.
 *
 * About a type that the tenant has locked only the tenant's values decide
 * whether there is a notification; the user's quiet hours may still make
 * it silent.
 */
export interface Preferences {
    /** False switches a type off */
    types?: {
        [key: string]: boolean;
    };
    /** Below it no notification is made */
    minPriority?: Priority;
    /** Ids of tickets of which no notification is made. They come back sorted */
    mutedTickets?: Id[];
    quietHours?: QuietHours;
}
export type Priority = "low" | "medium" | "high" | "urgent";
/** RFC 9457 */
export interface Problem {
    type: string;
    title: string;
    status: number;
    code: ProblemCode;
    detail: string;
    /** The request id */
    instance: string;
}
export type ProblemCode = "INVALID_REQUEST" | "UNAUTHENTICATED" | "FORBIDDEN" | "NOT_FOUND" | "METHOD_NOT_ALLOWED" | "NOT_ACCEPTABLE" | "PRECONDITION_FAILED" | "TOO_LARGE" | "UNSUPPORTED_MEDIA_TYPE" | "CONNECTION_LIMIT" | "RATE_LIMIT" | "INTERNAL" | "UNAVAILABLE";
/**
 * Every day from `from` up to `to`, by the clock on a wall in the time
 * zone, past midnight if `from` is the later. What is made then has
 * `silent`. Where both are the same no hour is quiet: so a user goes
 * without the tenant's.
 */
export interface QuietHours {
    from: string;
    to: string;
    /** A name of the IANA time zone database, such as Asia/Kolkata */
    timeZone: string;
    /** What is urgent is not silent */
    exceptUrgent?: boolean;
}
/** Exactly one of `ids`, `upTo` and `all` */
export type Read = {
    ids: Id[];
    upTo?: never;
    all?: never;
    /** False: unread again. Not with all */
    read?: boolean;
} | {
    ids?: never;
    /** That one and all older ones */
    upTo: Cursor;
    all?: never;
    /** False: unread again. Not with all */
    read?: boolean;
} | {
    ids?: never;
    upTo?: never;
    /** Up to the newest at that moment */
    all: true;
    /** False: unread again. Not with all */
    read?: true;
};
export interface ReadAnswer {
    /** So many were not so before */
    changed: number;
    /** So many are unread now */
    unread: number;
}
/** An opaque version. A client that comes back and finds another one refetches its list */
export type ReadState = string;
export type Reason = "assignee" | "previousAssignee" | "watcher" | "mention" | "approver" | "requester" | "queue" | "recipient";
/** The read state has changed on some device. It has either `changed`, or `refetch` where that would be too much. */
export type State = {
    /** How many are unread now */
    unread: number;
    readState: ReadState;
    changed: {
        id: Id;
        read: boolean;
    }[];
    refetch?: never;
} | {
    /** How many are unread now */
    unread: number;
    readState: ReadState;
    changed?: never;
    /** More has changed: fetch the list again */
    refetch: true;
};
/** UTC with milliseconds */
export type Timestamp = string;
export type Type = "assignment" | "reassignment" | "statusChange" | "comment" | "mention" | "slaWarning" | "slaBreach" | "approval" | "approvalDecision" | "escalation" | "merge" | "resolution" | "reopened" | "watchAdded";

export interface Options {
    /** Of the service, such as "https://peal.example.com"; "" or left out: the page's own origin. */
    url?: string;
    /** The realm that has issued the tokens, and the tenant's id. */
    realm: string;
    tenant: string;
    /**
     * Who is signed in. Names what tabs share and what is stored, and must be who
     * the token says: otherwise the client ends with the status "refused".
     */
    user: string;
    /**
     * Gives a token: the first, a new one before the last expires, or another one
     * because the service has refused the last. May throw: that is reported as an
     * error of the page, and it is asked again later.
     */
    token: (why: "start" | "expiring" | "refused") => string | Promise<string>;
    /** One connection for all tabs of this browser, where it can do that. Default true. */
    share?: boolean;
    /** Separates clients of one user that are not to share. Default "". */
    device?: string;
}
export type Status = {
    name: "connecting";
} | {
    name: "live";
}
/** Between two tries; until is in ms since 1970. */
 | {
    name: "waiting";
    until: number;
    reason: string;
}
/** The browser says so; or the client is closed. */
 | {
    name: "offline";
}
/** For good: trying again would not help. */
 | {
    name: "refused";
    reason: string;
};
export type PealEvent = Exclude<ServerEvent, {
    type: "notification";
}>
/** fresh: it has just been made, as far as can be told, and is not repeated from while nobody was here. */
 | (Extract<ServerEvent, {
    type: "notification";
}> & {
    cursor: Cursor;
    fresh: boolean;
}) | {
    type: "status";
    status: Status;
}
/** The client's unread has changed. */
 | {
    type: "unread";
    unread: number;
}
/** What is on the screen may be out of date: fetch the list again. Comes also once when the feed has begun. */
 | {
    type: "refetch";
};
export interface ListQuery {
    /** 1 to 200; default 50. */
    limit?: number;
    /** The `next` of the page before. */
    before?: Cursor;
    unread?: boolean;
    type?: Type[];
    priority?: Priority[];
    ticketId?: Id;
}
/** Preferences and their version. */
export interface Stored {
    value: Preferences;
    etag: string;
}
/**
 * Calls reject with a PealError where the service refuses, and with what fetch
 * throws where there was no answer.
 */
export interface Client {
    /** Names what the clients of one user and device share, in all tabs of a browser. */
    readonly name: string;
    readonly status: Status;
    /** How many are unread; -1 before it is known. */
    readonly unread: number;
    /** Has handler called with every event of a type. What it returns takes that back. */
    on<T extends PealEvent["type"]>(type: T, handler: (e: Extract<PealEvent, {
        type: T;
    }>) => void): () => void;
    list(query?: ListQuery): Promise<List>;
    count(): Promise<Count>;
    read(what: Read): Promise<ReadAnswer>;
    preferences(): Promise<Stored>;
    /** With the etag of what was read, it is refused with 412 if that has changed since. */
    setPreferences(value: Preferences, etag?: string): Promise<Stored>;
    /**
     * Ends the feed, and the calls that read; no handler is called any more. What
     * read and setPreferences have begun to write still goes to the service.
     */
    close(): void;
}

/** A refusal of the service. */
export declare class PealError extends Error {
    /** The HTTP status. */
    status: number;
    /** Why, in a word, such as "RATE_LIMIT"; "" where something else than the service has answered. */
    code: string;
    /** For whoever looks into the log; "" without. */
    requestId: string;
    constructor(status: number, problem: Partial<Problem>);
}

/**
 * connect follows the notifications of whoever is signed in, until the client is
 * closed. It throws a TypeError if an option is missing; everything that happens
 * later is said by events.
 */
export declare const connect: (options: Options) => Client;

/** A text in the forms that a language has for a number; {n} is the number. */
export type Plural = {
    other: string;
} & {
    [form in Intl.LDMLPluralRule]?: string;
};
/** The texts in English. Braces name what is put in. */
export declare const english: {
    title: string;
    unread: Plural;
    moreThan: Plural;
    more: Plural;
    all: string;
    onlyUnread: string;
    markAll: string;
    markRead: string;
    markUnread: string;
    mute: string;
    unmute: string;
    close: string;
    empty: string;
    emptyUnread: string;
    loading: string;
    failed: string;
    retry: string;
    waiting: string;
    offline: string;
    refused: string;
    preferences: string;
    save: string;
    saved: string;
    changed: string;
    tellMe: string;
    atLeast: string;
    asSet: string;
    quiet: string;
    from: string;
    to: string;
    timeZone: string;
    exceptUrgent: string;
    mutedTickets: string;
    /** Names of types and priorities. One that is not here is made of its own
     * name: statusChange is "Status change". */
    names: Record<string, string>;
};
export type Messages = typeof english;
/** What a page may set: any part of the messages. */
export type SomeMessages = Partial<Messages>;
/** Words says messages in a language: dates, numbers and plurals are by its
 * rules. What the messages leave out is English; a language tag that is none is
 * the browser's own. */
declare class Words {
    readonly messages: Messages;
    readonly locale: string | undefined;
    constructor(some: SomeMessages, locale: string);
    /** say fills in a text. n chooses its form and is written as the language
     * writes numbers. */
    say(text: string | Plural, n?: number, ticket?: string): string;
    number(n: number): string;
    /** name is what a type or a priority is called. */
    name(name: string): string;
    /** ago tells how long before now a moment was, both in milliseconds. */
    ago(at: number, now: number): string;
}

/** The detail of peal-open. */
export interface PealOpen {
    notification: Notification;
}
/** `<peal-bell>` is a bell for one user's notifications.
 *
 * It follows the client it is given. Without one it makes its own, as soon as it
 * has the attributes realm, tenant and user (and url, where the service is at
 * another origin) and the property token; it closes that one when it leaves the
 * page or one of these changes. A client that it was given it never closes.
 *
 * `peal-open` is sent when a notification is opened by a plain click or Enter.
 * Who takes it over, such as the router of a single-page app, calls
 * preventDefault; else the browser follows the link. */
export declare class PealBell extends HTMLElement {
    #private;
    static readonly observedAttributes: string[];
    constructor();
    /** The client that the bell follows. */
    get client(): Client | undefined;
    set client(client: Client | null | undefined);
    /** The callback for tokens of a client of the bell's own: see Options. */
    get token(): Options["token"] | undefined;
    set token(token: Options["token"] | undefined);
    /** The texts. Those that are left out are English. */
    get messages(): SomeMessages;
    set messages(some: SomeMessages | null | undefined);
    /** Whether the panel is open. */
    get open(): boolean;
    set open(open: boolean);
    /** How many are unread, as the badge says; -1 is not known yet. */
    get unread(): number;
    attributeChangedCallback(): void;
    connectedCallback(): void;
    disconnectedCallback(): void;
}
declare global {
    interface HTMLElementTagNameMap {
        "peal-bell": PealBell;
    }
    interface HTMLElementEventMap {
        "peal-open": CustomEvent<PealOpen>;
    }
}

export {};
