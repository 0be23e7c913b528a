//go:build !linux

package node

import (
	"net"
	"time"
)

// setAckTimeout does nothing: the write timeout of a connection bounds the same
// there, later.
func setAckTimeout(*net.TCPConn, time.Duration) {}

func setMaxUnsent(*net.TCPConn, int) {}

func unheard(*net.TCPConn, time.Duration) bool { return false }

// sent knows nothing: what a peer has received shows there when it says so itself.
func sent(*net.TCPConn) (acked uint64, outstanding int, ok bool) { return 0, 0, false }
