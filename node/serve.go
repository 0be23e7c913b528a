package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Listeners are the two ports of a node.
type Listeners struct {
	Public net.Listener
	Admin  net.Listener

	// Certificates for the public port. nil means plain text, with HTTP/2 for
	// clients that know beforehand (h2c).
	TLS *tls.Config
}

const (
	headerTimeout = 10 * time.Second // for a request's head to arrive
	idleTimeout   = 2 * time.Minute  // between requests
	maxHeader     = 32 << 10         // bytes: a token of 12 kB and what proxies add
	maxStreams    = 32               // HTTP/2 streams of one connection
	sightPatience = 2 * time.Second  // for the revocations to be seen, before the first request is taken
	lastAnswers   = 5 * time.Second  // for the calls under way when the node ends: more than the bus takes
)

// Serve answers on the listeners until ctx ends, then lets go of the
// connections as the contract says, and returns when no call is under way any
// more. now, if it ends too, cuts that short. The error is that of a listener.
// Serve is called once.
func (n *Node) Serve(ctx, now context.Context, l Listeners) error {
	// Of the requests and of the wheel, which outlive ctx.
	base, stop := context.WithCancel(context.Background())
	public := n.server(base, n.Handler())
	admin := n.server(base, n.Admin())
	servePublic := public.Serve
	if l.TLS != nil {
		public.TLSConfig = l.TLS
		servePublic = func(p net.Listener) error { return public.ServeTLS(p, "", "") }
	}

	n.listening.Store(new(l.Public.Addr().String()))
	leaveRoll, err := n.bus.AnswerRoll(n.name, n.answerRoll)
	if err != nil {
		stop()
		return fmt.Errorf("serve: %w", err)
	}
	defer leaveRoll()

	failed := make(chan error, 2)
	var running sync.WaitGroup
	running.Go(func() { n.turn(base) })
	stopFollowing := n.bus.FollowRevocations(n.take)
	running.Go(func() { n.watchCallers(base) })
	running.Go(func() { n.fence(base) })
	running.Go(func() {
		n.awaitSight(base)
		failed <- servePublic(vigilant{l.Public})
	})
	running.Go(func() { failed <- admin.Serve(l.Admin) })
	defer func() {
		public.Close()
		admin.Close()
		stop()
		running.Wait()
		stopFollowing()
		n.finish()
	}()

	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	n.drain(now)
	last, cancel := context.WithTimeout(now, lastAnswers)
	defer cancel()
	public.Shutdown(last) // the calls under way; fails if it takes too long, then they are cut off
	return nil
}

// awaitSight lets the first requests wait for the revocations to be seen, for
// they would be refused before. It does not wait for ever: the health of a node
// that sees nothing is to be seen.
func (n *Node) awaitSight(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sightPatience)
	defer cancel()
	n.bus.AwaitRevocations(ctx) // who comes when it failed is refused
}

func (n *Node) server(base context.Context, h http.Handler) *http.Server {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		Protocols:         &p,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),

		// OPTIONS * is for the router to refuse.
		DisableGeneralOptionsHandler: true,
	}
}

// pause waits, but not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
