// Package node is the edge: it answers the HTTP API, holds the connections, and
// feeds them from the bus. A node keeps nothing that another could not take
// over: a client may come back to any.
package node
