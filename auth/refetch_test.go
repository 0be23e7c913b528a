package auth

// Refetch has the keys of a realm fetched now, as the timer would, and returns
// when that has ended.
func (v *Verifier) Refetch(realm string) {
	k := v.snapshot().byName[realm].keys
	k.mu.Lock()
	if k.next == nil {
		k.next = newRound()
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
	r := k.next
	k.mu.Unlock()
	<-r.done
}

// Settle returns when no fetch of a realm's keys is under way that was when it
// was called.
func (v *Verifier) Settle(realm string) {
	k := v.snapshot().byName[realm].keys
	k.mu.Lock()
	r := k.running
	k.mu.Unlock()
	if r != nil {
		<-r.done
	}
}
