package issuer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/MicahParks/jwkset"
)

// ring is the keys of one realm, numbered from 1. The highest signs, and it and
// the one below are published. Files of older ones stay, unread.
//
// With a directory, each key is a file "<number>.jwk" there and the directory is
// the truth: another process may add to it at any time, so it is read before
// every use, and a number is taken by whoever links its file first.
type ring struct {
	alg string
	dir string // "" keeps the keys in memory only

	mu   sync.Mutex   // protects keys; held while files are read and written
	keys map[int]*key // without a directory all there are, else those read so far
}

const suffix = ".jwk"

// openRing opens the keys of a realm, and makes the first one if there is none
// for its algorithm.
func openRing(dir string, r Realm) (*ring, error) {
	g := &ring{alg: r.Algorithm, keys: map[int]*key{}}
	if dir != "" {
		g.dir = filepath.Join(dir, r.Name)
		if err := os.MkdirAll(g.dir, 0o700); err != nil {
			return nil, err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	last, err := g.readLocked()
	if err != nil {
		return nil, err
	}
	if last > 0 && g.keys[last].alg == g.alg {
		return g, nil
	}
	if err := g.addLocked(last + 1); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *ring) newest() (*key, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	last, err := g.readLocked()
	if err != nil {
		return nil, err
	}
	if last == 0 {
		return nil, errors.New("the key files are gone")
	}
	return g.keys[last], nil
}

// published returns the key set that the realm shows to the world.
func (g *ring) published() (jwkset.JWKSMarshal, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	last, err := g.readLocked()
	if err != nil {
		return jwkset.JWKSMarshal{}, err
	}
	set := jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{}}
	for _, n := range []int{last, last - 1} {
		k, ok := g.keys[n]
		if !ok {
			continue
		}
		m, err := k.public()
		if err != nil {
			return jwkset.JWKSMarshal{}, err
		}
		set.Keys = append(set.Keys, m)
	}
	return set, nil
}

func (g *ring) rotate() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	last, err := g.readLocked()
	if err != nil {
		return err
	}
	return g.addLocked(last + 1)
}

// readLocked reads the keys that are not in memory yet and returns the highest
// number, 0 if there is no key.
func (g *ring) readLocked() (last int, err error) {
	numbers, err := g.numbersLocked()
	if err != nil {
		return 0, err
	}
	for _, n := range numbers {
		last = max(last, n)
	}
	for _, n := range []int{last, last - 1} {
		if g.keys[n] != nil || !slices.Contains(numbers, n) {
			continue
		}
		data, err := os.ReadFile(g.file(n))
		if err != nil {
			return 0, err
		}
		if g.keys[n], err = decodeKey(data); err != nil {
			delete(g.keys, n)
			return 0, fmt.Errorf("%s: %w", g.file(n), err)
		}
	}
	return last, nil
}

// numbersLocked lists the keys there are.
func (g *ring) numbersLocked() ([]int, error) {
	var numbers []int
	if g.dir == "" {
		for n := range g.keys {
			numbers = append(numbers, n)
		}
		return numbers, nil
	}
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if n, err := strconv.Atoi(name); ok && err == nil && n > 0 {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

// addLocked makes key n. That another process has just made it is as good.
func (g *ring) addLocked(n int) error {
	k, err := newKey(g.alg)
	if err != nil {
		return err
	}
	if g.dir == "" {
		g.keys[n] = k
		delete(g.keys, n-2)
		return nil
	}
	data, err := k.encode()
	if err != nil {
		return err
	}
	if err := g.write(n, data); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	_, err = g.readLocked()
	return err
}

// write makes the file of key n, complete and durable from the moment it has
// its name. The error is fs.ErrExist if there is one.
func (g *ring) write(n int, data []byte) error {
	f, err := os.CreateTemp(g.dir, "new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), g.file(n)); err != nil {
		return err
	}
	d, err := os.Open(g.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (g *ring) file(n int) string { return filepath.Join(g.dir, strconv.Itoa(n)+suffix) }
