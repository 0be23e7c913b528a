package history

import (
	"bufio"
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Suffix is that of the files of a history.
const Suffix = ".jsonl"

// Writer writes the records of one process. Its methods may be called concurrently.
type Writer struct {
	mu   sync.Mutex // protects the rest
	file *os.File
	out  *bufio.Writer
	json *json.Encoder
	last int64
	err  error // the first
	done chan struct{}
	over sync.WaitGroup
}

// flushEvery is how old what is not in the file yet may be: of what happened just
// before the end of a process nothing else is known.
const flushEvery = 500 * time.Millisecond

// Create makes the file of a process, which must not be there yet.
func Create(dir, name string) (*Writer, error) {
	f, err := os.OpenFile(filepath.Join(dir, name+Suffix), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	w := &Writer{file: f, out: bufio.NewWriterSize(f, 1<<18), done: make(chan struct{})}
	w.json = json.NewEncoder(w.out)
	w.over.Go(func() {
		tick := time.NewTicker(flushEvery)
		defer tick.Stop()
		for {
			select {
			case <-w.done:
				return
			case <-tick.C:
				w.mu.Lock()
				w.keep(w.out.Flush())
				w.mu.Unlock()
			}
		}
	})
	return w, nil
}

// Write writes a record with the time of now, which it returns. An error is told by
// Close.
func (w *Writer) Write(r Record) (at int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = max(w.last, time.Now().UnixMicro())
	r.At = w.last
	w.keep(w.json.Encode(r))
	return r.At
}

func (w *Writer) keep(err error) {
	if w.err == nil {
		w.err = err
	}
}

// Close completes the file.
func (w *Writer) Close() error {
	close(w.done)
	w.over.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keep(w.out.Flush())
	w.keep(w.file.Close())
	return w.err
}

// Read returns the records of all files of a directory in the order of their times,
// and reads each file once, without holding more than a record of it. The record is
// valid until the next. A file that can't be read, or whose times go back, is an
// error, after which there is nothing more.
func Read(dir string) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		names, err := filepath.Glob(filepath.Join(dir, "*"+Suffix))
		if err == nil && len(names) == 0 {
			err = fmt.Errorf("no history in %s", dir)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		var all sources
		defer func() {
			for _, s := range all {
				s.file.Close()
			}
		}()
		for _, name := range names {
			f, err := os.Open(name)
			if err != nil {
				yield(nil, err)
				return
			}
			s := &source{file: f, name: filepath.Base(name), in: bufio.NewReaderSize(f, 1<<17)}
			switch err := s.next(); {
			case errors.Is(err, io.EOF):
				f.Close()
			case err != nil:
				f.Close()
				yield(nil, err)
				return
			default:
				all = append(all, s)
			}
		}
		heap.Init(&all)
		for len(all) > 0 {
			s := all[0]
			if !yield(&s.record, nil) {
				return
			}
			switch err := s.next(); {
			case errors.Is(err, io.EOF):
				s.file.Close()
				heap.Pop(&all)
			case err != nil:
				yield(nil, err)
				return
			default:
				heap.Fix(&all, 0)
			}
		}
	}
}

// source is a file that is read.
type source struct {
	file   *os.File
	name   string
	in     *bufio.Reader
	line   int
	record Record // the next
}

func (s *source) next() error {
	text, err := s.in.ReadBytes('\n')
	if err != nil {
		if errors.Is(err, io.EOF) && len(text) > 0 {
			return fmt.Errorf("%s:%d: ends within a record", s.name, s.line+1)
		}
		return err
	}
	s.line++
	before := s.record.At
	s.record = Record{}
	if err := json.Unmarshal(text, &s.record); err != nil {
		return fmt.Errorf("%s:%d: %w", s.name, s.line, err)
	}
	if s.record.At < before {
		return fmt.Errorf("%s:%d: the time goes back", s.name, s.line)
	}
	s.record.File, s.record.Line = s.name, s.line
	return nil
}

// sources is a heap, the earliest first.
type sources []*source

func (h sources) Len() int { return len(h) }
func (h sources) Less(i, j int) bool {
	a, b := &h[i].record, &h[j].record
	return a.At < b.At || a.At == b.At && a.File < b.File
}
func (h sources) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *sources) Push(x any)   { *h = append(*h, x.(*source)) }
func (h *sources) Pop() any {
	old := *h
	s := old[len(old)-1]
	*h = old[:len(old)-1]
	return s
}
