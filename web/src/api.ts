// Code generated from node/openapi.yaml by generate.mjs. DO NOT EDIT.

/** The events that the server sends. */
export type ServerEvent =
  /** first, always. Its id: the cursor the feed starts after; none when a gap follows */
  | { type: "connected"; data: Connected }
  /** for each notification. Its id: its cursor */
  | { type: "notification"; data: Notification }
  /** the read state has changed, on whatever device */
  | { type: "state"; data: State }
  /** what was asked for is no longer stored. Its id: the cursor the feed goes on after */
  | { type: "gap"; data: Gap }
  /** every 30 s, the first within 30 s, at random */
  | { type: "heartbeat"; data: Heartbeat }
  /** last, when the server ends a connection for its own reason */
  | { type: "error"; data: StreamError };

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
