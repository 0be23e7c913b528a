package node

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/intake"
)

const (
	maxBody = 1 << 20 // bytes

	// bodyTimeout bounds the reading of a body: a mebibyte at 100 kB/s.
	bodyTimeout = 10 * time.Second

	// What of bodies may be in memory at once, in bytes: of callers who may
	// publish, and of all others, who would only hear in the end that they may
	// not. Growing buffers take about three times as much.
	maxBodies    = 128 << 20
	maxStrangers = 8 << 20

	// What of lists may wait in memory at once for those who asked for them.
	maxAnswers = 256 << 20
)

// room bounds what of unfinished bodies, or answers, is in memory.
type room struct {
	most int64
	held atomic.Int64
}

var (
	errNoRoom      = fmt.Errorf("too many bodies are being read: %w", peal.ErrUnavailable)
	errManyAnswers = fmt.Errorf("too many answers wait to be read: %w", peal.ErrUnavailable)
)

// enter takes so many bytes of a room for an answer, until leave is called.
func (r *room) enter(size int) (leave func(), err error) {
	leave = func() { r.held.Add(-int64(size)) }
	if r.held.Add(int64(size)) > r.most {
		leave()
		return nil, errManyAnswers
	}
	return leave, nil
}

// roomed reads a body within a room, which is left again with leave.
type roomed struct {
	io.Reader
	room *room
	held int64
}

func (r *roomed) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.held += int64(n)
	if r.room.held.Add(int64(n)) > r.room.most {
		return n, errNoRoom
	}
	return n, err
}

func (r *roomed) leave() { r.room.held.Add(-r.held) }

// identify finds out who is calling, and reads the body into v. Who is calling is
// told after what is wrong with the body, but found out before it is read: a
// stranger's gets little room. So refused is why the caller may not do what the
// role is for, to be returned when the body has been looked at.
func (n *Node) identify(w http.ResponseWriter, r *request, role auth.Role, v any) (caller auth.Caller, refused, err error) {
	if _, err := r.query(); err != nil {
		return auth.Caller{}, nil, err
	}
	caller, refused = n.authenticate(r, role)
	room := &n.bodies
	if refused != nil {
		room = &n.strangers
	}
	return caller, refused, r.body(w, v, room)
}

// body reads a JSON body into v, strictly: a name that is unknown, repeated or
// spelled in another case is an error, and so is a string that is not UTF-8.
func (r *request) body(w http.ResponseWriter, v any, room *room) error {
	kind, ok := r.only("Content-Type")
	if !ok {
		return errMediaType
	}
	media, params, err := mime.ParseMediaType(kind)
	if err != nil || media != "application/json" || len(r.Header["Content-Encoding"]) > 0 {
		return errMediaType
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return errMediaType
	}
	if r.ContentLength > maxBody {
		return errTooLarge
	}
	in := &roomed{Reader: http.MaxBytesReader(w, r.Body, maxBody), room: room}
	defer in.leave()
	data, err := io.ReadAll(in)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return errTooLarge
	}
	if errors.Is(err, errNoRoom) {
		return err
	}
	if err != nil {
		return peal.Invalid("body", "did not arrive whole")
	}
	r.arrived(w)
	return readBody(data, v)
}

// readBody reads a JSON body that has arrived.
func readBody(data []byte, v any) (err error) {
	if batch, ok := v.(*eventBatch); ok {
		batch.events, err = intake.Elements(data, "events")
		return err
	}
	if err := intake.Unmarshal(data, v); err != nil {
		return err
	}
	if _, ok := v.(nullable); ok {
		return nil
	}
	return intake.WithoutNull(data)
}

// arrived notes that the body was read to its end. From here on the end of reading
// is how net/http notices that the client has gone, so no time is set for it.
func (r *request) arrived(w http.ResponseWriter) {
	r.read = true
	http.NewResponseController(w).SetReadDeadline(time.Time{})
}

// nullable is the body of a call in which a null means what absence does, as the
// serialisers of many backends write it. In every other body a null is refused: one
// that stands for what a caller does not know must not mean everything.
type nullable interface{ nullMeansAbsent() }

func answerJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(encode(v), '\n'))
	return nil
}
