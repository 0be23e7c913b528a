package sse

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
)

// maxProblem is how much of a refusal's body is read, in bytes.
const maxProblem = 64 << 10

// Problem is why the server refuses: an application/problem+json body. It is
// zero where the answer had none.
type Problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Code     string `json:"code"` // of the API contract, section 2
	Detail   string `json:"detail"`
	Instance string `json:"instance"` // the request id
}

// StatusError is an answer that is not an event stream, and that asking again
// would not change.
type StatusError struct {
	Code    int // the HTTP status
	Problem Problem
}

// Error quotes what the server said, so it may hold any text, on one line.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("event stream refused: %d %s", e.Code, http.StatusText(e.Code))
	if e.Problem.Code != "" {
		s += fmt.Sprintf(", code %q", e.Problem.Code)
	}
	if e.Problem.Detail != "" {
		s += fmt.Sprintf(", detail %q", e.Problem.Detail)
	}
	if e.Problem.Instance != "" {
		s += fmt.Sprintf(", request %q", e.Problem.Instance)
	}
	return s
}

// readStatus makes a StatusError of resp and reads of its body what a Problem
// may take. A body that is not a problem, or breaks, leaves Problem zero.
func readStatus(resp *http.Response) *StatusError {
	e := &StatusError{Code: resp.StatusCode}
	if mediaType(resp.Header) != "application/problem+json" {
		return e
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err != nil {
		return e
	}
	var p Problem
	if json.Unmarshal(body, &p) == nil {
		e.Problem = p
	}
	return e
}

// mediaType is the Content-Type in lower case without its parameters; broken
// parameters do not make it another.
func mediaType(h http.Header) string {
	t, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return t
}
