package node

import (
	"net/http"

	"github.com/pealhq/peal"
)

// Waiting returns how many bytes wait to be written to the open event streams,
// and how many of those have a peer that takes nothing.
func (n *Node) Waiting() (size, stalled int) {
	for _, c := range n.connections() {
		h, ok := c.transport.(*handler)
		if !ok {
			continue // a poll
		}
		h.mu.Lock()
		size += h.size
		if h.stalled {
			stalled++
		}
		h.mu.Unlock()
	}
	return size, stalled
}

// Blind reports whether the node lets nobody in for want of revocations.
func (n *Node) Blind() bool { return n.blind() }

// Metrics serves the metrics also after the node has ended.
func (n *Node) Metrics() http.Handler { return n.metrics.page() }

// FillAnswers leaves no room for answers that wait to be read, until empty is called.
func (n *Node) FillAnswers() (empty func()) {
	empty, err := n.answers.enter(maxAnswers)
	if err != nil {
		panic(err)
	}
	return empty
}

// Unfinished is how many calls a user has under way.
func (n *Node) Unfinished(in peal.Inbox) int {
	n.unfinished.mu.Lock()
	defer n.unfinished.mu.Unlock()
	return n.unfinished.open[in]
}

// HurryFollow has connections followed before it is known whether they have a slot.
// It is called before the first.
func (n *Node) HurryFollow() { n.headStart = 0 }
