// A realistic sample of each type of notification, and the request that
// publishes it.

export const tickets = [
  { id: "12345", number: "INC-2024-001234", title: "VPN drops every hour since the update", category: "Network" },
  { id: "12361", number: "INC-2024-001250", title: "Checkout answers 502 for customers in EU-West", category: "Payments" },
  { id: "12388", number: "REQ-2024-000871", title: "New laptop for Priya, starts on Monday", category: "Hardware" },
  { id: "12402", number: "INC-2024-001263", title: "Printer on floor 3 prints only blank pages", category: "Hardware" },
  { id: "12417", number: "CHG-2024-000142", title: "Move the payroll database to version 16", category: "Database" },
  { id: "12433", number: "INC-2024-001271", title: "Single sign-on loops back to the login page", category: "Identity" },
  { id: "12450", number: "REQ-2024-000889", title: "Access to the finance share for Marco", category: "Access" },
];

const people = {
  amara: { id: "user-amara", name: "Amara Okafor", avatar: null },
  luis: { id: "user-luis", name: "Luis Ferreira", avatar: null },
  priya: { id: "user-priya", name: "Priya Raman", avatar: null },
  tom: { id: "user-tom", name: "Tom Lindqvist", avatar: null },
};

// samples maps each type, in the contract's order, to its label, the priority
// that peal gives it, and what it says of a ticket. The system is the actor
// where none is named.
export const samples = {
  assignment: {
    label: "Assignment", priority: "high", actor: people.amara, reasons: ["assignee"],
    message: (t) => `You have been assigned ticket ${t.number}`,
  },
  reassignment: {
    label: "Reassignment", priority: "medium", actor: people.luis, reasons: ["previousAssignee"],
    message: (t) => `${t.number} is now with Tom Lindqvist`,
  },
  statusChange: {
    label: "Status change", priority: "medium", actor: people.tom, reasons: ["watcher"],
    message: () => "Status changed from open to pending",
    metadata: () => ({ previousStatus: "open", newStatus: "pending" }),
  },
  comment: {
    label: "Comment", priority: "medium", actor: people.priya, reasons: ["assignee"],
    message: (t) => `Priya Raman commented on ${t.number}`,
    metadata: () => ({ commentId: "c-2071" }),
  },
  mention: {
    label: "Mention", priority: "high", actor: people.luis, reasons: ["mention", "watcher"],
    message: (t) => `Luis Ferreira mentioned you in a comment on ${t.number}`,
    metadata: () => ({ commentId: "c-2084" }),
  },
  slaWarning: {
    label: "SLA warning", priority: "high", reasons: ["assignee"],
    message: () => "The first response is due in 30 minutes",
    metadata: () => ({ slaType: "response", slaTarget: inMinutes(30) }),
  },
  slaBreach: {
    label: "SLA breach", priority: "urgent", reasons: ["assignee", "queue"],
    message: () => "The resolution target has passed and the ticket is still open",
    metadata: () => ({ slaType: "resolution", slaTarget: inMinutes(0) }),
  },
  approval: {
    label: "Approval", priority: "high", actor: people.tom, reasons: ["approver"],
    message: (t) => `Tom Lindqvist asks for your approval of ${t.number}`,
    metadata: () => ({ approvalId: "a-318" }),
  },
  approvalDecision: {
    label: "Decision", priority: "medium", actor: people.amara, reasons: ["requester"],
    message: (t) => `Amara Okafor approved ${t.number}`,
    metadata: () => ({ approvalId: "a-318" }),
  },
  escalation: {
    label: "Escalation", priority: "high", actor: people.priya, reasons: ["queue"],
    message: (t) => `${t.number} was escalated to second-level support`,
  },
  merge: {
    label: "Merge", priority: "low", actor: people.tom, reasons: ["watcher"],
    message: (t) => `${t.number} was merged into INC-2024-001199`,
  },
  resolution: {
    label: "Resolution", priority: "medium", actor: people.luis, reasons: ["requester"],
    message: (t) => `Luis Ferreira resolved ${t.number}`,
    metadata: () => ({ previousStatus: "pending", newStatus: "resolved" }),
  },
  reopened: {
    label: "Reopened", priority: "medium", actor: people.priya, reasons: ["assignee", "watcher"],
    message: (t) => `Priya Raman reopened ${t.number}: it happened again`,
    metadata: () => ({ previousStatus: "resolved", newStatus: "open" }),
  },
  watchAdded: {
    label: "Watch added", priority: "low", actor: people.amara, reasons: ["recipient"],
    message: (t) => `Amara Okafor added you to the watchers of ${t.number}`,
  },
};

// compose makes the body of POST /ticket/notification. turn chooses the ticket,
// so that samples in a row tell of different ones.
export function compose(type, user, turn) {
  const sample = samples[type];
  const ticket = tickets[turn % tickets.length];
  return {
    recipients: [user],
    notification: {
      type,
      ticketId: ticket.id,
      ticketNumber: ticket.number,
      title: ticket.title,
      message: sample.message(ticket),
      category: ticket.category,
      ...(sample.actor && { actor: sample.actor }),
      ...(sample.metadata && { metadata: sample.metadata() }),
      reasons: sample.reasons,
    },
  };
}

// request is what publishes body, ready for fetch and for curl.
export function request(session, body) {
  return {
    method: "POST",
    url: new URL(`${session.api}/ticket/notification`, location.origin).href,
    headers: {
      Authorization: `Bearer ${session.publisher.token}`,
      realmname: session.publisher.realm,
      "x-tenantid": session.tenant,
      "Content-Type": "application/json",
    },
    body,
  };
}

// curl spells a request for a POSIX shell.
export function curl({ url, headers, body }) {
  const lines = Object.entries(headers).map(([name, value]) => `-H ${quote(`${name}: ${value}`)}`);
  return [`curl ${url}`, ...lines, `-d ${quote(JSON.stringify(body, null, 2))}`].join(" \\\n  ");
}

// redact shortens the bearer token for the eye.
export function redact(req) {
  const Authorization = req.headers.Authorization.replace(/^(Bearer .{10}).+(.{6})$/, "$1…$2");
  return { ...req, headers: { ...req.headers, Authorization } };
}

function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function inMinutes(n) {
  return new Date(Date.now() + n * 60_000).toISOString();
}
