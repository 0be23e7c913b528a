package helm_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// lists are what each role may do, at the end of the values of a region.
func lists(t *testing.T, region string) string {
	t.Helper()
	var out strings.Builder
	out.WriteString("\n# What each role may do, as in deploy/nats/regions: go test -C helm/test -run Lists . -update\nconfigMap:\n  merge:\n    data:\n")
	for _, role := range []string{"edge", "dispatch", "admin", "publisher"} {
		text, err := os.ReadFile("../../deploy/nats/regions/" + region + "/" + role + ".conf")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "      %s.conf: |\n", role)
		for line := range strings.Lines(string(text)) {
			if line != "\n" {
				line = "        " + line
			}
			out.WriteString(line)
		}
	}
	return out.String()
}

// What a role may do has one home, and these are copies of it.
func TestListsOfNATSAreThoseOfDeploy(t *testing.T) {
	for _, region := range []string{"eu", "us"} {
		name := "../nats/values-" + region + ".yaml"
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		own, _, _ := strings.Cut(string(text), "\n# What each role may do,")
		want := strings.TrimRight(own, "\n") + "\n" + lists(t, region)
		if *update {
			if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if want != string(text) {
			t.Errorf("%s has other lists than deploy/nats/regions: go test -C helm/test -run Lists . -update", name)
		}
	}
}

// natsValues is the part of the values that has to be the same in all regions, or another in
// each.
type natsValues struct {
	Config struct {
		ServerNamePrefix string
		Cluster          struct {
			Replicas int
			Merge    struct{ Name string }
			TLS      struct{ Enabled bool }
		}
		Gateway struct {
			TLS   struct{ Enabled bool }
			Merge struct {
				Name      string
				Advertise string
				Gateways  []struct {
					Name string
					URLs []string
				}
			}
		}
		NATS struct {
			TLS struct{ Enabled bool }
		}
		Jetstream struct {
			Merge struct {
				SyncInterval string `json:"sync_interval"`
			}
		}
		Merge struct {
			Accounts map[string]struct {
				Users []struct{ User, Password string }
			}
		}
	}
	Container struct {
		Env map[string]any
	}
	ExtraResources []struct {
		Spec struct{ Selector map[string]string }
	}
}

func TestRegionsOfNATSFindEachOther(t *testing.T) {
	all := make(map[string]natsValues)
	for _, region := range []string{"eu", "us", "witness"} {
		data, err := os.ReadFile("../nats/values-" + region + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		var v natsValues
		if err := yaml.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		all[region] = v
	}
	prefixes := make(map[string]bool)
	for region, v := range all {
		c := v.Config
		if c.Cluster.Merge.Name != "peal-"+region || c.Gateway.Merge.Name != c.Cluster.Merge.Name {
			t.Errorf("%s: the cluster is %q and its gateway %q; NATS wants one name, peal-%s", region, c.Cluster.Merge.Name, c.Gateway.Merge.Name, region)
		}
		if c.Cluster.Replicas != 3 || c.Jetstream.Merge.SyncInterval != "always" {
			t.Errorf("%s: %d servers, sync_interval %q", region, c.Cluster.Replicas, c.Jetstream.Merge.SyncInterval)
		}
		if !c.Cluster.TLS.Enabled || !c.Gateway.TLS.Enabled || !c.NATS.TLS.Enabled {
			t.Errorf("%s: something goes over the network as it is", region)
		}
		// Another NATS of the namespace would get some of what comes from the other regions.
		if len(v.ExtraResources) != 1 || v.ExtraResources[0].Spec.Selector["app.kubernetes.io/instance"] != "peal-nats" {
			t.Errorf("%s: the Service of the gateway is not about the release peal-nats", region)
		}
		prefixes[c.ServerNamePrefix] = true
		if len(c.Gateway.Merge.Gateways) != len(all) {
			t.Errorf("%s knows %d gateways, want %d", region, len(c.Gateway.Merge.Gateways), len(all))
		}
		for _, g := range c.Gateway.Merge.Gateways {
			other, known := all[strings.TrimPrefix(g.Name, "peal-")]
			if !known || len(g.URLs) != 1 || g.URLs[0] != "tls://"+other.Config.Gateway.Merge.Advertise {
				t.Errorf("%s looks for %s at %q, which says %q of itself", region, g.Name, g.URLs, other.Config.Gateway.Merge.Advertise)
			}
		}
		for account, a := range c.Merge.Accounts {
			for _, u := range a.Users {
				variable := strings.TrimSuffix(strings.TrimPrefix(u.Password, "<< $"), " >>")
				if v.Container.Env[variable] == nil {
					t.Errorf("%s: the password of %s in %s is %q, and the environment has none of that name", region, u.User, account, u.Password)
				}
			}
		}
	}
	if len(prefixes) != len(all) {
		t.Errorf("servers of different regions have one name: %v", prefixes)
	}
}
