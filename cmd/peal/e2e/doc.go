// Package e2e holds nothing but tests: other people's event stream clients, a
// browser's own, and other people's issuer of tokens, against the real binary. It
// is a module of its own, so that what they need does not become what peal needs.
// make e2e runs it.
package e2e
