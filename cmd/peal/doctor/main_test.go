package doctor

import (
	"testing"

	"github.com/pealhq/peal/bus/bustest"
)

func TestMain(m *testing.M) { bustest.Main(m) }
