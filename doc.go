// Package peal is the domain of a notification service for tickets: who may be
// told, what they are told, and the bounds that both keep. It does no I/O.
//
// # Vocabulary
//
// One word names one thing, in code, in documents and in messages.
//
//   - A tenant is a customer of the helpdesk: a UUID.
//   - A realm issues tokens. It has keys, a list of the tenants it may speak
//     for, and one namespace.
//   - A namespace holds user ids. Realms with the same namespace share users.
//   - An inbox is one user's notifications in one tenant: (tenant, namespace,
//     user).
//   - A ticket event comes in from the ticketing backend and says what happened
//     to a ticket. A notification goes out and tells one user of it.
//   - A rule says who is told of a type of ticket event. A template says in
//     which words.
//   - A worker works on ticket events, each of which is a task until it is
//     settled. A dispatcher is the workers of one process.
//   - A dead letter is a ticket event that could not be worked on for a reason
//     of its own, with that reason.
//   - A queue is a list of a tenant's tickets in the backend, with members: the
//     users who work on it.
//   - Preferences say what a user wants to be told of, and when without sound;
//     a tenant's are the defaults of its users. Wishes are both together: what
//     decides for one user.
//   - A revocation says whose tokens, issued before a moment, are not good any
//     more.
//   - A stream is a JetStream stream. An open SSE response is a connection.
//   - A slot is one of the places that a user has in the whole cluster for
//     connections on a route. A claim is the one place of a name, which the next
//     to claim it takes over. Both expire when they are not renewed.
//   - A poll asks for what came after a cursor, and may wait for it. While it
//     waits it counts as a connection.
//   - A ticket update tells a list on a screen that a ticket has changed, and
//     nothing of what it is. It is for those who see the ticket, and those who
//     have lost sight of it by the change.
//   - A feed is an inbox, or the ticket updates of a tenant, as one reader sees
//     it: what is stored after a cursor, then what arrives, without a hole or a
//     repeat.
//   - A source is a stream that feeds read: that of a partition's inboxes, or
//     that of the ticket updates.
//   - A cursor is a place in a feed: everything up to it has been delivered or
//     declared missing.
//   - A gap is the declaration that something is missing: it was asked for and
//     is no longer stored.
//   - A durable is a place in a feed that the region keeps for a client that can't, by
//     a name. Who holds it has the claim on it: one connection, the last that came.
//   - An epoch is one incarnation of a stream. A cursor names the epoch it was
//     made in, so it means nothing in another.
//   - A partition is one of the streams over which the inboxes of a region are
//     spread.
//   - A region is a place with a JetStream of its own; it is home to a tenant's
//     inboxes, or holds a mirror of them.
package peal
