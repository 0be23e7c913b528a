package dispatch

import "time"

// Late shortens the clock after which who is told already is asked.
func (d *Dispatcher) Late(after time.Duration) { d.late = after }
