package dispatch_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/dispatch"
)

// crowd makes events of few users, so that they meet in many parts.
type crowd struct{ *rand.Rand }

func (c crowd) user() string {
	return []string{"ann", "bob", "cid", "dan", "eve", "partner/ann", "partner/bob"}[c.IntN(7)]
}

func (c crowd) users() []string {
	var all []string
	for range c.IntN(4) {
		all = append(all, c.user())
	}
	return all
}

func (c crowd) scene() scene {
	maybe := func(d detail) detail {
		if c.IntN(2) == 0 {
			return func(*scene) {}
		}
		return d
	}
	typ := peal.EventTypes()[c.IntN(len(peal.EventTypes()))]
	return event(typ, maybe(by(c.user())), maybe(assigned(c.user())), maybe(taken(c.user())), maybe(requested(c.user())),
		watched(c.users()...), mentions(c.users()...), approvers(c.users()...), recipients(c.users()...),
		maybe(queued(c.users()...)), maybe(moved(c.users()...)), maybe(internal))
}

// notice is how a user is told.
type notice struct {
	as      peal.Type
	reasons []peal.Reason
}

// notices are how each user is told. No user is told twice.
func notices(t testing.TB, r *dispatch.Rules, ev peal.TicketEvent, p dispatch.People) map[peal.Inbox]notice {
	t.Helper()
	told, err := r.Notifications(tenant, ev, p)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[peal.Inbox]notice)
	for i, pub := range told {
		if err := pub.Notification.Validate(nil); err != nil {
			t.Fatal(err)
		}
		for _, in := range pub.To {
			if _, twice := all[in]; twice {
				t.Fatalf("%s is told twice of %s", nameOf(in), ev.Encode())
			}
			all[in] = notice{pub.Notification.Type, pub.Notification.Reasons}
		}
		for _, other := range told[:i] {
			if string(pub.Notification.Encode()) == string(other.Notification.Encode()) {
				t.Fatalf("two publications are one: %s", pub.Notification.Encode())
			}
		}
	}
	return all
}

// sees are the users of a list.
func sees(all []peal.Inbox) map[peal.Inbox]bool {
	m := make(map[peal.Inbox]bool)
	for _, in := range all {
		m[in] = true
	}
	return m
}

// random calls test with scenes, always the same.
func random(t *testing.T, rounds int, test func(c crowd, s scene, p dispatch.People)) {
	d := directory(t)
	for seed := range rounds {
		c := crowd{rand.New(rand.NewPCG(uint64(seed), 1))}
		s := c.scene()
		p, err := dispatch.Resolve(d, tenant, s.ev)
		if err != nil {
			t.Fatal(err)
		}
		p.Queue, p.PreviousQueue = s.queue, s.previousQueue
		test(c, s, p)
		if t.Failed() {
			t.Fatalf("seed %d: %s, queue %v", seed, s.ev.Encode(), namesOf(s.queue))
		}
	}
}

// Who is told, and is given one more part, is told of no less: still once, for all
// the reasons there were, of nothing weaker; and nobody else is told otherwise. An
// assignee for a ticket without one is left out: a queue is no longer told then.
func TestOneMorePartTakesNothingAway(t *testing.T) {
	r, gained := rules(t, nil), 0
	random(t, 300, func(c crowd, s scene, p dispatch.People) {
		before := notices(t, r, s.ev, p)
		for _, in := range slices.SortedFunc(maps.Keys(before), func(a, b peal.Inbox) int { return strings.Compare(nameOf(a), nameOf(b)) }) {
			for part := range 7 {
				p := p
				switch part {
				case 0:
					p.Watchers = append(slices.Clip(p.Watchers), in)
				case 1:
					p.Mentions = append(slices.Clip(p.Mentions), in)
				case 2:
					p.Approvers = append(slices.Clip(p.Approvers), in)
				case 3:
					p.Recipients = append(slices.Clip(p.Recipients), in)
				case 4:
					p.Queue = append(slices.Clip(p.Queue), in)
				case 5:
					if p.Requester == nil {
						p.Requester = &in
					}
				case 6:
					if p.PreviousAssignee == nil {
						p.PreviousAssignee = &in
					}
				}
				after := notices(t, r, s.ev, p)
				if len(after) != len(before) {
					t.Errorf("part %d of %s: %d are told, before %d", part, nameOf(in), len(after), len(before))
				}
				for other, was := range before {
					is := after[other]
					if other != in && fmt.Sprint(is) != fmt.Sprint(was) {
						t.Errorf("part %d of %s: %s is told %v, before %v", part, nameOf(in), nameOf(other), is, was)
					}
					if was.as.StrongerThan(is.as) || slices.ContainsFunc(was.reasons, func(r peal.Reason) bool { return !slices.Contains(is.reasons, r) }) {
						t.Errorf("part %d of %s: told %v, before %v", part, nameOf(in), is, was)
					}
				}
				if len(after[in].reasons) > len(before[in].reasons) {
					gained++
				}
			}
		}
	})
	if gained < 500 {
		t.Errorf("only %d were told for one more reason", gained)
	}
}

// Without an actor the same are told of the same, and beside them at most who was it.
func TestOnlyTheActorIsLeftOut(t *testing.T) {
	r, left := rules(t, nil), 0
	random(t, 2000, func(c crowd, s scene, p dispatch.People) {
		before := notices(t, r, s.ev, p)
		actor := p.Actor
		p.Actor = peal.UserRef{}
		after := notices(t, r, s.ev, p)
		for in, is := range after {
			was, told := before[in]
			switch {
			case in.User == actor.ID && in.Namespace == actor.Namespace:
				left++
				if told {
					t.Errorf("the actor is told %v", was)
				}
			case !told || fmt.Sprint(is) != fmt.Sprint(was):
				t.Errorf("%s is told %v, before %v", nameOf(in), is, was)
			}
		}
		for in := range before {
			if _, told := after[in]; !told {
				t.Errorf("%s is told no more", nameOf(in))
			}
		}
	})
	if left < 300 {
		t.Errorf("only %d actors were left out", left)
	}
}

// The order of the lists changes the order of what is told, and nothing else; the
// same lists in the same order change nothing.
func TestOrderIsOrderAlone(t *testing.T) {
	r := rules(t, nil)
	random(t, 2000, func(c crowd, s scene, p dispatch.People) {
		first, second := lines(t, r, s.ev, p), lines(t, r, s.ev, p)
		if !slices.Equal(first, second) {
			t.Errorf("told %v, then %v", first, second)
		}
		before := notices(t, r, s.ev, p)
		u, saw, lost := dispatch.Update(s.ev, p)
		for _, list := range []*[]peal.Inbox{&p.Watchers, &p.Mentions, &p.Approvers, &p.Recipients, &p.Queue, &p.PreviousQueue} {
			*list = slices.Clone(*list)
			c.Shuffle(len(*list), func(i, j int) { (*list)[i], (*list)[j] = (*list)[j], (*list)[i] })
		}
		if after := notices(t, r, s.ev, p); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("told %v, before %v", after, before)
		}
		u2, saw2, lost2 := dispatch.Update(s.ev, p)
		if string(u.Encode()) != string(u2.Encode()) || fmt.Sprint(sees(saw)) != fmt.Sprint(sees(saw2)) || fmt.Sprint(sees(lost)) != fmt.Sprint(sees(lost2)) {
			t.Errorf("lists are told %s %v %v, before %s %v %v", u2.Encode(), saw2, lost2, u.Encode(), saw, lost)
		}
	})
}

// Of an event each inbox is in one list at most, and once, and all who see or saw the
// ticket are in one.
func TestListsDivideThoseWhoAreTold(t *testing.T) {
	random(t, 2000, func(c crowd, s scene, p dispatch.People) {
		u, saw, lost := dispatch.Update(s.ev, p)
		all := sees(append(slices.Clip(saw), lost...))
		if len(all) != len(saw)+len(lost) {
			t.Errorf("one is told twice: %v %v", namesOf(saw), namesOf(lost))
		}
		named := slices.Concat(p.Watchers, p.Queue, p.PreviousQueue)
		for _, in := range []*peal.Inbox{p.Assignee, p.Requester, p.PreviousAssignee} {
			if in != nil {
				named = append(named, *in)
			}
		}
		if fmt.Sprint(sees(named)) != fmt.Sprint(all) {
			t.Errorf("%v are told, want %v", all, sees(named))
		}
		if !slices.IsSortedFunc(u.Changes, func(a, b peal.Change) int { return order(a) - order(b) }) || len(slices.Compact(slices.Clone(u.Changes))) != len(u.Changes) {
			t.Errorf("changes %v", u.Changes)
		}
	})
}

// order is the place of a change in the contract's list of them.
func order(c peal.Change) int {
	return slices.Index([]peal.Change{
		"status", "assignee", "queue", "watchers", "comments", "approval", "sla", "escalation", "merge",
	}, c)
}

// BenchmarkNotifications is an event whose queue and watchers are as many as there
// may be.
func BenchmarkNotifications(b *testing.B) {
	r := rules(b, nil)
	s := on(peal.SLABreach, by("w1"), mentions("w2"), recipients("q3"))
	p := s.people(b)
	for i := range peal.MaxPeople {
		p.Watchers = append(p.Watchers, inbox(fmt.Sprint("w", i)))
		p.Queue = append(p.Queue, inbox(fmt.Sprint("q", i)))
	}
	b.Run("told", func(b *testing.B) {
		for b.Loop() {
			told, err := r.Notifications(tenant, s.ev, p)
			if err != nil || len(told) != 4 {
				b.Fatal(len(told), err)
			}
		}
	})
	b.Run("lists", func(b *testing.B) {
		for b.Loop() {
			if _, saw, _ := dispatch.Update(s.ev, p); len(saw) != 2*peal.MaxPeople {
				b.Fatal(len(saw))
			}
		}
	})
}
