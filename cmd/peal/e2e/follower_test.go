package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// event is one of an event stream, as it is on the wire.
type event struct {
	name, data, id string
	retry          int // ms; 0: it says nothing of that
}

// events reads an event stream to its end, which is io.EOF if it is a clean one.
func events(r io.Reader, take func(event)) error {
	lines := bufio.NewReader(r)
	for e := (event{}); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "\n":
			take(e)
			e = event{}
		case field == "event":
			e.name = value
		case field == "data":
			e.data += value
		case field == "id":
			e.id = value
		case field == "retry":
			if e.retry, err = strconv.Atoi(value); err != nil {
				return err
			}
		}
	}
}

// follower is a client as it is to be: it comes back after the pause that it was asked
// for, with the last id that it has seen.
type follower struct {
	*stage
	client *http.Client
	url    string // of the event stream
	header map[string]string

	// Protected by the stage.
	got       []string // ids of notifications, as they came
	opened    int      // connections that have begun
	recovered int      // of these, those that say so
	up        bool
	ends      []ending
	gaps      int
	failed    []string // answers that are no event stream, and other trouble
}

// ending is how a connection was ended.
type ending struct {
	code  string // of the event error; "" without one
	retry int    // ms, that came with it
	clean bool
}

// follow connects and comes back until ctx ends.
func (f *follower) follow(ctx context.Context) {
	last := ""
	for pause := 0; ctx.Err() == nil; {
		select {
		case <-time.After(time.Duration(pause) * time.Millisecond):
		case <-ctx.Done():
			return
		}
		pause = f.once(ctx, &last)
	}
}

// once holds one connection, and returns after which pause, in ms, to come back.
func (f *follower) once(ctx context.Context, last *string) (pause int) {
	pause = 1000
	trouble := func(what string) int {
		if ctx.Err() == nil {
			f.note(func() { f.failed = append(f.failed, what) })
		}
		return pause
	}
	resp, err := f.connect(ctx, *last)
	if err != nil {
		return trouble(err.Error())
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return trouble(resp.Status)
	}
	var end ending
	err = events(resp.Body, func(e event) {
		if e.retry > 0 {
			pause = e.retry
		}
		if e.id != "" {
			*last = e.id
		}
		f.note(func() { f.see(e, &end) })
	})
	end.clean = errors.Is(err, io.EOF)
	f.note(func() {
		f.up = false
		if ctx.Err() == nil {
			f.ends = append(f.ends, end)
		}
	})
	return pause
}

func (f *follower) connect(ctx context.Context, last string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return nil, err
	}
	setHeaders(req.Header, f.header)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "gzip, deflate, br, zstd") // as browsers do
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := f.client.Do(req)
	if err == nil && resp.Header.Get("Content-Encoding") != "" {
		resp.Body.Close()
		return nil, fmt.Errorf("it is packed: %s", resp.Header.Get("Content-Encoding"))
	}
	return resp, err
}

// see notes an event.
func (f *follower) see(e event, end *ending) {
	var data struct {
		ID, Code  string
		Recovered bool
	}
	if err := json.Unmarshal([]byte(e.data), &data); err != nil {
		f.failed = append(f.failed, fmt.Sprintf("%s with the data %q: %v", e.name, e.data, err))
	}
	switch e.name {
	case "connected":
		f.opened++
		f.up = true
		if data.Recovered {
			f.recovered++
		}
	case "notification":
		f.got = append(f.got, data.ID)
	case "gap":
		f.gaps++
	case "error":
		end.code, end.retry = data.Code, e.retry
	}
}
