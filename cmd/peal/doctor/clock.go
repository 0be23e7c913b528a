package doctor

import "time"

// The difference of two clocks that is told, and the one that breaks things: tokens
// are good from their nbf and iat with a leeway of 30 s.
const (
	skewWarning = time.Second
	skewTrouble = 30 * time.Second
)

const setClocks = "Keep the clocks of all machines right, with chrony, systemd-timesyncd or what the cloud gives, and see which of the two is wrong: " +
	"tokens expire, and events are told twice or late, by clocks that do not agree."

// clock judges by how much the clock of somebody else is ahead of this machine's.
func clock(check string, ahead time.Duration) Finding {
	side := "ahead of"
	if ahead < 0 {
		side = "behind"
	}
	off := ahead.Abs()
	seen := "%s %s this machine's"
	shown := off.Round(100 * time.Millisecond).String()
	switch {
	case off > skewTrouble:
		return found(Trouble, check, setClocks, seen, shown, side)
	case off > skewWarning:
		return found(Warning, check, setClocks, seen, shown, side)
	case off > 0:
		return well(check, seen, shown, side)
	}
	return well(check, "agrees with this machine's")
}
