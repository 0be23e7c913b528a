package e2e_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

var (
	binary   = flag.String("peal", "../../../bin/peal", "the `binary` under test; make build makes it")
	chromium = flag.String("chromium", "chromium", "the `browser` that a page is tested with")
	nginx    = flag.String("nginx", "nginx", "the `program` nginx")
	haproxy  = flag.String("haproxy", "haproxy", "the `program` HAProxy")
	shots    = flag.String("shots", "", "the `folder` to leave screenshots of the bell in; without one, those of what fails stay")
	update   = flag.Bool("update", false, "rewrite the table in docs/clients.md")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
