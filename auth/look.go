package auth

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// KeysSeen is what the issuer of a realm answers when it is asked for the realm's
// keys, once and as a Verifier asks.
type KeysSeen struct {
	URL     string    // what was asked last: with Discovery the document, if that went wrong
	Keys    []KeySeen // those that a Verifier would use
	Dropped []error   // why it would not use the others
	Took    time.Duration
	Err     error   // nil if there is a key that can be used
	How     Refresh // the same as a Verifier counts it

	// Ahead is by how much the issuer's clock is ahead of ours, at least, as far as
	// its answer says: negative if it is behind. An answer gives whole seconds.
	Ahead time.Duration
	Dated bool // the answer has a date
}

// KeySeen is a public key.
type KeySeen struct {
	ID        string
	Algorithm string // "" if it may be for any that its type allows
	Type      string // RSA, EC or OKP
}

// Look asks for the keys of a realm.
func Look(ctx context.Context, r Realm) KeysSeen {
	var seen KeysSeen
	began := time.Now()
	asked := began
	s := source{realm: r.withDefaults(), answered: func(res *http.Response) {
		seen.URL = res.Request.URL.Redacted()
		if date, ok := dateOf(res.Header); ok {
			seen.Ahead, seen.Dated = aheadBy(date, asked, time.Now()), true
		}
		asked = time.Now() // the next one is asked now
	}}
	seen.URL = s.realm.JWKS
	if s.realm.Discovery {
		seen.URL = strings.TrimSuffix(s.realm.Issuer, "/") + discovery
	}
	keys, dropped, err := s.fetch(ctx)
	seen.Took, seen.Dropped, seen.Err, seen.How = time.Since(began), dropped, err, refreshOf(err)
	for _, k := range keys {
		m := k.Marshal()
		seen.Keys = append(seen.Keys, KeySeen{m.KID, m.ALG.String(), m.KTY.String()})
	}
	return seen
}

// dateOf is when an answer was made, by the clock of who made it; what a cache has
// kept is as old as its Age says.
func dateOf(h http.Header) (time.Time, bool) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}, false
	}
	if age, err := strconv.Atoi(h.Get("Age")); err == nil && age > 0 {
		date = date.Add(time.Duration(age) * time.Second)
	}
	return date, true
}

// aheadBy is by how much a clock is ahead, at least, that showed a second between
// two times of ours.
func aheadBy(second, from, to time.Time) time.Duration {
	switch last := second.Add(time.Second); {
	case second.After(to):
		return second.Sub(to)
	case last.Before(from):
		return last.Sub(from)
	}
	return 0
}
