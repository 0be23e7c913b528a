package bus

import (
	"slices"
	"strconv"
	"strings"
)

// metaLineage is the key of a stream's metadata under which it says which epochs it
// had before, without having been made anew.
const metaLineage = "peal.lineage"

// maxLineage bounds what is remembered of it: whoever has read nothing for so many
// restores has nothing read.
const maxLineage = 16

// lineage is the epochs that a stream has had, the oldest first, and where each has
// ended: a restore from a backup leaves the messages up to some place as they were,
// and gives the sequences beyond to others. So cursors must not outlive it, which
// may name any sequence; and what was read may, up to there.
type lineage []ended

// ended is an epoch that is over.
type ended struct {
	epoch Epoch
	last  uint64 // sequence of the stream's last message then
}

// then returns the lineage after another epoch has ended.
func (l lineage) then(e Epoch, last uint64) lineage {
	l = append(slices.Clone(l), ended{e, last})
	return l[max(0, len(l)-maxLineage):]
}

// String is its stored form: "abcdefg2:17 bcdefgh3:21".
func (l lineage) String() string {
	var all []string
	for _, e := range l {
		all = append(all, string(e.epoch)+":"+strconv.FormatUint(e.last, 10))
	}
	return strings.Join(all, " ")
}

// parseLineage reads the stored form. What can't be read was written by somebody else,
// and all before it counts as unknown.
func parseLineage(s string) (l lineage) {
	for _, field := range strings.Fields(s) {
		epoch, digits, _ := strings.Cut(field, ":")
		last, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || len(epoch) != epochLen {
			l = nil
			continue
		}
		l = append(l, ended{Epoch(epoch), last})
	}
	return l
}

// common is the last sequence that means the same today as in an epoch; ok is false if
// that is none of the lineage.
func (l lineage) common(e Epoch) (last uint64, ok bool) {
	i := slices.IndexFunc(l, func(was ended) bool { return was.epoch == e })
	if i < 0 {
		return 0, false
	}
	last = l[i].last
	for _, later := range l[i+1:] {
		last = min(last, later.last)
	}
	return last, true
}

// upTo returns the state without what it says of later notifications than one, and
// as one of another epoch: they are unread.
func (s readState) upTo(last uint64, e Epoch) readState {
	is := func(seqs []uint64) []uint64 {
		n, _ := slices.BinarySearch(seqs, last+1)
		return seqs[:n:n]
	}
	s.epoch, s.floor, s.unread, s.read = e, min(s.floor, last), is(s.unread), is(s.read)
	if s.oldest > last {
		s.oldest = 0
	}
	return s
}

// carried returns a read state as one of the epoch of the inbox stream, as far as that
// has the messages that the state speaks of. A state of an epoch that is unknown stays
// what it is: perhaps it will be known.
func (f facts) carried(s readState) readState {
	if last, ok := f.lineage.common(s.epoch); ok && s.epoch != f.epoch {
		return s.upTo(last, f.epoch)
	}
	return s
}

// in returns a read state as it is in an epoch of the inbox stream: in one that it can
// be carried to, or has been; in any other nothing is read.
func (p *partition) in(s readState, e Epoch) readState {
	if s.epoch != e && s.epoch != "" {
		s = p.known().carried(s)
	}
	if s.epoch != e {
		return readState{epoch: e}
	}
	return s
}
