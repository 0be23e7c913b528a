package bus_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal/bus"
)

// quiet holds all nodes and all devices against the model, while nobody does
// anything and nothing expires.
func (m *inboxModel) quiet() {
	m.keep(modelRetain)
	m.quiets.Add(1)
	m.trimmed = m.published.Load()
	for _, h := range m.users {
		all, version, unread := m.nodesAgree(h)
		m.trimmed -= int64(len(all))
		if m.t.Failed() {
			return
		}
		h.settle(all)
		m.devicesAgree(h, all, unread, version)
	}
}

// nodesAgree holds what each node says of an inbox against the model, and returns
// it.
func (m *inboxModel) nodesAgree(h *markings) (all []entry, version bus.Cursor, unread int) {
	stored := m.stored(h)
	shown := stored[max(0, len(stored)-m.bound):]
	var first bus.Page
	var count bus.Count
	for i, b := range m.nodes {
		var page bus.Page
		var c bus.Count
		m.insist("list", func(ctx context.Context) (err error) { page, err = b.List(ctx, h.in, bus.Query{}); return err })
		m.insist("count", func(ctx context.Context) (err error) { c, err = b.Count(ctx, h.in); return err })
		m.counts(h, c)
		if i == 0 {
			first, count = page, c
		}
		if page.Cursor.Elsewhere && first.Cursor.Elsewhere { // of an empty inbox: the stream's end, as far as each has seen it
			page.Cursor.Seq = first.Cursor.Seq
		}
		if diff := cmp.Diff(first, page); diff != "" {
			m.t.Errorf("%s: the lists of nodes 0 and %d:\n%s", h.in.User, i, diff)
		}
		if diff := cmp.Diff(count, c); diff != "" {
			m.t.Errorf("%s: the counts of nodes 0 and %d:\n%s", h.in.User, i, diff)
		}
	}
	all = entries(m.t, first)
	for i, b := range m.nodes { // which read no further back than they have to
		if diff := cmp.Diff(all, m.paged(b, h, bus.Query{Limit: 3}), cmp.AllowUnexported(entry{})); diff != "" {
			m.t.Errorf("%s: the pages of node %d (-list +pages):\n%s", h.in.User, i, diff)
		}
		unread := slices.DeleteFunc(slices.Clone(all), func(e entry) bool { return e.read })
		if diff := cmp.Diff(unread, m.paged(b, h, bus.Query{Limit: 4, Unread: true}), cmp.AllowUnexported(entry{}), cmpopts.EquateEmpty()); diff != "" {
			m.t.Errorf("%s: the pages of unread ones of node %d (-list +pages):\n%s", h.in.User, i, diff)
		}
	}
	slices.Reverse(all)
	if !slices.EqualFunc(all, shown, func(a, b entry) bool { return a.id == b.id && a.cursor.Seq == b.cursor.Seq }) {
		m.t.Errorf("%s: the list is %v, want %v", h.in.User, all, shown)
	}
	for _, e := range all {
		may, err := h.may(e.id, e.cursor.Seq)
		if err != nil || !may.allows(e.read) {
			m.t.Errorf("%s: %v at %v may be %+v, %v: %s", h.in.User, e, e.cursor, may, err, h.said(e.id, e.cursor.Seq))
		}
		if !e.read {
			unread++
		}
	}
	if count.Unread != unread || count.Total != len(all) || count.ReadState != first.ReadState {
		m.t.Errorf("%s: the count is %+v beside a list of %d with %d unread in %v", h.in.User, count, len(all), unread, first.ReadState)
	}
	return all, first.ReadState, unread
}

// paged lists an inbox page by page.
func (m *inboxModel) paged(b *bus.Bus, h *markings, q bus.Query) (all []entry) {
	for pages := 0; pages <= m.bound; pages++ {
		var page bus.Page
		m.insist("list a page", func(ctx context.Context) (err error) { page, err = b.List(ctx, h.in, q); return err })
		all = append(all, entries(m.t, page)...)
		if page.Next.IsZero() {
			return all
		}
		q.Before = page.Next
	}
	m.t.Errorf("%s: the pages do not end", h.in.User)
	return all
}

// stored reads what is stored in an inbox, past the bus.
func (m *inboxModel) stored(h *markings) (all []entry) {
	stream, subject := m.nodes[0].StreamOf(h.in)
	ids := make(map[string]string) // by message id
	for _, id := range h.last(1 << 20) {
		ids[bus.MessageID(string(h.in.Tenant), string(h.in.Namespace), string(h.in.User), id)] = id
	}
	m.insist("read the stream", func(ctx context.Context) error {
		all = nil
		s, err := m.admin.Stream(ctx, stream)
		if err != nil {
			return err
		}
		for seq := uint64(1); ; {
			msg, err := s.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(subject))
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			all = append(all, entry{id: ids[msg.Header.Get(jetstream.MsgIDHeader)], cursor: bus.Cursor{Seq: msg.Sequence}})
			seq = msg.Sequence + 1
		}
	})
	return all
}

// devicesAgree waits until each device of an inbox shows what the nodes say, those
// that stayed connected without any help.
func (m *inboxModel) devicesAgree(h *markings, all []entry, unread int, version bus.Cursor) {
	deadline := time.Now().Add(modelPatience)
	for i, d := range m.devices {
		if d.h != h {
			continue
		}
		if !d.connected() {
			m.insist("connect", func(ctx context.Context) error { return d.connect(ctx, m.nodes[i%len(m.nodes)], -1) })
		}
		d.give(-1)
	}
	for _, d := range m.devices {
		for d.h == h {
			m.insist("fetch the list", func(ctx context.Context) error { return d.fetch(ctx, m.nodes[0]) })
			idle := m.idle(h) // first: what is right while it changes is right by chance
			wrong := d.wrong(all, unread, version)
			if wrong == "" && idle {
				d.pass()
				break
			}
			if time.Now().After(deadline) {
				d.mu.Lock()
				d.blame("not within %v: %s; all are idle: %v", modelPatience, wrong, idle)
				d.mu.Unlock()
				break
			}
			for _, b := range m.nodes {
				b.Refresh() // what has expired is known by then, which takes 10 s otherwise
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// idle reports whether no feed of an inbox is about to tell something.
func (m *inboxModel) idle(h *markings) bool {
	for _, b := range m.nodes {
		if !b.Idle(h.in) {
			return false
		}
	}
	return true
}
