// Code generated from node/openapi.yaml by generate.mjs. DO NOT EDIT.

/** The events that the server sends. */
export type ServerEvent =
  /** first, always. Its id: the cursor the feed starts after; none when a gap follows */
  | { type: "connected"; data: Connected }
  /** for each notification. Its id: its cursor */
  | { type: "notification"; data: Notification }
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
    [key: string]: number;
  };
  /** The bound of the inbox has dropped unread ones */
  truncated: boolean;
  /** As in Connected */
  readState: string;
}

/** Opaque printable ASCII */
export type Cursor = string;

export interface StreamError {
  code: ErrorCode;
  message: string;
}

/** By the last three is refused who connects by the session cookie */
export type ErrorCode = "TOKEN_EXPIRED" | "REVOKED" | "DRAINING" | "SLOW_CLIENT" | "CONNECTION_LIMIT" | "RATE_LIMIT" | "UNAVAILABLE";

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
  /** The newest first */
  notifications: Listed[];
  /** What to give as `before` for the next page; null after the last one */
  next: string | null;
  /** Where the list is true: connect after it and there is no hole */
  cursor: Cursor;
  /** As in Connected */
  readState: string;
}

/** A Notification, and where it is */
export interface Listed {
  id: Id;
  type: Type;
  ticketId: Id;
  ticketNumber: Id;
  title: string;
  message: string;
  priority: Priority;
  category: string;
  createdAt: Timestamp;
  read: boolean;
  /** A path beginning with exactly one /, or an https URL of a host that the operator allows */
  actionUrl: string;
  actor: Actor;
  metadata?: Metadata;
  reasons: Reason[];
  /** Made in the user's quiet hours. Shown without sound or toast. Absent means false */
  silent?: boolean;
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

/** What is absent has its default */
export interface Preferences {
  /** Whether a type is wanted, by type */
  types?: {
    [key: string]: boolean;
  };
  minPriority?: Priority;
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

export type ProblemCode = "INVALID_REQUEST" | "UNAUTHENTICATED" | "FORBIDDEN" | "NOT_FOUND" | "METHOD_NOT_ALLOWED" | "NOT_ACCEPTABLE" | "TOO_LARGE" | "UNSUPPORTED_MEDIA_TYPE" | "CONNECTION_LIMIT" | "RATE_LIMIT" | "INTERNAL" | "UNAVAILABLE";

export interface QuietHours {
  from: string;
  to: string;
  /** A name of the IANA time zone database */
  timeZone: string;
  exceptUrgent?: boolean;
}

/** Which notifications to mark, and as what */
export type Read = {
  ids: Id[];
  read?: boolean;
} | {
  upTo: Cursor;
  read?: boolean;
} | {
  /** Up to the newest at that moment */
  all: true;
};

export interface ReadAnswer {
  changed: number;
  unread: number;
}

export type Reason = "assignee" | "previousAssignee" | "watcher" | "mention" | "approver" | "requester" | "queue" | "recipient";

/** The read state changed on one of the user's devices. With more than 100 changes `refetch` stands in the place of `changed` */
export interface State {
  unread: number;
  /** As in Connected */
  readState: string;
  changed?: {
    id: Id;
    read: boolean;
  }[];
  refetch?: true;
}

/** UTC with milliseconds */
export type Timestamp = string;

export type Type = "assignment" | "reassignment" | "statusChange" | "comment" | "mention" | "slaWarning" | "slaBreach" | "approval" | "approvalDecision" | "escalation" | "merge" | "resolution" | "reopened" | "watchAdded";
