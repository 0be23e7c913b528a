package bus

import (
	"container/list"
	"strings"
	"sync"
)

// maxRecents bounds what is kept in memory of inboxes that were read lately, in
// bytes: about 150 inboxes of 500, or some thousands of which a list was shown.
const maxRecents = 64 << 20

// recents keeps what was read of inboxes, those that were used last.
type recents struct {
	most int // bytes

	mu    sync.Mutex // protects the rest
	all   map[string]*list.Element
	order list.List // of *keptInbox; the front was used last
	size  int
}

// keptInbox is what is kept of one inbox.
type keptInbox struct {
	key string
	recent
	size int
}

func newRecents(most int) *recents { return &recents{most: most, all: make(map[string]*list.Element)} }

// get returns what is kept of an inbox in one incarnation of its stream; nothing
// if that is none.
func (r *recents) get(key string, e Epoch) recent {
	r.mu.Lock()
	defer r.mu.Unlock()
	el := r.all[key]
	if el == nil || el.Value.(*keptInbox).epoch != e {
		return recent{epoch: e}
	}
	r.order.MoveToFront(el)
	return el.Value.(*keptInbox).recent
}

// keptOverhead is what a notification takes besides its id and its data, in bytes.
const keptOverhead = 560

// put keeps what was read of an inbox, instead of what was kept.
func (r *recents) put(key string, v recent) {
	size := len(key)
	for _, k := range v.kept {
		size += keptOverhead + len(k.msgID) + len(k.data)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropLocked(r.all[key])
	if size > r.most {
		return
	}
	r.all[key] = r.order.PushFront(&keptInbox{key, v, size})
	for r.size += size; r.size > r.most; {
		r.dropLocked(r.order.Back())
	}
}

// drop forgets an inbox, or all of a tenant, by the tokens that name it.
func (r *recents) drop(tokens string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if el := r.all[tokens]; el != nil {
		r.dropLocked(el)
		return
	}
	for key, el := range r.all {
		if strings.HasPrefix(key, tokens+".") {
			r.dropLocked(el)
		}
	}
}

// clear forgets all: a stream that has lost its tail gives other notifications the
// sequences of those that are kept.
func (r *recents) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, el := range r.all {
		r.dropLocked(el)
	}
}

// dropLocked forgets an inbox; nil is none.
func (r *recents) dropLocked(el *list.Element) {
	if el == nil {
		return
	}
	v := r.order.Remove(el).(*keptInbox)
	delete(r.all, v.key)
	r.size -= v.size
}
