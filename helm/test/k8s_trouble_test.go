//go:build k8s

package helm_test

import (
	"slices"
	"strings"
	"testing"
)

// Where peal admin ensure fails nothing starts, or goes on as it was, and the Job stays for its
// log until the next one. README.md has what Helm says then.
func TestServerKeepsWhatRunsWhenTheJobFails(t *testing.T) {
	serve(t)
	values := []string{"--values", chart + "/ci/default.yaml"}
	other := append(slices.Clone(values), "--set", "config.heartbeat=20s")
	before := there(t)
	failed := []string{"job.batch/peal-ensure"}
	failing := func(c command, want string) {
		t.Helper()
		c.ends = fails
		if err := c.run(t); err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("helm says %v, want something of %q", err, want)
		}
	}

	failing(installs(t, values...), "job peal-ensure failed")
	holds(t, "after the Job failed", slices.Concat(before, failed), "")
	again := installs(t, values...)
	again.job = "" // it does not come so far
	failing(again, "cannot re-use a name that is still in use")

	second := upgrades(t, values...)
	second.args = append(second.args, "--install")
	second.must(t)
	holds(t, "after a second try", before, stays(t, values...))

	failing(upgrades(t, other...), "job peal-ensure failed")
	holds(t, "after the Job of an upgrade failed", slices.Concat(before, failed), stays(t, values...))
	upgrades(t, other...).must(t)
	holds(t, "after the upgrade was tried again", before, stays(t, other...))

	failing(upgrades(t, values...), "job peal-ensure failed")
	command{args: []string{"uninstall", "peal"}}.must(t)
	holds(t, "after it was uninstalled", slices.Concat(before, failed), "")
}

// What the scaler has made of the edges is not in the values. A rollback knows no better than
// the number of then: README.md says what to do instead.
func TestServerKeepsWhatIsScaled(t *testing.T) {
	serve(t)
	values := []string{"--values", chart + "/ci/everything.yaml"}
	other := append(slices.Clone(values), "--set", "config.heartbeat=20s")
	replicas := func(want, when string) {
		t.Helper()
		if got := ask(t, "", "get", "deployment", "bell-edge", "--output=jsonpath={.spec.replicas}"); got != want {
			t.Errorf("%s %s edges are to run, want %s", when, got, want)
		}
	}
	installs(t, values...).must(t)
	replicas("3", "after the installation")
	ask(t, "", "scale", "deployment", "bell-edge", "--replicas=17")
	if found := differences(t, stays(t, values...)); len(found) != 1 || !strings.Contains(found[0], "deployment.apps/bell-edge is\n") {
		t.Errorf("of what was scaled the comparison says %q", found)
	}
	upgrades(t, other...).must(t)
	replicas("17", "after the upgrade")
	upgrades(t, values...).must(t)
	replicas("17", "after the way back by an upgrade")
	command{args: []string{"rollback", "peal", "1"}}.must(t)
	replicas("3", "after the rollback")
}

// The way of README.md from one pod to a cluster: what ran in the pod goes, but for its volume.
func TestServerTakesTheWayToACluster(t *testing.T) {
	serve(t)
	one := []string{"--values", chart + "/ci/embedded.yaml"}
	many := []string{"--values", chart + "/ci/default.yaml", "--set", "config.partitions=8"}
	before := there(t)
	installs(t, one...).must(t)
	before = append(before, claim(t, released(t, one[1]))...)

	ask(t, "", "scale", "statefulset/peal", "--replicas=0")
	r, err := read(migration(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, warnings, err := kubectl(migration(t), "create", "--validate=strict", "--filename", "-"); err != nil || len(warnings) > 0 {
		t.Errorf("the Job that copies: %v, warnings %q", err, warnings)
	}
	if _, warnings, err := kubectl(shown(t, r), append([]string{"create"}, tried...)...); err != nil || len(warnings) > 0 {
		t.Errorf("its pod: %v, warnings %q", err, warnings)
	}
	ask(t, "", "patch", "job", "peal-migrate", "--subresource=status", "--type=merge", "--patch", succeeds)
	before = append(before, "job.batch/peal-migrate")

	upgrades(t, many...).must(t)
	holds(t, "after the upgrade", before, stays(t, many...))
}

// README.md says what can't be changed later. An upgrade that tries it fails, and a rollback
// mends it.
func TestServerRefusesWhatCantBeChanged(t *testing.T) {
	serve(t)
	for _, tt := range []struct{ name, file, set string }{
		{"the size of the volume", "embedded", "embedded.persistence.size=60Gi"},
		{"the class of the volume", "embedded", "embedded.persistence.storageClassName=slow"},
		{"what pods are selected by", "default", "fullnameOverride=peal,nameOverride=bell"},
		{"what the one pod is selected by", "embedded", "fullnameOverride=peal,nameOverride=bell"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			values := []string{"--values", chart + "/ci/" + tt.file + ".yaml"}
			before := there(t)
			installs(t, values...).must(t)
			err := upgrades(t, append(slices.Clone(values), "--set", tt.set)...).run(t)
			if err == nil || !strings.Contains(err.Error(), "immutable") && !strings.Contains(err.Error(), "updates to statefulset spec for fields other than") {
				t.Errorf("the server says %v, want that it can't be changed", err)
			}
			command{args: []string{"rollback", "peal", "1"}}.must(t)
			holds(t, "after the rollback", before, stays(t, values...))
			command{args: []string{"uninstall", "peal"}}.must(t)
		})
	}
}
