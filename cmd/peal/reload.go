package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/pealhq/peal/auth"
)

// pollEvery is how often the realms file is looked at. A file system that tells
// of changes tells of a symbolic link's target, or of the link, or on some
// networks of nothing; a look finds all of them.
const pollEvery = 500 * time.Millisecond

// reloader keeps the realms what their file says.
type reloader struct {
	// Set before run, then read-only.
	file  string
	apply func(auth.Config) (auth.Changes, error)
	log   *slog.Logger

	// Owned by run.
	judged content // what was applied or refused last
	seen   content // what was there at the last look

	end  context.CancelFunc // nil until start
	done sync.WaitGroup
}

// content is a file at one moment: its bytes, or why they can't be read.
type content struct{ data, err string }

// newReloader makes a reloader for a file whose data are in force.
func newReloader(log *slog.Logger, file string, data []byte, apply func(auth.Config) (auth.Changes, error)) *reloader {
	inForce := content{data: string(data)}
	return &reloader{file: file, apply: apply, log: log, judged: inForce, seen: inForce}
}

// start looks at the file until close, and at once whenever asked says so.
func (r *reloader) start(asked <-chan os.Signal) {
	ctx, end := context.WithCancel(context.Background())
	r.end = end
	r.done.Go(func() { r.run(ctx, asked) })
}

// close ends what start began, and waits for it.
func (r *reloader) close() {
	r.end()
	r.done.Wait()
}

func (r *reloader) run(ctx context.Context, asked <-chan os.Signal) {
	look := time.NewTicker(pollEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case signal := <-asked:
			r.judge(r.read(), signal.String())
		case <-look.C:
			if c := r.read(); r.settled(c) {
				r.judge(c, "the file has changed")
			}
		}
	}
}

// settled reports whether c is new, and was there at the look before too: what
// an editor is still writing is not taken.
func (r *reloader) settled(c content) bool {
	before := r.seen
	r.seen = c
	return c != r.judged && c == before
}

// judge puts c in force, or says why not. Then all stays as it was.
func (r *reloader) judge(c content, cause string) {
	r.judged, r.seen = c, c
	changes, err := r.put(c)
	if err != nil {
		r.log.Error("realms not reloaded: those of before stay in force", "cause", cause, "err", err)
		return
	}
	r.log.Info("realms reloaded", "cause", cause, "file", r.file, "added", changes.Added, "removed", changes.Removed, "changed", changes.Changed)
}

func (r *reloader) put(c content) (auth.Changes, error) {
	if c.err != "" {
		return auth.Changes{}, errors.New(c.err)
	}
	cfg, err := auth.Parse(r.file, []byte(c.data))
	if err != nil {
		return auth.Changes{}, err
	}
	return r.apply(cfg)
}

// read reads the file. Only a regular one can be read again: a pipe has nothing
// more, or keeps its reader waiting.
func (r *reloader) read() content {
	info, err := os.Stat(r.file)
	switch {
	case err != nil:
		return content{err: err.Error()}
	case !info.Mode().IsRegular():
		return content{err: r.file + " is not a regular file"}
	}
	data, err := os.ReadFile(r.file)
	if err != nil {
		return content{err: err.Error()}
	}
	return content{data: string(data)}
}
