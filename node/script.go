package node

import (
	"io"
	"net/http"

	"github.com/pealhq/peal/web"
)

// clientTag is the entity tag of peal.js.
var clientTag = etag([]byte(web.Client()))

// script answers GET /peal.js: the browser client. Browsers fetch a module by
// CORS, and a page that isolates itself takes from elsewhere only what says that
// it may be taken. It is the same for everybody and knows nobody, so every
// origin may have it; what a page then does with it, origins decide elsewhere.
func (n *Node) script(w http.ResponseWriter, r *request) error {
	given, err := readEntityTags("If-None-Match", r.Header)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Cache-Control", "no-cache") // kept, but asked for again each time: a new release counts at once
	h.Set("ETag", clientTag)
	if (preconditions{noneMatch: given}).unchanged(clientTag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	io.WriteString(w, web.Client())
	return nil
}
