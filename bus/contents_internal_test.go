package bus

import (
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus/embedded"
)

// An inbox that is larger than what may be kept in memory is read all the same.
func TestInboxLargerThanWhatIsKept(t *testing.T) {
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Store: 8 << 30, Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	b, err := Open(t.Context(), Config{Server: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	in := peal.Inbox{Tenant: "11111111-1111-4111-8111-111111111111", Namespace: "staff", User: "jane"}
	n := peal.Notification{ID: "n1", Type: peal.Mention, TicketID: "1", TicketNumber: "1", Title: "t"}.WithDefaults(time.Now())
	if _, err := b.Publish(t.Context(), Publication{To: []peal.Inbox{in}, Notification: n}); err != nil {
		t.Fatal(err)
	}
	b.recents.most = 100
	if c, err := b.Count(t.Context(), in); err != nil || c.Unread != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}
