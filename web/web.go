// Package web is the browser client. Its Go side is no more than the built files:
// they are made from src by `make web`, and are part of the tree, so that the
// service is built without Node.js.
package web

import _ "embed"

//go:embed dist/peal.js
var client string

// Client returns peal.js, an ES module without dependencies.
func Client() string { return client }
