package bus

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pealhq/peal"
)

// A compact state says of each notification what it was made from, whatever is
// read, and that nothing later is read.
func TestCompactKeepsWhatIsRead(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		var seqs []uint64
		var isRead []bool
		next := uint64(10)
		for range r.IntN(12) {
			next += 1 + r.Uint64N(4)
			seqs = append(seqs, next)
			isRead = append(isRead, r.IntN(2) == 0)
		}
		s := compact("abcdefgh", 7, seqs, isRead)
		least := len(seqs) + 1
		for k := range len(seqs) + 1 { // every place of the floor
			n := 0
			for i := range seqs {
				if isRead[i] != (i < k) {
					n++
				}
			}
			least = min(least, n)
		}
		if got := len(s.read) + len(s.unread); got != least {
			t.Fatalf("%v %v: %d exceptions in %+v, want %d", seqs, isRead, got, s, least)
		}
		oldest := uint64(0)
		for i, seq := range seqs {
			if s.has(seq) != isRead[i] {
				t.Fatalf("%v %v: %+v has(%d) is %v", seqs, isRead, s, seq, s.has(seq))
			}
			if !isRead[i] && oldest == 0 {
				oldest = seq
			}
		}
		if s.oldest != oldest {
			t.Fatalf("%v %v: oldest is %d, want %d", seqs, isRead, s.oldest, oldest)
		}
		if s.has(next + 1) {
			t.Fatalf("%v %v: what comes later is read: %+v", seqs, isRead, s)
		}
		data, err := s.encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeState(data)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if got := back.state(); got.epoch != s.epoch || got.floor != s.floor || got.oldest != s.oldest ||
			!slices.Equal(got.read, s.read) || !slices.Equal(got.unread, s.unread) {
			t.Fatalf("%s: got %+v, want %+v", data, got, s)
		}
	}
}

// What somebody else has written where read states are is refused, not guessed at.
func TestDecodeStateRefuses(t *testing.T) {
	for _, tt := range []struct{ name, data, want string }{
		{"nothing", ``, "JSON"},
		{"no JSON", `{`, "JSON"},
		{"another type", `{"v":1,"floor":"7"}`, "JSON"},
		{"a later form", `{"v":2,"epoch":"abcdefgh","floor":7}`, "form 2"},
		{"no form", `{"epoch":"abcdefgh","floor":7}`, "form 0"},
		{"not sorted", `{"v":1,"floor":7,"unread":[3,2]}`, "order"},
		{"twice", `{"v":1,"floor":7,"read":[9,9]}`, "order"},
		{"unread above the floor", `{"v":1,"floor":7,"unread":[8]}`, "wrong side"},
		{"read below the floor", `{"v":1,"floor":7,"read":[7]}`, "wrong side"},
	} {
		if _, err := decodeState([]byte(tt.data)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", tt.name, err, tt.want)
		}
	}
}

// More changes than are told one by one are told as more.
func TestManyChangesAreMore(t *testing.T) {
	for n, more := range map[int]bool{0: false, maxChanges: false, maxChanges + 1: true} {
		data, err := readState{}.encode(make([]ReadChange, n))
		if err != nil {
			t.Fatal(err)
		}
		m, err := decodeState(data)
		if err != nil || m.More != more || !more && len(m.Changed) != n {
			t.Errorf("%d changes: got more %v and %d of them, %v", n, m.More, len(m.Changed), err)
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	f.Add([]byte(`{"v":1,"epoch":"abcdefgh","floor":7,"unread":[3],"read":[9,11],"oldest":3}`))
	f.Add([]byte(`{"v":1,"floor":18446744073709551615}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeState(data)
		if err != nil {
			return
		}
		s := m.state()
		for _, seq := range s.read {
			if !s.has(seq) {
				t.Fatalf("%s: %d is not read", data, seq)
			}
		}
		for _, seq := range s.unread {
			if s.has(seq) {
				t.Fatalf("%s: %d is read", data, seq)
			}
		}
	})
}

// Once there are more changes than are told one by one, none of them is told: who
// took the few after the hundredth for all would not fetch the list.
func TestTooManyChangesAreNoChanges(t *testing.T) {
	var n news
	for i := range uint64(3) {
		var m stateMessage
		for j := range 60 {
			m.Changed = append(m.Changed, ReadChange{ID: fmt.Sprint(i, "-", j), Read: true})
		}
		n.note(Cursor{Epoch: "abcdefgh", Seq: i + 1}, m, true)
		if want := i > 0; n.refetch != want || n.refetch && n.changed != nil {
			t.Fatalf("after %d changes: %d changes and refetch %t, want refetch %t and then no changes", 60*(i+1), len(n.changed), n.refetch, want)
		}
	}
}

// The longest ids make a state no longer than they are: escaped for HTML, which it is
// not, those of signs would take six bytes each.
func TestStoredStateIsAsLongAsItsIDs(t *testing.T) {
	id := strings.Repeat("<&>", peal.MaxID/3)
	changed := make([]ReadChange, maxChanges)
	for i := range changed {
		changed[i] = ReadChange{ID: id, Read: true}
	}
	data, err := readState{epoch: "abcdefgh", floor: 7}.encode(changed)
	if err != nil {
		t.Fatal(err)
	}
	if most := maxChanges*(len(id)+len(`{"id":"","read":true},`)) + 64; len(data) > most {
		t.Errorf("%d bytes, want %d at most", len(data), most)
	}
	m, err := decodeState(data)
	if err != nil || !slices.Equal(m.Changed, changed) || m.state().floor != 7 {
		t.Errorf("reads back as %+v, %v", m, err)
	}
	if data[len(data)-1] != '}' {
		t.Errorf("ends with %q", data[len(data)-1])
	}
}
