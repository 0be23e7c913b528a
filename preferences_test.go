package peal_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the rules of the zones below, wherever the tests run

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
)

// chosen has every field of preferences.
func chosen() peal.Preferences {
	return peal.Preferences{
		Types:        peal.Switches{peal.Comment: false, peal.Assignment: true},
		MinPriority:  peal.Low,
		MutedTickets: []string{"INC \"7\" <ü>", "12345"},
		QuietHours:   &peal.QuietHours{From: "22:00", To: "07:00", TimeZone: "Asia/Kolkata", ExceptUrgent: true},
	}
}

// What is stored, and what clients read and write. Two that mean the same have
// the same bytes, by which one tells whether they have changed.
func TestPreferencesJSON(t *testing.T) {
	tenants := peal.TenantPreferences{Preferences: chosen(), Locked: []peal.Type{peal.SLABreach, peal.Approval}}
	shuffled := tenants
	shuffled.MutedTickets = []string{"12345", "INC \"7\" <ü>"}
	shuffled.Locked = []peal.Type{peal.Approval, peal.SLABreach}
	for name, got := range map[string][]byte{
		"user": chosen().Encode(), "tenant": tenants.Encode(),
		"default": peal.Preferences{}.Encode(),
	} {
		want, err := os.ReadFile(filepath.Join("testdata", "preferences", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimSuffix(string(want), "\n"), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if got := shuffled.Encode(); string(got) != string(tenants.Encode()) {
		t.Errorf("in another order: got %s", got)
	}
	if got := (peal.TenantPreferences{Preferences: peal.Preferences{Types: peal.Switches{}, MutedTickets: []string{}}, Locked: []peal.Type{}}).Encode(); string(got) != "{}" {
		t.Errorf("empty lists: got %s, want {}", got)
	}
	back, err := peal.DecodeTenantPreferences(tenants.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shuffled, back); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	if got := tenants.MutedTickets[0]; got != chosen().MutedTickets[0] {
		t.Errorf("encoding has sorted the caller's own list: %s is first", got)
	}
}

// While a new release is rolled out the old one goes by what it understands: who
// has turned something off is not told of it because of a field that is new.
func TestPreferencesOfALaterVersion(t *testing.T) {
	p, err := peal.DecodePreferences([]byte(`{"types":{"comment":false,"rumour":false},"minPriority":"cosmic","digest":true,
		"quietHours":{"from":"22","to":"07:00","timeZone":"Asia/Kolkata"}}`))
	if err != nil {
		t.Fatal(err)
	}
	n := peal.Notification{Type: peal.Comment, Priority: peal.Low}
	if wanted, _ := (peal.Wishes{User: p}).Decide(n, time.Now(), nil); wanted {
		t.Error("a comment is wanted, and was turned off")
	}
	n.Type = peal.Mention
	if wanted, silent := (peal.Wishes{User: p}).Decide(n, time.Now(), nil); !wanted || silent {
		t.Errorf("a mention: wanted %t and silent %t, want it loud", wanted, silent)
	}
}

func TestMalformedPreferencesAreNotRead(t *testing.T) {
	for _, s := range []string{
		"", "{", "[]", `"x"`, "7", `{"types":[]}`, `{"types":{"comment":null}}`, `{"types":{"comment":0}}`, `{"minPriority":1}`, `{"mutedTickets":[1]}`,
		`{"quietHours":"22:00"}`, `{"mutedTickets":["` + strings.Repeat("x", peal.MaxPreferences) + `"]}`,
	} {
		p, err := peal.DecodePreferences([]byte(s))
		if !errors.Is(err, peal.ErrInvalid) || cmp.Diff(peal.Preferences{}, p) != "" {
			t.Errorf("%.40s: got %.100v and %v, want nothing and an ErrInvalid", s, p, err)
		}
		if _, err := peal.DecodeTenantPreferences([]byte(s)); !errors.Is(err, peal.ErrInvalid) {
			t.Errorf("%.40s: got %v, want an ErrInvalid", s, err)
		}
	}
}

func TestValidatePreferences(t *testing.T) {
	ids := func(n, length int) []string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf("%0*d", length, i)
		}
		return all
	}
	quiet := func(from, to, zone string) peal.Preferences {
		return peal.Preferences{QuietHours: &peal.QuietHours{From: from, To: to, TimeZone: zone}}
	}
	quotes := ids(1000, 64)
	for i := range quotes {
		quotes[i] += strings.Repeat(`"`, 64)
	}
	for _, tt := range []struct {
		name  string
		p     peal.Preferences
		field string // of the error; "" wants none
	}{
		{"none", peal.Preferences{}, ""},
		{"all", chosen(), ""},
		{"a type that there is not", peal.Preferences{Types: peal.Switches{"rumour": false}}, "types"},
		{"a type in another case", peal.Preferences{Types: peal.Switches{"Comment": false}}, "types"},
		{"a priority that there is not", peal.Preferences{MinPriority: "critical"}, "minPriority"},
		{"as many tickets as may be, with the longest ids", peal.Preferences{MutedTickets: ids(1000, 128)}, ""},
		{"one ticket more", peal.Preferences{MutedTickets: ids(1001, 4)}, "mutedTickets"},
		{"a ticket twice", peal.Preferences{MutedTickets: []string{"1", "2", "1"}}, "mutedTickets"},
		{"an empty id", peal.Preferences{MutedTickets: []string{"1", ""}}, "mutedTickets[1]"},
		{"a long id", peal.Preferences{MutedTickets: ids(1, 129)}, "mutedTickets[0]"},
		{"a control character", peal.Preferences{MutedTickets: []string{"a\x00"}}, "mutedTickets[0]"},
		{"no UTF-8", peal.Preferences{MutedTickets: []string{"\xff"}}, "mutedTickets[0]"},
		{"ids that JSON makes twice as long", peal.Preferences{MutedTickets: quotes}, "preferences"},
		{"no hour", quiet("", "07:00", "UTC"), "quietHours.from"},
		{"an hour without its zero", quiet("7:00", "08:00", "UTC"), "quietHours.from"},
		{"the hour 24", quiet("22:00", "24:00", "UTC"), "quietHours.to"},
		{"the minute 60", quiet("22:00", "06:60", "UTC"), "quietHours.to"},
		{"seconds", quiet("22:00", "06:30:00", "UTC"), "quietHours.to"},
		{"a line after it", quiet("22:00", "06:30\n", "UTC"), "quietHours.to"},
		{"other digits", quiet("22:00", "0٦:00", "UTC"), "quietHours.to"},
		{"the first and the last minute", quiet("23:59", "00:00", "UTC"), ""},
		{"no hour at all", quiet("00:00", "00:00", "UTC"), ""},
		{"a zone of three parts", quiet("22:00", "06:00", "America/Argentina/Buenos_Aires"), ""},
		{"an offset", quiet("22:00", "06:00", "Etc/GMT+5"), ""},
		{"no zone", quiet("22:00", "06:00", ""), "quietHours.timeZone"},
		{"the machine's zone", quiet("22:00", "06:00", "Local"), "quietHours.timeZone"},
		{"and by its file", quiet("22:00", "06:00", "localtime"), "quietHours.timeZone"},
		{"zones with leap seconds", quiet("22:00", "06:00", "right/Europe/Berlin"), "quietHours.timeZone"},
		{"a zone that there is not", quiet("22:00", "06:00", "Europe/Utopia"), "quietHours.timeZone"},
		{"a continent", quiet("22:00", "06:00", "Europe"), "quietHours.timeZone"},
		{"a path", quiet("22:00", "06:00", "../Europe/Berlin"), "quietHours.timeZone"},
		{"a path with a detour", quiet("22:00", "06:00", "Europe/../Europe/Berlin"), "quietHours.timeZone"},
		{"a path from the root", quiet("22:00", "06:00", "/usr/share/zoneinfo/UTC"), "quietHours.timeZone"},
		{"a backslash", quiet("22:00", "06:00", `Europe\Berlin`), "quietHours.timeZone"},
		{"a zero byte", quiet("22:00", "06:00", "UTC\x00"), "quietHours.timeZone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for who, err := range map[string]error{"user": tt.p.Validate(), "tenant": peal.TenantPreferences{Preferences: tt.p}.Validate()} {
				var invalid *peal.InvalidError
				switch errors.As(err, &invalid); {
				case tt.field == "" && err != nil:
					t.Errorf("%s: got %v, want no error", who, err)
				case tt.field != "" && (invalid == nil || invalid.Field != tt.field):
					t.Errorf("%s: got %v, want an InvalidError of %s", who, err, tt.field)
				}
			}
			if tt.field == "" && len(tt.p.Encode()) > peal.MaxPreferences {
				t.Errorf("%d bytes, more than can be stored", len(tt.p.Encode()))
			}
		})
	}
	for _, locked := range [][]peal.Type{{"rumour"}, {peal.Comment, peal.Comment}, {""}} {
		var invalid *peal.InvalidError
		if err := (peal.TenantPreferences{Locked: locked}).Validate(); !errors.As(err, &invalid) || invalid.Field != "locked" {
			t.Errorf("locked %v: got %v, want an InvalidError of locked", locked, err)
		}
	}
	if err := (peal.TenantPreferences{Locked: peal.Types()}).Validate(); err != nil {
		t.Errorf("all locked: %v", err)
	}
}

func TestWhoIsTold(t *testing.T) {
	night := time.Date(2025, 7, 10, 23, 0, 0, 0, time.UTC)
	off := func(types ...peal.Type) peal.Preferences {
		s := peal.Switches{}
		for _, t := range types {
			s[t] = false
		}
		return peal.Preferences{Types: s}
	}
	on := func(typ peal.Type) peal.Preferences { return peal.Preferences{Types: peal.Switches{typ: true}} }
	least := func(p peal.Priority) peal.Preferences { return peal.Preferences{MinPriority: p} }
	muted := func(ids ...string) peal.Preferences { return peal.Preferences{MutedTickets: ids} }
	quiet := func(from, to string, exceptUrgent bool) peal.Preferences {
		return peal.Preferences{QuietHours: &peal.QuietHours{From: from, To: to, TimeZone: "UTC", ExceptUrgent: exceptUrgent}}
	}
	all := func(parts ...peal.Preferences) (p peal.Preferences) {
		for _, part := range parts {
			if part.Types != nil {
				p.Types = part.Types
			}
			if part.MinPriority != "" {
				p.MinPriority = part.MinPriority
			}
			p.MutedTickets = append(p.MutedTickets, part.MutedTickets...)
			if part.QuietHours != nil {
				p.QuietHours = part.QuietHours
			}
		}
		return p
	}
	nothing := peal.Preferences{}
	tenant := func(p peal.Preferences, locked ...peal.Type) peal.TenantPreferences {
		return peal.TenantPreferences{Preferences: p, Locked: locked}
	}
	const loud, silent, not = "loud", "silent", "not told"
	for _, tt := range []struct {
		name   string
		user   peal.Preferences
		tenant peal.TenantPreferences
		typ    peal.Type
		prio   peal.Priority
		want   string // of ticket 1, at 23:00
	}{
		{"who has said nothing is told of everything", nothing, tenant(nothing), peal.WatchAdded, peal.Low, loud},

		{"who has turned a type off is not told", off(peal.Comment), tenant(nothing), peal.Comment, peal.Urgent, not},
		{"but of others", off(peal.Comment), tenant(nothing), peal.Mention, peal.Low, loud},
		{"what the tenant has turned off nobody is told", nothing, tenant(off(peal.Merge)), peal.Merge, peal.Low, not},
		{"but who has turned it on", on(peal.Merge), tenant(off(peal.Merge)), peal.Merge, peal.Low, loud},
		{"who has switched one type goes with the tenant for others", off(peal.Comment), tenant(off(peal.Merge)), peal.Merge, peal.Low, not},
		{"the user's off goes before the tenant's on", off(peal.Comment), tenant(on(peal.Comment)), peal.Comment, peal.Medium, not},

		{"below the minimum is not told", least(peal.High), tenant(nothing), peal.Comment, peal.Medium, not},
		{"the minimum is", least(peal.High), tenant(nothing), peal.Comment, peal.High, loud},
		{"the tenant's minimum is the default", nothing, tenant(least(peal.High)), peal.Comment, peal.Medium, not},
		{"which a user may lower", least(peal.Low), tenant(least(peal.High)), peal.Comment, peal.Low, loud},
		{"or raise", least(peal.Urgent), tenant(least(peal.Low)), peal.Comment, peal.High, not},

		{"of a muted ticket nobody is told", muted("0", "1"), tenant(nothing), peal.SLABreach, peal.Urgent, not},
		{"but of others", muted("2", "11", ""), tenant(nothing), peal.SLABreach, peal.Urgent, loud},
		{"what the tenant has muted is muted besides", muted("2"), tenant(muted("1")), peal.Comment, peal.High, not},
		{"and so is what the user has", muted("1"), tenant(muted("2")), peal.Comment, peal.High, not},

		{"a locked type is told though the user has turned it off", off(peal.SLABreach), tenant(nothing, peal.SLABreach), peal.SLABreach, peal.Urgent, loud},
		{"and though it is below the user's minimum", least(peal.Urgent), tenant(nothing, peal.SLAWarning), peal.SLAWarning, peal.Low, loud},
		{"and though the user has muted the ticket", muted("1"), tenant(nothing, peal.SLABreach), peal.SLABreach, peal.Urgent, loud},
		{"another type is not", off(peal.Comment), tenant(nothing, peal.SLABreach), peal.Comment, peal.Urgent, not},
		{"what is locked off stays off", on(peal.Merge), tenant(off(peal.Merge), peal.Merge), peal.Merge, peal.Low, not},
		{"the tenant's minimum holds for a locked type", least(peal.Low), tenant(least(peal.High), peal.Merge), peal.Merge, peal.Low, not},
		{"and so does what the tenant has muted", nothing, tenant(muted("1"), peal.Merge), peal.Merge, peal.Low, not},
		{"a locked type may be silent", quiet("22:00", "07:00", false), tenant(nothing, peal.SLABreach), peal.SLABreach, peal.Urgent, silent},

		{"in quiet hours silently", quiet("22:00", "07:00", false), tenant(nothing), peal.Comment, peal.Urgent, silent},
		{"after them loud", quiet("20:00", "23:00", false), tenant(nothing), peal.Comment, peal.High, loud},
		{"what is urgent may be excepted", quiet("22:00", "07:00", true), tenant(nothing), peal.Comment, peal.Urgent, loud},
		{"and nothing else is then", quiet("22:00", "07:00", true), tenant(nothing), peal.Comment, peal.High, silent},
		{"the tenant's quiet hours are the default", nothing, tenant(quiet("22:00", "07:00", false)), peal.Comment, peal.High, silent},
		{"the user's take their place", quiet("01:00", "02:00", false), tenant(quiet("22:00", "07:00", false)), peal.Comment, peal.High, loud},
		{"also by none", quiet("00:00", "00:00", false), tenant(quiet("22:00", "07:00", false)), peal.Comment, peal.High, loud},
		{"quiet hours are one value", quiet("22:00", "07:00", false), tenant(quiet("22:00", "07:00", true)), peal.Comment, peal.Urgent, silent},
		{"what is not told is not silent either", all(off(peal.Comment), quiet("22:00", "07:00", false)), tenant(nothing), peal.Comment, peal.High, not},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := peal.Notification{Type: tt.typ, Priority: tt.prio, TicketID: "1"}
			got := not
			switch wanted, quiet := (peal.Wishes{User: tt.user, Tenant: tt.tenant}).Decide(n, night, new(peal.Zones)); {
			case wanted && quiet:
				got = silent
			case wanted:
				got = loud
			case quiet:
				got = "silent and not told"
			}
			if got != tt.want {
				t.Errorf("%s, %s: got %s, want %s", tt.typ, tt.prio, got, tt.want)
			}
		})
	}
}

// The wall decides: what is shown there once an hour later, or twice, is so for
// quiet hours too.
func TestQuietHours(t *testing.T) {
	for _, tt := range []struct {
		zone, from, to string
		utc            string
		want           bool
		wall           string // there, then
	}{
		{"UTC", "09:00", "17:00", "2025-07-10T08:59:59Z", false, "08:59"},
		{"UTC", "09:00", "17:00", "2025-07-10T09:00:00Z", true, "09:00"},
		{"UTC", "09:00", "17:00", "2025-07-10T16:59:59Z", true, "16:59"},
		{"UTC", "09:00", "17:00", "2025-07-10T17:00:00Z", false, "17:00"},
		{"UTC", "00:00", "23:59", "2025-07-10T23:59:00Z", false, "23:59"},
		{"UTC", "12:00", "12:00", "2025-07-10T12:00:00Z", false, "12:00"},
		{"UTC", "12:00", "12:00", "2025-07-10T03:00:00Z", false, "03:00"},
		{"UTC", "22:00", "00:00", "2025-07-10T23:59:59Z", true, "23:59"},
		{"UTC", "22:00", "00:00", "2025-07-10T00:00:00Z", false, "00:00"},

		// Past midnight, half an hour off the whole, and no other time in summer.
		{"Asia/Kolkata", "22:00", "07:00", "2025-07-10T16:29:59Z", false, "21:59"},
		{"Asia/Kolkata", "22:00", "07:00", "2025-07-10T16:30:00Z", true, "22:00"},
		{"Asia/Kolkata", "22:00", "07:00", "2025-07-10T18:30:00Z", true, "00:00"},
		{"Asia/Kolkata", "22:00", "07:00", "2025-07-11T01:29:59Z", true, "06:59"},
		{"Asia/Kolkata", "22:00", "07:00", "2025-07-11T01:30:00Z", false, "07:00"},
		{"Asia/Kolkata", "22:00", "07:00", "2025-01-10T16:29:59Z", false, "21:59"},
		{"Asia/Kolkata", "22:00", "07:00", "2025-01-10T16:30:00Z", true, "22:00"},

		// The same hours in winter and in summer are others in UTC.
		{"Europe/Berlin", "22:00", "07:00", "2025-01-10T06:30:00Z", false, "07:30"},
		{"Europe/Berlin", "22:00", "07:00", "2025-07-10T04:59:59Z", true, "06:59"},
		{"Europe/Berlin", "22:00", "07:00", "2025-07-10T05:00:00Z", false, "07:00"},
		// 30 March 2025: after 01:59 comes 03:00.
		{"Europe/Berlin", "01:00", "02:30", "2025-03-30T00:59:59Z", true, "01:59"},
		{"Europe/Berlin", "01:00", "02:30", "2025-03-30T01:00:00Z", false, "03:00"},
		{"Europe/Berlin", "02:30", "04:00", "2025-03-30T00:59:59Z", false, "01:59"},
		{"Europe/Berlin", "02:30", "04:00", "2025-03-30T01:00:00Z", true, "03:00"},
		{"Europe/Berlin", "02:00", "03:00", "2025-03-30T00:59:59Z", false, "01:59"},
		{"Europe/Berlin", "02:00", "03:00", "2025-03-30T01:00:00Z", false, "03:00"},
		{"Europe/Berlin", "22:00", "07:00", "2025-03-30T04:59:59Z", true, "06:59"},
		{"Europe/Berlin", "22:00", "07:00", "2025-03-30T05:00:00Z", false, "07:00"},
		// 26 October 2025: after the first 02:59 comes 02:00 once more.
		{"Europe/Berlin", "02:15", "02:45", "2025-10-26T00:14:59Z", false, "02:14"},
		{"Europe/Berlin", "02:15", "02:45", "2025-10-26T00:30:00Z", true, "02:30"},
		{"Europe/Berlin", "02:15", "02:45", "2025-10-26T00:45:00Z", false, "02:45"},
		{"Europe/Berlin", "02:15", "02:45", "2025-10-26T01:00:00Z", false, "02:00"},
		{"Europe/Berlin", "02:15", "02:45", "2025-10-26T01:30:00Z", true, "02:30"},
		{"Europe/Berlin", "02:15", "02:45", "2025-10-26T01:45:00Z", false, "02:45"},
		{"Europe/Berlin", "22:00", "02:30", "2025-10-26T00:30:00Z", false, "02:30"},
		{"Europe/Berlin", "22:00", "02:30", "2025-10-26T01:00:00Z", true, "02:00"},

		// Half an hour is skipped and comes twice: 5 October 2025 after 01:59 comes
		// 02:30, 6 April 2025 after 01:59 comes 01:30.
		{"Australia/Lord_Howe", "02:00", "02:30", "2025-10-04T15:29:59Z", false, "01:59"},
		{"Australia/Lord_Howe", "02:00", "02:30", "2025-10-04T15:30:00Z", false, "02:30"},
		{"Australia/Lord_Howe", "02:00", "02:31", "2025-10-04T15:30:00Z", true, "02:30"},
		{"Australia/Lord_Howe", "01:30", "01:45", "2025-04-05T14:30:00Z", true, "01:30"},
		{"Australia/Lord_Howe", "01:30", "01:45", "2025-04-05T14:45:00Z", false, "01:45"},
		{"Australia/Lord_Howe", "01:30", "01:45", "2025-04-05T15:00:00Z", true, "01:30"},
		{"Australia/Lord_Howe", "01:30", "01:45", "2025-04-05T15:15:00Z", false, "01:45"},
		{"Australia/Lord_Howe", "22:00", "07:00", "2025-04-05T20:29:59Z", true, "06:59"},
		{"Australia/Lord_Howe", "22:00", "07:00", "2025-04-05T20:30:00Z", false, "07:00"},

		{"America/New_York", "22:00", "07:00", "2025-03-09T06:59:59Z", true, "01:59"},
		{"America/New_York", "02:00", "03:00", "2025-03-09T07:00:00Z", false, "03:00"},
		{"America/New_York", "01:00", "02:00", "2025-11-02T05:30:00Z", true, "01:30"},
		{"America/New_York", "01:00", "02:00", "2025-11-02T06:30:00Z", true, "01:30"},
		{"America/New_York", "01:00", "02:00", "2025-11-02T07:00:00Z", false, "02:00"},
	} {
		now, err := time.Parse(time.RFC3339, tt.utc)
		if err != nil {
			t.Fatal(err)
		}
		zone, err := time.LoadLocation(tt.zone)
		if err != nil {
			t.Fatal(err)
		}
		if wall := now.In(zone).Format("15:04"); wall != tt.wall {
			t.Errorf("%s %s: it is %s there, and not %s", tt.zone, tt.utc, wall, tt.wall)
		}
		q := peal.QuietHours{From: tt.from, To: tt.to, TimeZone: tt.zone}
		if got := q.Quiet(now.In(zone)); got != tt.want {
			t.Errorf("%s to %s in %s at %s: quiet is %t, want %t", tt.from, tt.to, tt.zone, tt.wall, got, tt.want)
		}
		w := peal.Wishes{User: peal.Preferences{QuietHours: &q}}
		for _, elsewhere := range []*time.Location{time.UTC, time.FixedZone("", -7*3600)} {
			wanted, silent := w.Decide(peal.Notification{Type: peal.Mention, Priority: peal.High}, now.In(elsewhere), new(peal.Zones))
			if !wanted || silent != tt.want {
				t.Errorf("%s to %s in %s at %s: wanted %t and silent %t, want silent %t", tt.from, tt.to, tt.zone, tt.wall, wanted, silent, tt.want)
			}
		}
	}
}

// A zone that was stored by somebody with a newer database is no reason to keep
// a notification back, nor to make it silent at the wrong hour.
func TestQuietHoursOfAnUnknownZone(t *testing.T) {
	zones := new(peal.Zones)
	for _, zone := range []string{"Europe/Utopia", "", "Local", "../UTC"} {
		w := peal.Wishes{User: peal.Preferences{QuietHours: &peal.QuietHours{From: "00:00", To: "23:59", TimeZone: zone}}}
		if wanted, silent := w.Decide(peal.Notification{Type: peal.Mention, Priority: peal.High}, time.Unix(0, 0), zones); !wanted || silent {
			t.Errorf("%q: wanted %t and silent %t, want it loud", zone, wanted, silent)
		}
	}
}

// Whatever is read is written as it was read, decides without a panic, and if it
// is valid can be stored.
func FuzzDecodePreferences(f *testing.F) {
	tenants := peal.TenantPreferences{Preferences: chosen(), Locked: []peal.Type{peal.SLABreach}}
	for _, s := range [][]byte{[]byte("{}"), []byte("null"), chosen().Encode(), tenants.Encode(),
		[]byte(`{"types":{"":true},"minPriority":"x","mutedTickets":["b","a","a"],"locked":[""]}`),
		[]byte(`{"quietHours":{"from":"99:99","to":":","timeZone":"Etc/GMT+5"}}`), []byte(`{"Types":{"comment":true},"TYPES":null}`)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := peal.DecodeTenantPreferences(b)
		if err != nil {
			if !errors.Is(err, peal.ErrInvalid) {
				t.Fatalf("got %v, want an ErrInvalid", err)
			}
			return
		}
		user, err := peal.DecodePreferences(b)
		if diff := cmp.Diff(p.Preferences, user); diff != "" || err != nil {
			t.Fatalf("a user's are others (%v):\n%s", err, diff)
		}
		encoded := p.Encode()
		if !json.Valid(encoded) || slices.Contains(encoded, '\n') {
			t.Fatalf("%s is not a line of JSON", encoded)
		}
		wishes := peal.Wishes{User: user, Tenant: p}
		for _, typ := range append(p.Locked, peal.Types()...) {
			wishes.Decide(peal.Notification{Type: typ, Priority: typ.DefaultPriority(), TicketID: "1"}, time.Unix(0, 0), nil)
		}
		if len(encoded) > peal.MaxPreferences {
			if p.Validate() == nil {
				t.Fatalf("%d bytes are valid", len(encoded))
			}
			return
		}
		back, err := peal.DecodeTenantPreferences(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if again := back.Encode(); string(again) != string(encoded) {
			t.Fatalf("%s is %s when it was read back", encoded, again)
		}
	})
}
