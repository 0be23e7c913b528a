package bus

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLineage(t *testing.T) {
	l := parseLineage("aaaaaaa2:10 bbbbbbb3:4 ccccccc4:7")
	if got, want := l.String(), "aaaaaaa2:10 bbbbbbb3:4 ccccccc4:7"; got != want {
		t.Errorf("written again: %q, want %q", got, want)
	}
	for _, tt := range []struct {
		epoch Epoch
		last  uint64
		ok    bool
	}{
		{"aaaaaaa2", 4, true}, // the second restore went back further
		{"bbbbbbb3", 4, true},
		{"ccccccc4", 7, true},
		{"ddddddd5", 0, false},
		{"", 0, false},
	} {
		if last, ok := l.common(tt.epoch); last != tt.last || ok != tt.ok {
			t.Errorf("in common with %q: %d, %v, want %d, %v", tt.epoch, last, ok, tt.last, tt.ok)
		}
	}
	for in, want := range map[string]string{
		"": "", "x": "", "aaaaaaa2:1 mine bbbbbbb3:2": "bbbbbbb3:2", "aaaaaaa2:-1": "", "aaaaaaa2:1:2": "",
	} {
		if got := parseLineage(in).String(); got != want {
			t.Errorf("%q is read as %q, want %q", in, got, want)
		}
	}
	for range 3 * maxLineage {
		l = l.then(newEpoch(), 1)
	}
	if len(l) != maxLineage {
		t.Errorf("%d are kept, want %d", len(l), maxLineage)
	}
}

func TestReadStateUpTo(t *testing.T) {
	s := readState{epoch: "aaaaaaa2", floor: 10, unread: []uint64{3, 7, 9}, read: []uint64{12, 15}, oldest: 3}
	unread, read := slices.Clone(s.unread), slices.Clone(s.read)
	for _, tt := range []struct {
		last uint64
		want readState
	}{
		{20, readState{epoch: "bbbbbbb3", floor: 10, unread: []uint64{3, 7, 9}, read: []uint64{12, 15}, oldest: 3}},
		{12, readState{epoch: "bbbbbbb3", floor: 10, unread: []uint64{3, 7, 9}, read: []uint64{12}, oldest: 3}},
		{7, readState{epoch: "bbbbbbb3", floor: 7, unread: []uint64{3, 7}, read: []uint64{}, oldest: 3}},
		{2, readState{epoch: "bbbbbbb3", floor: 2, unread: []uint64{}, read: []uint64{}}},
		{0, readState{epoch: "bbbbbbb3", unread: []uint64{}, read: []uint64{}}},
	} {
		got := s.upTo(tt.last, "bbbbbbb3")
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(readState{})); diff != "" {
			t.Errorf("up to %d (-want +got):\n%s", tt.last, diff)
		}
		_ = append(got.unread, 99) // must not write into what others hold
		_ = append(got.read, 99)
	}
	if !slices.Equal(s.unread, unread) || !slices.Equal(s.read, read) {
		t.Errorf("the state has changed: %+v", s)
	}
}
