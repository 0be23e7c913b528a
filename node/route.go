package node

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"github.com/pealhq/peal"
)

// route is one call of the API.
type route struct {
	method, path string
	answer       call
}

// call answers a request, or returns an error before it has written anything.
type call func(http.ResponseWriter, *request) error

// routes lists the calls of the public port. openapi.yaml describes the same.
func (n *Node) routes() []route {
	routes := []route{
		{"GET", Base + "/ticket/sse/notifications", streamed(n.connectNotifications)},
		{"GET", Base + "/ticket/sse/list/updates", streamed(n.connectLists)},
		{"GET", Base + "/ticket/sse/durable", n.listDurables},
		{"DELETE", Base + "/ticket/sse/durable/:name", n.removeDurable},
		{"POST", Base + "/ticket/notification", n.publish},
		{"POST", Base + "/ticket/event", n.takeEvent},
		{"POST", Base + "/ticket/events", n.takeEvents},
		{"GET", Base + "/ticket/notification/count", n.count},
		{"GET", Base + "/ticket/notification/list", n.list},
		{"PUT", Base + "/ticket/notification/read", n.mark},
		{"PUT", Base + "/queue/:queueId", n.setQueue},
		{"GET", Base + "/user/preference", n.readUserPreference},
		{"PUT", Base + "/user/preference", n.writeUserPreference},
		{"GET", Base + "/tenant/preference", n.readTenantPreference},
		{"PUT", Base + "/tenant/preference", n.writeTenantPreference},
		{"POST", Base + "/admin/revoke", n.revoke},
		{"POST", "/realms/:realm/backchannel-logout", n.backchannelLogout},
		{"GET", "/openapi.yaml", n.openapi},
		{"GET", "/peal.js", n.script},
	}
	if n.cfg.Cookies {
		routes = append(routes,
			route{"POST", Base + "/ticket/sse/session", n.beginSession},
			route{"DELETE", Base + "/ticket/sse/session", n.endSession},
		)
	}
	return routes
}

// healthRoutes lists the calls by which the process is looked after.
func (n *Node) healthRoutes() []route {
	return []route{
		{"GET", "/livez", n.live},
		{"GET", "/readyz", n.readiness},
	}
}

// streamed marks a call that answers with an event stream.
func streamed(run call) call {
	return func(w http.ResponseWriter, r *request) error {
		r.stream = true
		return run(w, r)
	}
}

// adminRoutes lists the calls of the admin port.
func (n *Node) adminRoutes() []route {
	metrics := n.metrics.page()
	return append(n.healthRoutes(), []route{
		{"GET", "/metrics", func(w http.ResponseWriter, r *request) error { metrics.ServeHTTP(w, r.Request); return nil }},
		{"GET", "/", n.showStatus},
		{"GET", "/status.json", n.tellStatus},
		{"GET", "/status/events", n.followStatus},
		{"POST", "/revoke", n.revokeAnywhere},
		{"POST", "/purge", n.purge},
		{"GET", "/dead", n.listDead},
		{"GET", "/dead/:id", n.showDead},
		{"POST", "/dead/:id/retry", n.retryDead},
		{"DELETE", "/dead/:id", n.dropDead},
		{"GET", "/durables", n.listAllDurables},
		{"DELETE", "/durables/:id", n.removeAnyDurable},
	}...)
}

// Handler returns what the public port answers.
func (n *Node) Handler() http.Handler {
	if n.cfg.HealthOnly {
		return n.router(n.healthRoutes(), nil)
	}
	return n.router(append(n.routes(), n.healthRoutes()...), n.cfg.Mount)
}

// Admin returns what the admin port answers. It is not for the public. Of the profiles
// the command line is left out, for it may have a password in it.
func (n *Node) Admin() http.Handler {
	profiles := http.NewServeMux()
	profiles.HandleFunc("/debug/pprof/", pprof.Index)
	profiles.HandleFunc("/debug/pprof/profile", pprof.Profile)
	profiles.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	profiles.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return n.guard(n.router(n.adminRoutes(), map[string]http.Handler{"/debug/pprof/": profiles}))
}

// router answers the calls of a port, and what is mounted by its prefix. It
// refuses everything else, and redirects nobody.
func (n *Node) router(routes []route, mounts map[string]http.Handler) http.Handler {
	r := httprouter.New()
	r.RedirectTrailingSlash = false
	r.RedirectFixedPath = false
	r.HandleOPTIONS = false
	for _, route := range routes {
		r.Handle(route.method, route.path, func(w http.ResponseWriter, raw *http.Request, params httprouter.Params) {
			n.answer(w, raw, route.path, func(w http.ResponseWriter, r *request) error {
				r.params = params
				return route.answer(w, r)
			})
		})
	}
	refuse := func(err error) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, raw *http.Request) {
			n.answer(w, raw, "", func(http.ResponseWriter, *request) error { return err })
		})
	}
	r.MethodNotAllowed = allowing(n.preflight(refuse(errMethod)))
	r.NotFound = mounted(mounts, refuse(errNotFound))
	return literal(r, refuse(errNotFound))
}

// allowing takes OPTIONS, which no route answers, out of what the router says
// is allowed.
func allowing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, raw *http.Request) {
		methods := strings.Split(w.Header().Get("Allow"), ", ")
		methods = slices.DeleteFunc(methods, func(m string) bool { return m == http.MethodOptions })
		w.Header().Set("Allow", strings.Join(methods, ", "))
		next.ServeHTTP(w, raw)
	})
}

// literal lets no request through whose path has a slash in disguise: a rule
// for paths in a proxy before us would see another path than the router.
func literal(next, refuse http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, raw *http.Request) {
		if strings.Contains(strings.ToLower(raw.URL.RawPath), "%2f") {
			refuse.ServeHTTP(w, raw)
			return
		}
		next.ServeHTTP(w, raw)
	})
}

// mounted serves what is mounted, by the longest prefix that fits, else what is
// next. What is mounted may redirect from a path with dots or double slashes,
// so it never sees one.
func mounted(mounts map[string]http.Handler, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, raw *http.Request) {
		best, to := "", next
		clean := strings.TrimSuffix(raw.URL.Path, "/") == strings.TrimSuffix(path.Clean(raw.URL.Path), "/")
		for prefix, h := range mounts {
			if clean && strings.HasPrefix(raw.URL.Path, prefix) && len(prefix) > len(best) {
				best, to = prefix, h
			}
		}
		to.ServeHTTP(w, raw)
	})
}

// answer runs one call, and is the one place where an error becomes a status.
func (n *Node) answer(w http.ResponseWriter, raw *http.Request, route string, run call) {
	if !n.begin() {
		panic(http.ErrAbortHandler)
	}
	defer n.calls.Done()
	r := &request{Request: raw, route: route, id: uuid.NewString()}
	defer r.end()
	out := &response{ResponseWriter: w, timeout: n.cfg.WriteTimeout}
	out.Header().Set("X-Request-Id", r.id)
	out.Header().Set("X-Content-Type-Options", "nosniff")
	n.share(out.Header(), raw)
	if n.draining.Load() {
		out.Header().Set("Connection", "close") // the next request is for another node
	}
	if raw.ContentLength != 0 {
		// Also for a call that reads no body: net/http reads it then.
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	}
	err := n.safely(run, out, r)
	switch {
	case err == nil:
	case out.begun, raw.Context().Err() != nil:
		// No status is left to give, or nobody is there to read one.
		panic(http.ErrAbortHandler)
	default:
		n.refuse(out, r, err)
	}
}

// end lets go of what a request holds until it is answered.
func (r *request) end() {
	for _, f := range r.atEnd {
		f()
	}
	r.atEnd = nil
}

// safely runs a call and makes an error of a panic, but for the one by which a
// call has its response aborted.
func (n *Node) safely(run call, w http.ResponseWriter, r *request) (err error) {
	defer func() {
		p := recover()
		if p == http.ErrAbortHandler {
			panic(p)
		}
		if p != nil {
			n.log.Error("panic", "request", r.id, "route", r.route, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return run(w, r)
}

// begin counts a call; its end is calls.Done. It returns false once finish has
// been called.
func (n *Node) begin() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.calls.Add(1)
	return true
}

// finish lets no call begin any more and waits for those under way.
func (n *Node) finish() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.calls.Wait()
}

// response notes whether its head has been written, and bounds the time in which
// what follows has to be taken: a peer that takes nothing would hold it for ever.
// For an event stream, which has no end, its transport sets that anew.
type response struct {
	http.ResponseWriter
	timeout time.Duration
	begun   bool
}

func (r *response) WriteHeader(status int) {
	r.begin()
	r.ResponseWriter.WriteHeader(status)
}

func (r *response) Write(b []byte) (int, error) {
	r.begin()
	return r.ResponseWriter.Write(b)
}

func (r *response) begin() {
	if !r.begun {
		r.begun = true
		http.NewResponseController(r.ResponseWriter).SetWriteDeadline(time.Now().Add(r.timeout))
	}
}

// Unwrap is for http.ResponseController.
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

var (
	errPanic    = errors.New("panic")
	errDraining = fmt.Errorf("draining: %w", peal.ErrUnavailable)
	errNotFound = errors.New("not found")
	errMethod   = errors.New("method not allowed")
)
