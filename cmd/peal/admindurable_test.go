package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDurableCommandsAskForWhatIsGiven(t *testing.T) {
	const shared = string(tenantShared)
	for _, tt := range []struct {
		name string
		args []string
		want []string // that is asked
	}{
		{"all", []string{"list"}, []string{"GET /durables?limit=50"}},
		{"a page of a tenant", []string{"list", "--tenant", strings.ToUpper(shared), "--limit", "7", "--after", "x"}, []string{"GET /durables?after=x&limit=7&tenant=" + shared}},
		{"of a user", []string{"list", "--tenant", shared, "--user", "j&e", "--namespace", "staff"}, []string{"GET /durables?limit=50&namespace=staff&tenant=" + shared + "&user=j%26e"}},
		{"removed", []string{"remove", "a.b", "c", "a.b"}, []string{"DELETE /durables/a.b", "DELETE /durables/c"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newAdminServer(t, 200, "application/json", `{"durables":[],"next":null}`)
			got := do(t, nil, append([]string{"admin", "durable"}, append(tt.args, "--admin", s.URL)...)...)
			if got.status != 0 || got.stderr != "" {
				t.Errorf("result %+v", got)
			}
			var asked []string
			for _, a := range s.asked {
				asked = append(asked, strings.TrimSpace(a))
			}
			if diff := cmp.Diff(tt.want, asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

// Nothing is asked of the service by a call that is wrong.
func TestDurableUsage(t *testing.T) {
	s := newAdminServer(t, 200, "application/json", "{}")
	tenant := string(tenantShared)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "list"},
		{[]string{"list", "--tenant", "acme"}, "--tenant"},
		{[]string{"list", "--tenant", tenant, "--user", ""}, "--user"},
		{[]string{"list", "--user", "jane"}, "--tenant"},
		{[]string{"list", "--tenant", tenant, "--namespace", "staff"}, "--user"},
		{[]string{"list", "--tenant", tenant, "--user", "jane", "--after", "x"}, "--after"},
		{[]string{"list", "--limit", "0"}, "--limit"},
		{[]string{"list", "x"}, "x"},
		{[]string{"remove"}, "IDs"},
		{[]string{"remove", ""}, "ID"},
	} {
		got := do(t, nil, append([]string{"admin", "durable"}, append(tt.args, "--admin", s.URL)...)...)
		if got.status != 2 || !strings.Contains(got.stderr, tt.want) || len(s.asked) != 0 {
			t.Errorf("%q: %+v, asked %q; want status 2 and %q", tt.args, got, s.asked, tt.want)
		}
	}
}

// A client keeps its place in a running service, and the operator finds and removes it.
func TestDurableOfARunningService(t *testing.T) {
	data := t.TempDir()
	dev := startDev(t, data)
	token := strings.TrimSpace(do(t, nil, "token", "--data", data, "--realm", "acme", "--tenant", string(tenantAcme), "--user", "jane").stdout)
	connect := func() (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", dev.ready.URL+"/api/v2/ticketing/ticket/sse/notifications?durable=wall", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("realmname", "acme")
		r.Header.Set("x-tenantid", string(tenantAcme))
		return http.DefaultClient.Do(r)
	}
	resp, err := connect()
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("connect: %v %v", resp, err)
	}
	resp.Body.Close()
	listed := do(t, nil, "admin", "durable", "list", "--data", data, "--tenant", string(tenantAcme), "--user", "jane")
	var page durablePage
	if err := json.Unmarshal([]byte(listed.stdout), &page); err != nil || len(page.Durables) != 1 || page.Durables[0].Name != "wall" {
		t.Fatalf("list: %+v, %v", listed, err)
	}
	id := page.Durables[0].ID
	if got := do(t, nil, "admin", "durable", "remove", "--data", data, id); got.status != 0 || got.stdout != `{"removed":1}`+"\n" {
		t.Errorf("remove: %+v", got)
	}
	if got := do(t, nil, "admin", "durable", "remove", "--data", data, id); got.status != 1 || !strings.Contains(got.stderr, "404") {
		t.Errorf("remove once more: %+v", got)
	}
}
