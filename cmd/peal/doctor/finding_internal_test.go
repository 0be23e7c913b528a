package doctor

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func saying(name string, after <-chan struct{}) Check {
	return Check{name, 5 * time.Second, func(ctx context.Context) []Finding {
		select {
		case <-after:
		case <-ctx.Done():
		}
		return []Finding{well(name, "seen")}
	}}
}

// Checks run side by side, and what they find is told in their order.
func TestRunTellsInOrder(t *testing.T) {
	first, second := make(chan struct{}), make(chan struct{})
	close(second)
	checks := []Check{
		saying("first", first),
		{"second", time.Second, func(context.Context) []Finding { // the first waits for this one
			close(first)
			return []Finding{well("second", "seen"), skipped("second", "more")}
		}},
		saying("third", second),
	}
	var got []string
	if err := Run(t.Context(), checks, func(f []Finding) {
		for _, f := range f {
			got = append(got, f.Check+" "+f.Seen)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"first seen", "second seen", "second more", "third seen"}, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// What can't be called off is given up, and nobody waits for it when all is to end.
func TestRunWaitsForNothingThatHangs(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	hangs := Check{"disk", time.Millisecond, func(context.Context) []Finding { <-release; return nil }}
	var got []Finding
	if err := Run(t.Context(), []Check{hangs}, func(f []Finding) { got = append(got, f...) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Status != Trouble || got[0].Check != "disk" || got[0].Do == "" {
		t.Errorf("told %+v", got)
	}
	hangs.Bound = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	began := time.Now()
	err := Run(ctx, []Check{hangs}, func([]Finding) { t.Error("told of what was cut short") })
	if took := time.Since(began); !errors.Is(err, context.Canceled) || took > 5*time.Second {
		t.Errorf("ended after %v with %v", took, err)
	}
}
