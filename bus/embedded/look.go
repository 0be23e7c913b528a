package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// DirSeen is a data directory, looked at without opening it: another process may
// use it.
type DirSeen struct {
	Exists  bool   // else the rest is of the directory in which it would be made
	At      string // what the rest is of
	Kind    string // of the file system, such as tmpfs or nfs; "" if it is not known to matter
	Free    int64  // bytes that this user may still write
	Total   int64  // bytes that the disk has
	Reserve int64  // bytes below which nothing is stored any more
	Used    int64  // bytes that the directory takes
	Err     error  // why nothing can be made there; nil if it can
	InUse   Use
}

// Use says whether a process has the data directory open.
type Use int

// What can be known of that.
const (
	UseUnknown Use = iota
	InUse
	Unused
)

// LookAt looks at a data directory. The error says why that can't be done.
func LookAt(dir string) (DirSeen, error) {
	s := DirSeen{At: dir}
	info, err := os.Stat(dir)
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(s.At) != s.At {
		s.At = filepath.Dir(s.At)
		info, err = os.Stat(s.At)
	}
	if err != nil {
		return s, err
	}
	if !info.IsDir() {
		return s, fmt.Errorf("%s is not a directory", s.At)
	}
	s.Exists = s.At == dir
	if s.Free, s.Total, err = space(s.At); err != nil {
		return s, err
	}
	s.Reserve, s.Kind, s.Err = reserve(s.Total), fileSystem(s.At), writable(s.At)
	if !s.Exists {
		s.InUse = Unused
		return s, nil
	}
	s.InUse = inUse(filepath.Join(dir, "lock"))
	s.Used, err = used(dir)
	return s, err
}

// used is how many bytes the files below a directory have.
func used(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // JetStream has removed it meanwhile
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	return total, nil
}
