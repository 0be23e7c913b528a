package peal

import (
	"regexp"
	"strconv"
	"sync"
	"time"
)

// QuietHours are a part of every day in which notifications are made silent. It
// begins with From and ends before To, by the clock on a wall in TimeZone; where
// From is after To it goes on past midnight. Where both are the same no hour is
// quiet: so a user goes without the quiet hours of the tenant.
//
// A day on which clocks change is as long as the wall says: of an hour that is
// skipped nothing is quiet, and one that comes twice is quiet twice.
type QuietHours struct {
	From         string `json:"from"`     // "22:00"
	To           string `json:"to"`       // "07:00"
	TimeZone     string `json:"timeZone"` // a name of the IANA database: "Asia/Kolkata"
	ExceptUrgent bool   `json:"exceptUrgent"`
}

// clock is a time of day.
var clock = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)

// zoneForm is that of names in the IANA database, in which a name has at most
// three parts. It lets no path be made of one.
var zoneForm = regexp.MustCompile(`^[A-Z][A-Za-z0-9_+-]{0,31}(/[A-Z][A-Za-z0-9_+-]{0,31}){0,2}$`)

func (q QuietHours) validate() error {
	for _, c := range []struct{ field, value string }{{"quietHours.from", q.From}, {"quietHours.to", q.To}} {
		if !clock.MatchString(c.value) {
			return Invalid(c.field, "must be a time of day from 00:00 to 23:59")
		}
	}
	if _, err := loadZone(q.TimeZone); err != nil {
		return Invalid("quietHours.timeZone", "must be a name of the IANA time zone database, such as Europe/Berlin")
	}
	return nil
}

// loadZone loads the rules of a zone that has a name in the IANA database, which
// "Local" is not, nor "".
func loadZone(name string) (*time.Location, error) {
	if !zoneForm.MatchString(name) || name == "Local" {
		return nil, Invalid("timeZone", "must be a name of the IANA time zone database")
	}
	return time.LoadLocation(name)
}

// silence reports whether a notification that is made now is silent.
func (q QuietHours) silence(p Priority, now time.Time, zones *Zones) bool {
	if q.ExceptUrgent && p == Urgent {
		return false
	}
	if !clock.MatchString(q.From) || !clock.MatchString(q.To) {
		return false // stored by a version that knows more
	}
	zone, err := zones.load(q.TimeZone)
	return err == nil && q.Quiet(now.In(zone))
}

// Quiet reports whether a moment lies in q, by the clock of its own location;
// TimeZone is not looked at. q is valid.
func (q QuietHours) Quiet(local time.Time) bool {
	from, to := minutes(q.From), minutes(q.To)
	now := local.Hour()*60 + local.Minute()
	if from <= to {
		return from <= now && now < to
	}
	return from <= now || now < to
}

// minutes of a day, of a time that fits clock.
func minutes(hhmm string) int {
	h, _ := strconv.Atoi(hhmm[:2])
	m, _ := strconv.Atoi(hhmm[3:])
	return h*60 + m
}

// Zones remembers time zones that were loaded, which takes a file each time. It
// grows no larger than the database of the machine. The zero value is empty and
// ready; nil remembers nothing. Its methods may be called concurrently.
type Zones struct {
	loaded sync.Map // name → *time.Location
}

func (z *Zones) load(name string) (*time.Location, error) {
	if z == nil {
		return loadZone(name)
	}
	if zone, ok := z.loaded.Load(name); ok {
		return zone.(*time.Location), nil
	}
	zone, err := loadZone(name)
	if err == nil {
		z.loaded.Store(name, zone)
	}
	return zone, err
}
