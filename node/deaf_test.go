package node_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// Over HTTP/2 a peer only has to open no window, and the shortest answer waits. It is
// given up after the write timeout, also where nobody has said who they are.
func TestAnswersThatNobodyTakesEnd(t *testing.T) {
	const timeout = 300 * time.Millisecond
	s := start(t, func(c *config) { c.node.WriteTimeout = timeout })
	jane, nobody := s.jane(), s.jane()
	nobody.token = "x"
	at := s.list(jane, "").Cursor
	s.stored(1, 3)
	for _, tt := range []struct {
		user user
		path string
	}{
		{nobody, "/livez"}, {nobody, "/openapi.yaml"}, {nobody, "/peal.js"}, {nobody, "/nothing"}, {nobody, countPath},
		{jane, countPath}, {jane, listPath}, {jane, listPath + "?after=" + at}, {jane, listPath + "?wait=1&after=" + at},
		{jane, userPreferencePath}, {jane, tenantPreferencePath}, {jane, listPath + "?limit=0"},
	} {
		c := s.dial()
		began := time.Now()
		io.WriteString(c, shutWindow+getBy(tt.user, tt.path))
		if err := awaitReset(c); err != nil {
			t.Errorf("%s: %v", tt.path, err)
		}
		if d := time.Since(began); d < timeout {
			t.Errorf("%s: given up after %v, want %v", tt.path, d, timeout)
		}
	}
	eventually(t, "all are let go", func() bool { return s.node.Unfinished(inbox("jane")) == 0 })
}

// Frames of HTTP/2: RFC 9113, 4.1 and 6.
const (
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
)

func frame(kind, flags byte, stream uint32, payload []byte) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = binary.BigEndian.AppendUint32(append(b, flags), stream)
	return string(append(b, payload...))
}

// shutWindow begins a connection on whose streams no data may be sent.
var shutWindow = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(frameSettings, 0, 0, []byte{0, 4, 0, 0, 0, 0})

// getBy is a whole request as the first stream, with its headers as they are: RFC
// 7541, 6.2.2 and 5.2.
func getBy(u user, path string) string {
	var block []byte
	for _, h := range [][2]string{
		{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", path},
		{"authorization", "Bearer " + u.token}, {"realmname", u.realm}, {"x-tenantid", string(u.tenant)},
	} {
		block = append(block, 0)
		for _, s := range h {
			if long := len(s) - 0x7f; long >= 0 {
				block = binary.AppendUvarint(append(block, 0x7f), uint64(long))
			} else {
				block = append(block, byte(len(s)))
			}
			block = append(block, s...)
		}
	}
	const endOfHeaders, endOfStream = 4, 1
	return frame(frameHeaders, endOfHeaders|endOfStream, 1, block)
}

// awaitReset reads frames until the first stream is reset, after its head has come.
func awaitReset(c net.Conn) error {
	for answered := false; ; {
		var head [9]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return fmt.Errorf("no reset; answered: %v: %w", answered, err)
		}
		kind, stream := head[3], binary.BigEndian.Uint32(head[5:])
		if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head[:])>>8)); err != nil {
			return err
		}
		switch {
		case stream != 1:
		case kind == frameHeaders:
			answered = true
		case kind == frameReset && !answered:
			return fmt.Errorf("reset before it was answered")
		case kind == frameReset:
			return nil
		}
	}
}

// A list may be more than sockets hold: who takes nothing of it does not keep it.
func TestListOfADeafPeerEnds(t *testing.T) {
	s := start(t, func(c *config) { c.node.WriteTimeout = time.Second })
	for i := range 200 { // 2.8 MB
		s.store(inbox("jane"), bulky(fmt.Sprint("bulk-", i)))
	}
	c := s.dial()
	c.(*net.TCPConn).SetReadBuffer(4096)
	began := time.Now()
	io.WriteString(c, s.head(s.jane(), "GET "+listPath+"?limit=200 HTTP/1.1")+"\r\n")
	for err := error(nil); err == nil; { // until the socket is closed there; till then nobody reads it
		_, err = io.WriteString(c, "x")
		<-time.After(20 * time.Millisecond)
	}
	if d := time.Since(began); d < time.Second || d > 10*time.Second {
		t.Errorf("ended after %v, want 1 s", d)
	}
}

// An answer that nobody takes stays in memory: a user has room for some of them,
// and nobody else waits for it. A poll has no more of it than a list.
func TestUnreadAnswersAreBounded(t *testing.T) {
	s := start(t, nil)
	for i := range 200 { // 2.8 MB
		s.store(inbox("jane"), bulky(fmt.Sprint("bulk-", i)))
	}
	before := s.list(s.user("acme", acme, "joe"), "").Cursor
	var deaf []net.Conn
	for i := range 16 {
		c := s.dial()
		deaf = append(deaf, c)
		c.(*net.TCPConn).SetReadBuffer(4096)
		query := "?limit=200"
		if i%2 == 1 {
			query += "&after=" + before
		}
		io.WriteString(c, s.head(s.jane(), "GET "+listPath+query+" HTTP/1.1")+"\r\n")
	}
	eventually(t, "all of them are under way", func() bool { return s.node.Unfinished(inbox("jane")) == 16 })
	for _, path := range []string{listPath, countPath, userPreferencePath} {
		wantProblem(t, s.do(s.request(context.Background(), "GET", path, s.jane(), "")), 429, "RATE_LIMIT", "Retry-After")
	}
	if a := s.do(s.request(context.Background(), "GET", countPath, s.user("acme", acme, "joe"), "")); a.status != 200 {
		t.Errorf("somebody else: got %d %s", a.status, a.body)
	}
	for _, c := range deaf {
		c.Close()
	}
	eventually(t, "they are let go", func() bool { return s.node.Unfinished(inbox("jane")) == 0 })
	if a := s.do(s.request(context.Background(), "GET", countPath, s.jane(), "")); a.status != 200 {
		t.Errorf("once they are gone: got %d %s", a.status, a.body)
	}
}

// The answers that wait to be read have bounded room, all users' together. Who finds
// none comes back later.
func TestAnswersHaveBoundedRoom(t *testing.T) {
	s := start(t, nil)
	s.stored(1, 1)
	list := func() answer { return s.do(s.request(context.Background(), "GET", listPath, s.jane(), "")) }
	empty := s.node.FillAnswers()
	wantProblem(t, list(), 503, "UNAVAILABLE", "")
	s.count(s.jane()) // is short
	empty()
	if a := list(); a.status != 200 {
		t.Errorf("with room again: got %d %s", a.status, a.body)
	}
}
