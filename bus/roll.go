package bus

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
)

// A roll call finds out which processes of the region there are: each answers to its
// name, with whatever it has to tell. Nothing is sent, and nothing kept up to date,
// while nobody calls.

// Headers of what goes over the subject of the roll.
const (
	headerProcess = "Peal-Process" // who answers
	headerLeft    = "Peal-Left"    // who leaves; without an answer
)

const (
	rollPatience = 500 * time.Millisecond // for the answers
	rollQuiet    = 100 * time.Millisecond // without another one, when all who are known have answered
	rollMemory   = 10 * time.Minute       // for who does not answer any more, and has not said that they leave

	// MaxRollAnswer bounds what a process tells, in bytes.
	MaxRollAnswer = 64 << 10

	maxProcesses   = 512 // who answers when so many are known already is passed over
	maxProcessName = 128 // bytes
)

// Process is one that a roll call has found, of late or a while ago.
type Process struct {
	Name   string
	Answer []byte        // its last one; to be read only
	Heard  time.Time     // when that came
	Took   time.Duration // after the call
	Silent bool          // it has not answered the last call
}

// roll is who has answered.
type roll struct {
	mu    sync.Mutex // protects known; not held while answers are awaited
	known map[string]*Process
}

func (b *Bus) rollSubject() string { return subject("roll", string(b.cfg.Region)) }

// AnswerRoll answers roll calls to a name, until leave is called, which tells those
// who have heard of it that it is not missing. answer returns at most MaxRollAnswer
// bytes, soon; it is called by one goroutine at a time. No two processes may have
// one name.
func (b *Bus) AnswerRoll(name string, answer func() []byte) (leave func(), err error) {
	if !isProcessName(name) {
		return nil, fmt.Errorf("answer roll calls: %q is no name of a process", name)
	}
	sub, err := b.live.Subscribe(b.rollSubject(), func(m *nats.Msg) {
		if left := m.Header.Get(headerLeft); left != "" {
			b.roll.forget(left)
			return
		}
		if m.Reply == "" {
			return
		}
		data := answer()
		if len(data) > MaxRollAnswer {
			b.log.Error("what this process tells in roll calls is too long", "bytes", len(data))
			return
		}
		// By the connection that was asked: others may have no right to answer.
		b.live.PublishMsg(&nats.Msg{Subject: m.Reply, Header: nats.Header{headerProcess: {name}}, Data: data})
	})
	if err != nil {
		return nil, fmt.Errorf("answer roll calls: %w", err)
	}
	return func() {
		sub.Unsubscribe()
		// While NATS is away it fails at once, and the name is missed for a while.
		b.live.PublishMsg(&nats.Msg{Subject: b.rollSubject(), Header: nats.Header{headerLeft: {name}}})
	}, nil
}

// CallRoll returns the processes of the region that answer, and those that did so a
// short while ago and have not left, by their names. It takes half a second, or less
// when all who are known have answered. The error is a peal.ErrUnavailable; then
// those that are known are returned as they were.
func (b *Bus) CallRoll(ctx context.Context) ([]Process, error) {
	answers := make(chan *nats.Msg, maxProcesses)
	inbox := b.read.NewInbox()
	sub, err := b.read.ChanSubscribe(inbox, answers)
	if err != nil {
		return b.roll.all(), unavailable("call the roll", err)
	}
	defer sub.Unsubscribe()
	called := time.Now()
	if err := b.read.PublishRequest(b.rollSubject(), inbox, nil); err != nil {
		return b.roll.all(), unavailable("call the roll", err)
	}

	missing := b.roll.names()
	first := len(missing) == 0
	late := time.NewTimer(rollPatience)
	defer late.Stop()
	quiet := time.NewTimer(rollPatience)
	defer quiet.Stop()
	heard := make(map[string]*Process)
	for waiting := true; waiting; {
		select {
		case m := <-answers:
			if p := processOf(m, called); p != nil {
				heard[p.Name] = p
				delete(missing, p.Name)
			}
			if !first && len(missing) == 0 {
				quiet.Reset(rollQuiet)
			}
		case <-quiet.C:
			waiting = false
		case <-late.C:
			waiting = false
		case <-ctx.Done():
			waiting = false
		}
	}
	if ctx.Err() == nil && b.read.IsConnected() {
		b.roll.called(heard)
		return b.roll.all(), nil
	}
	return b.roll.all(), unavailable("call the roll", nats.ErrDisconnected)
}

// processOf reads an answer; nil if it is none.
func processOf(m *nats.Msg, called time.Time) *Process {
	name := m.Header.Get(headerProcess)
	if !isProcessName(name) || len(m.Data) > MaxRollAnswer {
		return nil
	}
	now := time.Now()
	return &Process{Name: name, Answer: m.Data, Heard: now, Took: now.Sub(called)}
}

// isProcessName reports whether a name is one that can be shown.
func isProcessName(name string) bool {
	return name != "" && len(name) <= maxProcessName && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// called takes who has answered a call, and drops who has not for long.
func (r *roll) called(heard map[string]*Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = make(map[string]*Process)
	}
	for name, p := range r.known {
		if p.Silent = heard[name] == nil; p.Silent && time.Since(p.Heard) > rollMemory {
			delete(r.known, name)
		}
	}
	for name, p := range heard {
		if r.known[name] != nil || len(r.known) < maxProcesses {
			r.known[name] = p
		}
	}
}

func (r *roll) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, name)
}

// names is who answered the last call.
func (r *roll) names() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := make(map[string]bool)
	for name, p := range r.known {
		if !p.Silent {
			names[name] = true
		}
	}
	return names
}

// all is who is known, by name.
func (r *roll) all() []Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Process, 0, len(r.known))
	for _, p := range r.known {
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b Process) int { return strings.Compare(a.Name, b.Name) })
	return all
}
