package sse

import (
	"encoding/json"

	"github.com/pealhq/peal"
)

// window is the last ids of notifications that were handed over.
type window struct {
	size int             // at most so many ids; 0 or less remembers none
	ids  []string        // a ring once it is full
	next int             // where the next id goes in a full ring
	has  map[string]bool // the ids in the ring
}

// resize makes w remember size ids, forgetting all if that is a change.
func (w *window) resize(size int) {
	if w.size != size || w.has == nil {
		*w = window{size: size, has: map[string]bool{}}
	}
}

func (w *window) contains(id string) bool { return w.has[id] }

// add remembers id, which w does not contain. Ids that no notification has,
// none or too long, are not worth the memory.
func (w *window) add(id string) {
	if w.size <= 0 || id == "" || len(id) > peal.MaxID {
		return
	}
	w.has[id] = true
	if len(w.ids) < w.size {
		w.ids = append(w.ids, id)
		return
	}
	delete(w.has, w.ids[w.next])
	w.ids[w.next] = id
	w.next = (w.next + 1) % w.size
}

// notificationID is the id in the data of an event named notification, ""
// where there is none.
func notificationID(e Event) string {
	if e.Name != Notification {
		return ""
	}
	var n struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(e.Data, &n) != nil {
		return ""
	}
	return n.ID
}
