package auth

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/MicahParks/jwkset"
)

// vault keeps the last good keys of one realm in a file, so that a process that
// starts while the issuer is down has them. A nil one keeps nothing.
type vault struct {
	file string
	of   source
}

// kept is what is in the file. Where the keys came from is part of it: keys of
// another issuer are not the realm's, whatever its name.
type kept struct {
	Realm   string             `json:"realm"`
	Issuer  string             `json:"issuer"`
	JWKS    string             `json:"jwks,omitempty"` // "" is discovery
	Fetched time.Time          `json:"fetched"`
	Keys    jwkset.JWKSMarshal `json:"keySet"`
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
	data, err := os.ReadFile(v.file)
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
	set, err := json.Marshal(k.Keys)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", v.file, err)
	}
	if keys, _, err = parseKeys(set, r.Algorithms); err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", v.file, err)
	}
	return keys, k.Fetched, nil
}

// save puts keys in the place of what is kept, all at once.
func (v *vault) save(keys []jwkset.JWK, fetched time.Time) error {
	if v == nil {
		return nil
	}
	k := kept{Realm: v.of.realm.Name, Issuer: v.of.realm.Issuer, JWKS: v.of.realm.JWKS, Fetched: fetched.UTC()}
	for _, key := range keys {
		k.Keys.Keys = append(k.Keys.Keys, key.Marshal())
	}
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	dir := filepath.Dir(v.file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "new-*") // 0600
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
