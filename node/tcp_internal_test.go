package node

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pealhq/peal/bus"
)

// Whatever it speaks, a connection's peer is known to the kernel's timeouts.
func TestPeerOfEveryProtocolIsKnown(t *testing.T) {
	borrowed := httptest.NewTLSServer(http.NotFoundHandler())
	defer borrowed.Close()
	for _, secure := range []bool{false, true} {
		for _, second := range []bool{false, true} {
			t.Run(fmt.Sprintf("TLS %v HTTP/2 %v", secure, second), func(t *testing.T) {
				n := New(Config{}, nil, &bus.Bus{})
				srv := n.server(t.Context(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if peerOf(r.Context()) == nil || (r.ProtoMajor == 2) != second {
						t.Errorf("%s: its peer is %v", r.Proto, peerOf(r.Context()))
					}
				}))
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				served := make(chan error, 1)
				scheme := "http"
				if secure {
					scheme = "https"
					srv.TLSConfig = &tls.Config{Certificates: borrowed.TLS.Certificates}
					go func() { served <- srv.ServeTLS(l, "", "") }()
				} else {
					go func() { served <- srv.Serve(l) }()
				}
				tr := borrowed.Client().Transport.(*http.Transport).Clone()
				tr.Protocols = new(http.Protocols)
				tr.Protocols.SetHTTP1(!second)
				tr.Protocols.SetHTTP2(second && secure)
				tr.Protocols.SetUnencryptedHTTP2(second && !secure)
				resp, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Get(scheme + "://" + l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				tr.CloseIdleConnections()
				srv.Close()
				<-served
			})
		}
	}
}
