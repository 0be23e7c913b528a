package bus

// recent is the newest notifications of an inbox, without a hole between them. It
// is not changed once it is made.
type recent struct {
	epoch Epoch
	kept  []kept // ascending
}

// kept is a stored notification, as far as it is needed.
type kept struct {
	seq   uint64
	msgID string // its Nats-Msg-Id
	data  []byte
	brief brief // of data
}

// first and last are the sequences of the oldest and the newest; 0 if there is
// none.
func (r recent) first() uint64 {
	if len(r.kept) == 0 {
		return 0
	}
	return r.kept[0].seq
}

func (r recent) last() uint64 {
	if len(r.kept) == 0 {
		return 0
	}
	return r.kept[len(r.kept)-1].seq
}

// from returns those from a sequence on.
func (r recent) from(seq uint64) recent {
	i := 0
	for i < len(r.kept) && r.kept[i].seq < seq {
		i++
	}
	return recent{r.epoch, r.kept[i:]}
}

// with returns older, r and newer as one. What is not on the right side of r is
// left out.
func (r recent) with(older, newer []kept) recent {
	all := make([]kept, 0, len(older)+len(r.kept)+len(newer))
	for _, k := range older {
		if len(r.kept) == 0 || k.seq < r.first() {
			all = append(all, k)
		}
	}
	all = append(all, r.kept...)
	for _, k := range newer {
		if k.seq > r.last() {
			all = append(all, k)
		}
	}
	return recent{r.epoch, all}
}
