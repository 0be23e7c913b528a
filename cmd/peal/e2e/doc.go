// Package e2e holds nothing but tests against the real binary: other people's
// event stream clients, a browser's own, other people's issuer of tokens and their
// proxies, systemd's view of the unit, our client and bell in a browser, and what
// Prometheus, Grafana and a collector of traces are given. It is a module of its own, so
// that what they need does not become what peal needs. make e2e runs it.
package e2e
