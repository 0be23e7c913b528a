package e2e_test

import "testing"

// The status page is live in Chromium, keeps to its own policy, and is as good without
// its script.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	playScene(t, "bell/status.mjs")
}
