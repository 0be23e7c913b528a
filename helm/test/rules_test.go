package helm_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// copies are the files of the chart that have their home elsewhere, for a chart can't reach
// beyond its folder. They are tried where they are at home.
var copies = map[string]string{
	chart + "/files/rules.yaml":     "../../deploy/prometheus/rules.yaml",
	chart + "/files/dashboard.json": "../../deploy/grafana/peal.json",
}

func TestFilesAreThoseOfDeploy(t *testing.T) {
	for here, home := range copies {
		want, err := os.ReadFile(home)
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(here, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(here); err != nil || string(got) != string(want) {
			t.Errorf("%s is not as %s: go test -C helm/test -run Deploy . -update (%v)", here, home, err)
		}
	}
}

// Alerts and dashboard arrive as they are: both have braces that are not the chart's.
func TestAlertsAndDashboardArrive(t *testing.T) {
	r := released(t, chart+"/ci/everything.yaml")
	data, err := os.ReadFile(chart + "/files/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var want monitoring.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict(data, &want); err != nil {
		t.Fatal(err)
	}
	if got := of[*monitoring.PrometheusRule](r)[0].Spec; len(got.Groups) == 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("the alerts are\n%v\nwant\n%v", got, want)
	}
	data, err = os.ReadFile(chart + "/files/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board, arrived any
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(named[*core.ConfigMap](r, "bell-dashboard").Data["peal.json"]), &arrived); err != nil || !reflect.DeepEqual(board, arrived) {
		t.Errorf("the dashboard is another: %v", err)
	}
}

// A scaler by a metric that is not there says unknown, and scales nothing.
func TestScalerGoesByWhatIsCounted(t *testing.T) {
	sources, err := filepath.Glob("../../node/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var counted []string
	for _, file := range sources {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`Name: "(peal_[a-z_]+)"`).FindAllStringSubmatch(string(text), -1) {
			counted = append(counted, name[1])
		}
	}
	for _, s := range of[*autoscaling.HorizontalPodAutoscaler](released(t, chart+"/ci/everything.yaml")) {
		if name := s.Spec.Metrics[0].Pods.Metric.Name; !slices.Contains(counted, name) {
			t.Errorf("the scaler goes by %s, and peal counts %q", name, counted)
		}
	}
}
