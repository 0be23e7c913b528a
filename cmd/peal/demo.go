package main

import (
	"embed"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth/issuer"
	"github.com/pealhq/peal/node"
	"github.com/pealhq/peal/web"
)

//go:embed demo
var demoFiles embed.FS

// demoTTL is how long the demo page's tokens are good. It asks for new ones.
const demoTTL = 15 * time.Minute

// demoPolicy lets the page load nothing that is not ours, and be framed by nobody
// but itself: its devices are pages of their own. No script makes markup of text.
const demoPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// demo serves the demo page under /demo/ with the bell that it shows, and the
// session it signs jane in with.
func demo(tokens *issuer.Issuer, log *slog.Logger) http.Handler {
	files, err := fs.Sub(demoFiles, "demo")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	m := http.NewServeMux()
	m.HandleFunc("GET /demo/session", func(w http.ResponseWriter, r *http.Request) {
		if !local(r) {
			http.Error(w, "The demo signs in only from this machine: open it by the name localhost.", http.StatusForbidden)
			return
		}
		session, err := newSession(tokens)
		if err != nil {
			log.Error("demo session", "err", err)
			http.Error(w, "Something went wrong on our side.", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(session)
	})
	m.HandleFunc("GET /demo/{file...}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("file")
		if name == "" {
			name = "index.html"
		}
		content, err := fs.ReadFile(files, name)
		if name == "peal-bell.js" {
			content, err = []byte(web.Bell()), nil
		}
		if err != nil {
			http.Error(w, "There is nothing here.", http.StatusNotFound)
			return
		}
		h := w.Header()
		h.Set("Content-Type", contentTypes[path.Ext(name)])
		h.Set("Content-Security-Policy", demoPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		w.Write(content)
	})
	return m
}

// contentTypes are fixed, for those of the system differ.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
}

// session is what the page needs to call the API.
type session struct {
	Realm     string         `json:"realm"`
	Tenant    peal.Tenant    `json:"tenant"`
	User      string         `json:"user"`
	Token     string         `json:"token"`
	Publisher publisher      `json:"publisher"`
	API       string         `json:"api"`
	ExpiresAt peal.Timestamp `json:"expiresAt"`
	Version   string         `json:"version"`
}

// publisher is who sends the samples.
type publisher struct {
	Realm string `json:"realm"`
	Token string `json:"token"`
}

func newSession(tokens *issuer.Issuer) (session, error) {
	s := session{
		Realm: realmAcme, Tenant: tenantAcme, User: "jane", API: node.Base, Version: version,
		ExpiresAt: peal.NewTimestamp(time.Now().Add(demoTTL)),
	}
	var err error
	if s.Token, err = mint(tokens, realmAcme, "jane", tenantAcme, demoTTL, "", nil); err != nil {
		return session{}, err
	}
	s.Publisher.Realm = realmAcme
	s.Publisher.Token, err = mint(tokens, realmAcme, "desk", tenantAcme, demoTTL, "", []string{rolePublish})
	return s, err
}

// local reports whether a request comes from this machine, to a name of this
// machine: a page of another site that has its name point here gets no token.
func local(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
