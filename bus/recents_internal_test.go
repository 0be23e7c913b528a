package bus

import (
	"fmt"
	"testing"
)

// What is kept stays within its bound, what was used last is kept longest, and
// what is kept of another incarnation is not given out.
func TestRecentsAreBounded(t *testing.T) {
	one := recent{"abcdefgh", []kept{{seq: 1, data: make([]byte, 1300-keptOverhead-13)}}}
	r := newRecents(4*1300 + 100) // four of them
	for i := range 4 {
		r.put(fmt.Sprint("acme.staff.u", i), one)
	}
	r.get("acme.staff.u0", "abcdefgh")
	r.put("acme.staff.u4", one)
	r.put("globex.staff.u4", one)
	for i, want := range []int{1, 0, 0, 1, 1} {
		if got := len(r.get(fmt.Sprint("acme.staff.u", i), "abcdefgh").kept); got != want {
			t.Errorf("of u%d %d are kept, want %d", i, got, want)
		}
	}
	if got := r.get("acme.staff.u4", "ijklmnop"); len(got.kept) > 0 || got.epoch != "ijklmnop" {
		t.Errorf("of another incarnation %+v is kept", got)
	}
	r.put("acme.staff.u4", recent{"abcdefgh", []kept{{seq: 1, data: make([]byte, 6000)}}})
	if got := r.get("acme.staff.u4", "abcdefgh"); len(got.kept) > 0 {
		t.Error("what is more than the bound is kept")
	}
	r.drop("acme")
	if len(r.all) != 1 || len(r.get("globex.staff.u4", "abcdefgh").kept) != 1 {
		t.Errorf("after a tenant was dropped %d inboxes are kept, want the other tenant's", len(r.all))
	}
	r.drop("globex.staff.u4")
	if r.size != 0 || r.order.Len() != 0 {
		t.Errorf("nothing is kept, of %d bytes and %d inboxes", r.size, r.order.Len())
	}
}
