// Package web is the browser client and the bell. Its Go side is no more than
// the built files: they are made from src by `make web`, and are part of the
// tree, so that the service is built without Node.js.
package web

import _ "embed"

//go:embed dist/peal.js
var client string

//go:embed dist/peal-bell.js
var bell string

// Client returns peal.js, an ES module without dependencies.
func Client() string { return client }

// Bell returns peal-bell.js: the element <peal-bell>, and the client with it.
func Bell() string { return bell }
