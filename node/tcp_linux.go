package node

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// setAckTimeout bounds how long sent bytes may stay unacknowledged: without it
// Linux sends them again for about a quarter of an hour, and no probes meanwhile.
func setAckTimeout(t *net.TCPConn, d time.Duration) {
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

// setMaxUnsent bounds what waits in the kernel to be sent for the first time.
func setMaxUnsent(t *net.TCPConn, bytes int) {
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bytes)
	})
}

// unheard reports whether something that was sent is without an answer and the
// last one came so long ago. The pause between two probes of a closed window
// doubles, so that the age of an answer alone tells nothing.
func unheard(t *net.TCPConn, since time.Duration) (is bool) {
	raw, err := t.SyscallConn()
	if err != nil {
		return false
	}
	raw.Control(func(fd uintptr) {
		i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		is = err == nil && (i.Retransmits > 0 || i.Probes > 0) && time.Duration(i.Last_ack_recv)*time.Millisecond >= since
	})
	return is
}

// sent says how many bytes of what was written to a peer it has acknowledged, and how
// many not. ok is false where that can't be known. The first may be 0 for ever, of a
// system that does not count them.
func sent(t *net.TCPConn) (acked uint64, outstanding int, ok bool) {
	raw, err := t.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	raw.Control(func(fd uintptr) {
		// In this order: what is acknowledged in between counts twice, and so the sum is
		// never less than what was written before.
		if outstanding, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err != nil {
			return
		}
		ok = true
		if i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			acked = i.Bytes_acked
		}
	})
	return acked, outstanding, ok
}
