//go:build !unix

package doctor

import "errors"

// ownFileLimit is not known: this system has no such limit, or keeps it elsewhere.
func ownFileLimit() (int, error) { return 0, errors.New("this system has none that is known") }
