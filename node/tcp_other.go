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
