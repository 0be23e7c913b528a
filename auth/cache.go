package auth

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// cache remembers tokens that were verified, by a hash of realm and token. It
// keeps two generations, each of half the bytes: what is used goes into the
// younger one, and when that is full the older one is forgotten.
type cache struct {
	half int // bytes; 0 or less: nothing is kept

	mu             sync.Mutex // protects the rest
	younger, older map[tokenName]cached
	bytes          int // of younger, about
}

// tokenName is the hash by which a token is known. The token itself is not kept.
type tokenName [sha256.Size]byte

// cached is a token, and the version of the realm's keys that vouched for it.
type cached struct {
	token *Token
	keys  uint64
}

// cachedBytes is about what an entry takes besides its strings.
const cachedBytes = 512

func newCache(bytes int) *cache {
	return &cache{half: bytes / 2, younger: map[tokenName]cached{}}
}

func nameOf(realm, token string) tokenName {
	var room [2048]byte // most tokens have it, and nothing is allocated
	b := binary.BigEndian.AppendUint64(room[:0], uint64(len(realm)))
	b = append(b, realm...)
	b = append(b, token...)
	return sha256.Sum256(b)
}

// get returns a token that was verified for r as it is now, with the keys that
// it has now; else nil.
func (c *cache) get(n tokenName, r *realm, keys uint64) *Token {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.younger[n]
	if !ok {
		if e, ok = c.older[n]; ok {
			c.putLocked(n, e)
		}
	}
	if !ok || e.token.realm != r || e.keys != keys {
		return nil
	}
	return e.token
}

func (c *cache) put(n tokenName, t *Token, keys uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(n, cached{t, keys})
}

func (c *cache) putLocked(n tokenName, e cached) {
	size := e.token.size()
	if size > c.half {
		return
	}
	if c.bytes+size > c.half {
		c.younger, c.older, c.bytes = map[tokenName]cached{}, c.younger, 0
	}
	if _, ok := c.younger[n]; !ok {
		c.bytes += size
	}
	c.younger[n] = e
}

// size is about how many bytes the token keeps.
func (t *Token) size() int {
	n := cachedBytes + len(t.User) + len(t.ID) + len(t.Session) + len(t.Subject)
	for _, id := range t.tenants {
		n += 16 + len(id)
	}
	return n
}
