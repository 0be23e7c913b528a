package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// status is how the processes of the region, and the streams they stand on, are:
// what the page shows, and what {admin}/status.json answers.
type status struct {
	V       int            `json:"v"`
	At      peal.Timestamp `json:"at"`
	By      string         `json:"by"` // the process that says so
	Region  string         `json:"region"`
	Version string         `json:"version"` // of that process

	Attention []trouble `json:"attention"` // the worst first

	Totals    totals    `json:"totals"`
	Processes []process `json:"processes"`
	Queue     queue     `json:"queue"`
	Streams   []stream  `json:"streams"`
	Realms    []realm   `json:"realms"`  // as the process that says so has their keys
	Ended     []tally   `json:"ended"`   // connections, by reason
	Refused   []tally   `json:"refused"` // requests, by the code of the problem

	// NATS can be asked by the process that says so; else what is here of others
	// and of streams is old.
	NATS bool `json:"nats"`
}

// process is one of the region.
type process struct {
	Name string `json:"name"`
	Self bool   `json:"self"` // it is the one that says so

	Silent bool               `json:"silent"` // it has not answered: the rest is what it told last
	Heard  peal.Timestamp     `json:"heard"`
	Told   bool               `json:"told"`   // the rest is known: it speaks as we do
	Clock  *float64           `json:"clock"`  // seconds ahead of most others; nil if it is not known
	Within float64            `json:"within"` // seconds that this may be wrong by
	Rates  map[string]float64 `json:"rates"`  // of the counts, a second; nil as long as there is one sample

	present
}

// totals adds up the processes that answer.
type totals struct {
	Processes   int                `json:"processes"`
	Connections float64            `json:"connections"`
	Counts      map[string]float64 `json:"counts"`
	Rates       map[string]float64 `json:"rates"` // nil as long as none has any
}

// queue is the ticket events that wait.
type queue struct {
	backlog
	Seen  *peal.Timestamp `json:"seen"`  // when that was so; nil if nobody knows
	Wrong string          `json:"wrong"` // why it could not be seen now
}

// stream is a stream or a bucket.
type stream struct {
	Name     string          `json:"name"`
	Bucket   bool            `json:"bucket"`
	Seen     *peal.Timestamp `json:"seen"`  // when its leader told the rest; nil if never
	Lacks    string          `json:"lacks"` // why it does not now; "" if it does
	Since    *peal.Timestamp `json:"since"` // of that
	Messages uint64          `json:"messages"`
	Bytes    uint64          `json:"bytes"`
	MaxBytes int64           `json:"maxBytes"` // 0: no bound
	Refuses  bool            `json:"refuses"`  // what is new, when it is full; else the oldest are dropped
	Memory   bool            `json:"memory"`
	Oldest   *peal.Timestamp `json:"oldest"`
	Newest   *peal.Timestamp `json:"newest"`
	Leader   string          `json:"leader"`
	Copies   int             `json:"copies"`
	Replicas []replica       `json:"replicas"`
}

// full is how full a stream is, from 0 to 1 and a little more; -1 without a bound.
func (s stream) full() float64 {
	if s.MaxBytes <= 0 {
		return -1
	}
	return float64(s.Bytes) / float64(s.MaxBytes)
}

type replica struct {
	Server  string  `json:"server"`
	Current bool    `json:"current"`
	Offline bool    `json:"offline"`
	Lag     uint64  `json:"lag"`
	Silent  float64 `json:"silentSeconds"`
}

// realm is how its keys are.
type realm struct {
	Realm  string   `json:"realm"`
	Usable bool     `json:"usable"`
	Keys   int      `json:"keys"`
	Age    *float64 `json:"ageSeconds"` // nil if they were never fetched
	Wrong  string   `json:"wrong"`      // of the latest fetch; "" if it went well
}

// tally is how often something has happened in the processes that answer, since each
// was started.
type tally struct {
	What  string   `json:"what"`
	Count float64  `json:"count"`
	Rate  *float64 `json:"rate"` // a second; nil as long as there is one sample
}

const (
	lookEvery    = 2 * time.Second        // however many look
	lookPatience = 700 * time.Millisecond // for processes and streams, before the page shows what it has
	maxViewers   = 32                     // who look all the time
)

// showStatus answers GET {admin}/: the status as a page. It is whole without its
// script, which only puts newer numbers in.
func (n *Node) showStatus(w http.ResponseWriter, r *request) error {
	if _, err := r.onlyQuery(); err != nil {
		return err
	}
	v, err := n.lookout.look(r.Context())
	if err != nil {
		return err
	}
	nonce := rand.Text()
	var page bytes.Buffer
	if err := statusPage.ExecuteTemplate(&page, "page", pageView{Status: v.status, Nonce: nonce, Style: statusStyle, Script: statusScript}); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+nonce+"'; script-src 'nonce-"+nonce+"'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	w.Write(page.Bytes())
	return nil
}

// tellStatus answers GET {admin}/status.json: the same for programs.
func (n *Node) tellStatus(w http.ResponseWriter, r *request) error {
	if _, err := r.onlyQuery(); err != nil {
		return err
	}
	v, err := n.lookout.look(r.Context())
	if err != nil {
		return err
	}
	return answerJSON(w, http.StatusOK, v.status)
}

// followStatus answers GET {admin}/status/events: the part of the page that changes,
// each time that it is made anew. The data of an event is HTML in JSON's quotes: it
// has many lines.
func (n *Node) followStatus(w http.ResponseWriter, r *request) error {
	if err := r.acceptsEventStream(); err != nil {
		return err
	}
	if _, err := r.onlyQuery(); err != nil {
		return err
	}
	if !n.lookout.enter() {
		return errManyLook
	}
	defer n.lookout.leave()
	out := http.NewResponseController(w)
	var last *view
	for {
		v, err := n.lookout.look(r.Context())
		if err != nil {
			return err
		}
		if last == nil {
			beginEventStream(w)
		}
		if v != last {
			html, err := v.html()
			if err != nil {
				return err
			}
			out.SetWriteDeadline(time.Now().Add(n.cfg.WriteTimeout))
			if _, err := fmt.Fprintf(w, "event: status\ndata: %s\n\n", encode(string(html))); err != nil {
				return err
			}
			if err := out.Flush(); err != nil {
				return err
			}
		}
		last = v
		pause(r.Context(), time.Until(v.at.Add(lookEvery)))
	}
}

// lookAround makes the status anew, within lookPatience and a little more.
func (n *Node) lookAround(ctx context.Context) (processes []bus.Process, reached bool, survey bus.Survey) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookPatience)
	defer cancel()
	surveyed := make(chan struct{})
	go func() { defer close(surveyed); survey = n.bus.Survey(ctx) }()
	processes, err := n.bus.CallRoll(ctx)
	<-surveyed
	return processes, err == nil, survey
}
