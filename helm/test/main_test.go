package helm_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

var (
	tool   = flag.String("helm", "../../bin/tools/helm", "the `binary` of Helm; make helm-check installs it")
	binary = flag.String("peal", "../../bin/peal", "the `binary` of peal; make build makes it")
	update = flag.Bool("update", false, "write what has its home in ../../deploy into ../peal/files and ../nats")
)

func TestMain(m *testing.M) {
	flag.Parse()
	for _, name := range []string{*tool, *binary} {
		if _, err := os.Stat(name); err != nil {
			fmt.Fprintf(os.Stderr, "run make helm-check, which makes what is missing: %v\n", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
