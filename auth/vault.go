package auth

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
)

// vault keeps the last good keys of one realm in a file, so that a process that
// starts while the issuer is down has them. A nil one keeps nothing.
type vault struct {
	file string
	of   source
}

const (
	maxKept = 2 * maxKeySet // bytes of a file

	newSuffix = ".new-" // of a file that is being written, then a random number

	// leftAfter is how old a half-written file is when whoever wrote it must have
	// ended: a younger one may be another process' that has the same directory.
	leftAfter = time.Minute
)

// kept is what is in the file. Where the keys came from is part of it: keys of
// another issuer are not the realm's, whatever its name.
type kept struct {
	Realm   string          `json:"realm"`
	Issuer  string          `json:"issuer"`
	JWKS    string          `json:"jwks,omitempty"` // "" is discovery
	Fetched time.Time       `json:"fetched"`
	Keys    json.RawMessage `json:"keySet"` // as an issuer would answer
}

// newVault returns the vault of a source in a directory; nil for "". The file's
// name is in hex, for not every file system tells a from A.
func newVault(dir string, of source) *vault {
	if dir == "" {
		return nil
	}
	return &vault{file: filepath.Join(dir, hex.EncodeToString([]byte(of.realm.Name))+".json"), of: of}
}

// load returns the keys and when they came from the issuer; none if there are
// none of this source. They are held against the same rules as new ones.
func (v *vault) load() (keys []jwkset.JWK, fetched time.Time, err error) {
	if v == nil {
		return nil, time.Time{}, nil
	}
	data, err := v.read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	var k kept
	if err := json.Unmarshal(data, &k); err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", v.file, err)
	}
	r := v.of.realm
	if k.Realm != r.Name || k.Issuer != r.Issuer || k.JWKS != r.JWKS || k.Fetched.After(time.Now()) {
		return nil, time.Time{}, nil
	}
	if keys, _, err = parseKeys(k.Keys, r.Algorithms); err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", v.file, err)
	}
	return keys, k.Fetched, nil
}

// read returns what is in the file. Only a file has an end: a pipe would keep
// the start waiting for somebody to write.
func (v *vault) read() ([]byte, error) {
	info, err := os.Stat(v.file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxKept {
		return nil, fmt.Errorf("%s: not a file of at most %d bytes", v.file, maxKept)
	}
	return os.ReadFile(v.file)
}

// save puts keys in the place of what is kept, all at once. After a crash there
// is what was there before or the new keys, whole: which of them does not matter,
// so the directory is not synced.
func (v *vault) save(keys []jwkset.JWK, fetched time.Time) error {
	if v == nil {
		return nil
	}
	var set jwkset.JWKSMarshal
	for _, key := range keys {
		set.Keys = append(set.Keys, key.Marshal())
	}
	r := v.of.realm
	k := kept{Realm: r.Name, Issuer: r.Issuer, JWKS: r.JWKS, Fetched: fetched.UTC()}
	var err error
	if k.Keys, err = json.Marshal(set); err != nil {
		return err
	}
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	dir := filepath.Dir(v.file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	v.clear()
	f, err := os.CreateTemp(dir, filepath.Base(v.file)+newSuffix+"*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // which has another name by then, if all goes well
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), v.file)
}

// clear removes what a process that ended in the middle of save has left. What
// cannot be removed is in nobody's way.
func (v *vault) clear() {
	dir, name := filepath.Split(v.file)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), name+newSuffix) {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > leftAfter {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
