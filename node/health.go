package node

import (
	_ "embed"
	"io"
	"net/http"
)

// live answers GET /livez: the process is there.
func (n *Node) live(w http.ResponseWriter, _ *request) error {
	return answerHealth(w, "")
}

// readiness answers GET /readyz: the node takes new work, or says why not.
func (n *Node) readiness(w http.ResponseWriter, _ *request) error {
	return answerHealth(w, n.Ready())
}

func answerHealth(w http.ResponseWriter, trouble string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if trouble != "" {
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, trouble+"\n")
		return nil
	}
	io.WriteString(w, "ok\n")
	return nil
}

//go:embed openapi.yaml
var openapi []byte

// openapi answers GET /openapi.yaml.
func (n *Node) openapi(w http.ResponseWriter, _ *request) error {
	w.Header().Set("Content-Type", "application/yaml")
	w.Header().Set("Cache-Control", "no-cache")
	w.Write(openapi)
	return nil
}
