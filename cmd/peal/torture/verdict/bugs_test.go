package verdict_test

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/pealhq/peal/cmd/peal/torture/history"
	"github.com/pealhq/peal/cmd/peal/torture/verdict"
)

// bug is a fault of the service, as a history shows it.
type bug struct {
	name string
	want verdict.Kind
	also []verdict.Kind // what it cannot but show besides
	// plant returns what becomes of each record. It says when the bug is there.
	plant func(p *plot) func(r history.Record) []history.Record
}

// plot is where a bug is planted: from some record on, at the first that fits.
type plot struct {
	r       *rand.Rand
	n, from int // records so far, and the first that may be changed
	planted *bool
}

// here reports, once, that the bug may be planted at this record.
func (p *plot) here() bool {
	if *p.planted || p.n < p.from {
		return false
	}
	*p.planted = true
	return true
}

func (b bug) in(records iter.Seq[*history.Record], seed uint64, planted *bool) iter.Seq[*history.Record] {
	return func(yield func(*history.Record) bool) {
		r := rand.New(rand.NewPCG(seed, 7))
		p := &plot{r: r, from: 2500 + r.IntN(4000), planted: planted}
		become := b.plant(p)
		for r := range records {
			p.n++
			for _, x := range become(*r) {
				x.At, x.File, x.Line = r.At, r.File, r.Line
				if !yield(&x) {
					return
				}
			}
		}
	}
}

type records = []history.Record

// change plants what changes one record of a kind.
func change(k history.Kind, do func(r *history.Record) bool) func(p *plot) func(history.Record) records {
	return func(p *plot) func(history.Record) records {
		return func(r history.Record) records {
			if r.Kind == k && p.n >= p.from && !*p.planted {
				if x := r; do(&x) {
					p.here()
					r = x
				}
			}
			return records{r}
		}
	}
}

// drop plants what keeps a record from being there: the first that first wants, and
// all that more wants, which is told of it.
func drop(first func(r history.Record) bool, more func(victim, r history.Record) bool) func(p *plot) func(history.Record) records {
	return func(p *plot) func(history.Record) records {
		var victim history.Record
		return func(r history.Record) records {
			if first(r) && p.here() {
				victim = r
				return nil
			}
			if victim.Kind != "" && more(victim, r) {
				return nil
			}
			return records{r}
		}
	}
}

// add plants what comes after a record.
func add(k history.Kind, more func(r history.Record) records) func(p *plot) func(history.Record) records {
	return func(p *plot) func(history.Record) records {
		return func(r history.Record) records {
			if r.Kind == k && p.n >= p.from && !*p.planted {
				if x := more(r); x != nil {
					p.here()
					return append(records{r}, x...)
				}
			}
			return records{r}
		}
	}
}

// moved is a cursor a little further on, where nothing is.
func moved(cursor string, by int) string {
	var seq int
	epoch, digits, _ := strings.Cut(cursor, "-")
	fmt.Sscan(digits, &seq)
	return fmt.Sprintf("%s-%d", epoch, max(seq+by, 1))
}

func bugs() []bug {
	isReceived := func(r history.Record) bool { return r.Kind == history.Received }
	never := func(_, _ history.Record) bool { return false }
	numbers := []verdict.Kind{verdict.Diverged} // what a device counts is wrong too
	return []bug{
		{"a notification is delivered to nobody and in no list", verdict.Lost, numbers, lostForAll},
		{"a notification is stored, and delivered to nobody", verdict.Hole, append(numbers, verdict.Away), nobodyHears},
		{"a device is led past one", verdict.Hole, numbers, drop(isReceived, never)},
		{"a device hears nothing any more", verdict.Away, append(numbers, verdict.Hole), deaf},
		{"a resumed connection begins one too late", verdict.Hole, numbers, seamSkips},
		{"a resumed connection begins one too early", verdict.Duplicated, nil, seamRepeats},
		{"a connection gets one twice", verdict.Duplicated, numbers, add(history.Received, func(r history.Record) records { return records{r} })},
		{"two are delivered in the other order", verdict.Reordered, []verdict.Kind{verdict.Hole}, swapped},
		{"events of a ticket are worked on in the other order", verdict.Reordered, nil, ticketSwapped},
		{"what was published later is stored before", verdict.Reordered, []verdict.Kind{verdict.Hole, verdict.StoredTwice}, change(history.Received, func(r *history.Record) bool {
			r.Cursor = moved(r.Cursor, -10_000)
			return true
		})},
		{"a notification of somebody else", verdict.Foreign, append(numbers, verdict.Hole, verdict.Away), change(history.Received, func(r *history.Record) bool {
			r.Foreign = "a digest of t1/ns/u7"
			return true
		})},
		{"a notification from nowhere", verdict.Foreign, append(numbers, verdict.Hole, verdict.Away), change(history.Received, func(r *history.Record) bool {
			r.Number = 1_000_000
			return true
		})},
		{"a retry is stored once more", verdict.StoredTwice, numbers, add(history.Received, func(r history.Record) records {
			r.Cursor = moved(r.Cursor, 1)
			return records{r}
		})},
		{"a retry says that it was stored", verdict.StoredTwice, nil, change(history.Answer, func(r *history.Record) bool {
			r.Stores = 1
			return r.Again
		})},
		{"a list has one twice", verdict.StoredTwice, append(numbers, verdict.Counted, verdict.Lost, verdict.Unmarked), change(history.Inbox, func(r *history.Record) bool {
			r.Entries[1].Number = r.Entries[2].Number
			return true
		})},
		{"a list lacks what was delivered", verdict.Lost, append(numbers, verdict.Counted), change(history.Inbox, func(r *history.Record) bool {
			r.Entries = r.Entries[1:]
			return true
		})},
		{"a list is in disorder", verdict.Reordered, []verdict.Kind{verdict.Unmarked, verdict.StoredTwice}, change(history.Inbox, func(r *history.Record) bool {
			r.Entries = slices.Clone(r.Entries)
			r.Entries[0], r.Entries[1] = r.Entries[1], r.Entries[0]
			return true
		})},
		{"six connections of a user", verdict.Limit, nil, crowd},
		{"a token that has expired goes on", verdict.Expired, nil, func(p *plot) func(history.Record) records {
			return func(r history.Record) records {
				if r.Kind == history.Open && (p.here() || *p.planted) { // one alone may be cut off before it shows
					r.Expires = r.Server + 2e6
				}
				return records{r}
			}
		}},
		{"an end before the token's", verdict.Expired, []verdict.Kind{verdict.Undocumented}, add(history.Received, func(r history.Record) records {
			return records{{Kind: history.Error, Conn: r.Conn, Device: r.Device, Code: "TOKEN_EXPIRED"}}
		})},
		{"a count that is one too high", verdict.Counted, nil, change(history.Inbox, func(r *history.Record) bool { r.Unread++; return true })},
		{"a node that counts otherwise", verdict.Diverged, nil, change(history.Count, func(r *history.Record) bool { r.Unread++; return true })},
		{"a node with an older read state", verdict.Diverged, nil, change(history.Count, func(r *history.Record) bool { r.Version = "v-1"; return true })},
		{"a device that is not told of a mark", verdict.Diverged, nil, untold},
		{"an acknowledged mark is undone", verdict.Unmarked, numbers, change(history.Inbox, func(r *history.Record) bool {
			i := slices.IndexFunc(r.Entries, func(e history.Entry) bool { return e.Read })
			if i < 0 {
				return false
			}
			r.Entries = slices.Clone(r.Entries)
			r.Entries[i].Read = false
			r.Unread++
			return true
		})},
		{"what nobody marked is read", verdict.Unmarked, numbers, change(history.Inbox, func(r *history.Record) bool {
			if r.Entries[0].Read {
				return false
			}
			r.Entries = slices.Clone(r.Entries)
			r.Entries[0].Read = true
			r.Unread--
			return true
		})},
		{"a 500", verdict.Undocumented, nil, refusedWith(500, "INTERNAL")},
		{"a 401 with a good token", verdict.Undocumented, nil, refusedWith(401, "UNAUTHENTICATED")},
		{"a 429 with one device", verdict.Undocumented, nil, add(history.Dial, func(history.Record) records {
			return records{
				{Kind: history.Dial, Conn: "lonely", Device: "lonely", User: "t9/ns/lonely"},
				{Kind: history.Refused, Conn: "lonely", Device: "lonely", User: "t9/ns/lonely", Status: 429, Code: "CONNECTION_LIMIT"},
			}
		})},
		{"a publish is refused for good", verdict.Undocumented, nil, add(history.Publish, func(r history.Record) records {
			return records{{Kind: history.Answer, Publication: r.Publication, Outcome: history.Denied, Status: 400, Code: "INVALID_REQUEST"}}
		})},
		{"a clean end", verdict.Undocumented, nil, change(history.End, func(r *history.Record) bool {
			was := r.How
			r.How = history.Clean
			return was == history.Left
		})},
		{"the service breaks off without a word", verdict.Undocumented, nil, change(history.End, func(r *history.Record) bool {
			was := r.How
			r.How = history.Cut
			return was == history.Left
		})},
		{"an internal error ends a connection", verdict.Undocumented, nil, change(history.Error, func(r *history.Record) bool {
			r.Code = "INTERNAL"
			return true
		})},
		{"a gap where nothing is missing", verdict.Groundless, nil, add(history.Received, func(r history.Record) records {
			return records{{Kind: history.Gap, Conn: r.Conn, Device: r.Device, Code: "HISTORY_TRUNCATED", Cursor: r.Cursor}}
		})},
		{"another epoch", verdict.Groundless, append(numbers, verdict.Hole, verdict.Away), change(history.Received, func(r *history.Record) bool {
			r.Cursor = strings.Replace(r.Cursor, "epoch0", "epoch9", 1)
			return true
		})},
		{"a device does not come back", verdict.Away, []verdict.Kind{verdict.Unreadable, verdict.Late}, staysAway},
		{"goroutines are left behind", verdict.Leaked, nil, change(history.Usage, func(r *history.Record) bool { r.Goroutines += 10; return r.Phase == history.After })},
		{"subscriptions are left behind", verdict.Leaked, nil, change(history.Usage, func(r *history.Record) bool { r.Subscriptions += 4; return r.Phase == history.After })},
		{"memory is left behind", verdict.Leaked, nil, change(history.Usage, func(r *history.Record) bool { r.RSS += 8 << 20; return r.Phase == history.After })},
	}
}

// refusedWith has an attempt to connect refused.
func refusedWith(status int, code string) func(p *plot) func(history.Record) records {
	return add(history.Dial, func(r history.Record) records {
		return records{{Kind: history.Refused, Conn: r.Conn, Device: r.Device, User: r.User, Node: r.Node, Status: status, Code: code}, r}
	})
}

// lostForAll chooses a publication that is acknowledged.
func lostForAll(p *plot) func(history.Record) records {
	var user string
	var number int
	users := make(map[string]string) // device → user
	acked := make(map[string][]history.To)
	return func(r history.Record) records {
		switch {
		case r.Kind == history.Dial:
			users[r.Device] = r.User
		case r.Kind == history.Publish:
			acked[r.Publication] = r.To
		case r.Kind == history.Answer && r.Outcome == history.Stored && acked[r.Publication] != nil && p.here():
			to := acked[r.Publication][0]
			user, number = to.User, to.Number
		case r.Kind == history.Received && users[r.Device] == user && r.Number == number:
			return nil
		case r.Kind == history.Inbox && r.User == user:
			before := len(r.Entries)
			r.Entries = slices.DeleteFunc(slices.Clone(r.Entries), func(e history.Entry) bool {
				if e.Number == number && !e.Read {
					r.Unread--
				}
				return e.Number == number
			})
			if len(r.Entries) == before {
				panic("the lost one is not in the list")
			}
		}
		return records{r}
	}
}

// nobodyHears is the same, but it is in the list.
func nobodyHears(p *plot) func(history.Record) records {
	forget := lostForAll(p)
	return func(r history.Record) records {
		if r.Kind == history.Inbox {
			return records{r}
		}
		return forget(r)
	}
}

// deaf has a device hear nothing any more, though its connection stays.
func deaf(p *plot) func(history.Record) records {
	var victim string
	return func(r history.Record) records {
		if r.Kind == history.Received && p.here() {
			victim = r.Device
		}
		if victim != "" && r.Device == victim && (r.Kind == history.Received || r.Kind == history.Open && r.Recovered) {
			if r.Kind == history.Open { // it resumes where it was
				return records{r}
			}
			return nil
		}
		return records{r}
	}
}

// seamSkips drops the first of a resumed connection, with one after it.
func seamSkips(p *plot) func(history.Record) records {
	resumed := make(map[string]bool)
	return func(r history.Record) records {
		if r.Kind == history.Open {
			resumed[r.Conn] = r.Recovered
		}
		if r.Kind == history.Received && resumed[r.Conn] {
			delete(resumed, r.Conn)
			if p.here() {
				return nil
			}
		}
		return records{r}
	}
}

// seamRepeats sends the last of the connection before once more.
func seamRepeats(p *plot) func(history.Record) records {
	last := make(map[string]history.Record) // device → what it got
	return func(r history.Record) records {
		if r.Kind == history.Received {
			last[r.Device] = r
		}
		if before, ok := last[r.Device]; r.Kind == history.Open && r.Recovered && ok && p.here() {
			before.Conn, before.Read = r.Conn, true
			return records{r, before}
		}
		return records{r}
	}
}

// swapped holds one back until the next of the connection.
func swapped(p *plot) func(history.Record) records {
	var held *history.Record
	return func(r history.Record) records {
		if held != nil && r.Kind == history.Received && r.Conn == held.Conn {
			x := *held
			held = nil
			return records{r, x}
		}
		if held != nil && r.Conn == held.Conn && r.Kind != history.State { // none comes
			x := *held
			held = nil
			*p.planted = false
			return records{x, r}
		}
		if r.Kind == history.Received && p.here() {
			held = &r
			return nil
		}
		return records{r}
	}
}

// ticketSwapped has a later event of a ticket be worked on first: what is stored in
// second place is of the first.
func ticketSwapped(p *plot) func(history.Record) records {
	var ticket string
	var first int
	return func(r history.Record) records {
		if r.Kind != history.Publish || r.Ticket == "" {
			return records{r}
		}
		if p.here() {
			ticket, first = r.Ticket, r.Number
		}
		if r.Ticket == ticket && r.Number <= first+1 {
			r.Number = 2*first + 1 - r.Number
		}
		return records{r}
	}
}

// crowd has four more devices of a user connect at once, who are all heard of after
// that.
func crowd(p *plot) func(history.Record) records {
	return func(r history.Record) records {
		if r.Kind != history.Beat || !p.here() {
			return records{r}
		}
		all := records{r}
		open := func(i int) string { return fmt.Sprint("crowd-", i) }
		for i := range 6 {
			all = append(all, history.Record{Kind: history.Dial, Conn: open(i), Device: open(i), User: "t9/ns/crowd", Node: "edge-0"},
				history.Record{Kind: history.Open, Conn: open(i), Device: open(i), Cursor: "epoch000-7", Version: "v0", Server: r.Server + int64(i), Expires: r.Server + 60e6})
		}
		for i := range 6 {
			all = append(all, history.Record{Kind: history.Beat, Conn: open(i), Server: r.Server + 10},
				history.Record{Kind: history.End, Conn: open(i), How: history.Left})
		}
		return all
	}
}

// untold keeps the changes of the read state from a device.
func untold(p *plot) func(history.Record) records {
	var victim history.Record
	seen := make(map[string]string) // connection → what it was told last
	return func(r history.Record) records {
		// Only the last of a connection that stays can be missing for good.
		switch r.Kind {
		case history.State:
			if p.n >= p.from && victim.Kind == "" {
				victim = r
			}
			if victim.Conn == r.Conn {
				seen[r.Conn] = r.Version
				*p.planted = true
				return nil
			}
		case history.End:
			if r.Conn == victim.Conn { // another one
				victim = history.Record{}
				*p.planted = false
			}
		}
		return records{r}
	}
}

// staysAway has a device that was cut off never come back.
func staysAway(p *plot) func(history.Record) records {
	var victim string
	return func(r history.Record) records {
		if r.Kind == history.End && p.here() {
			victim = r.Device
			return records{r}
		}
		if victim != "" && r.Device == victim && r.Kind != history.Rest {
			return nil
		}
		return records{r}
	}
}
