// Package bus keeps inboxes in JetStream and feeds readers from them.
//
// It owns the names of streams and subjects, the form of a stored message, the
// cursor, publishing, and the feed: replay of what is stored, spliced with
// what arrives, without a hole or a repeat and without anything created on the
// NATS server for a reader but one core subscription per followed inbox.
//
// It keeps revocations too, and tells every node of them; and the slots by which a
// user's connections are counted in the whole cluster.
//
// docs/design.md says why.
package bus
