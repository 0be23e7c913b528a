package helm_test

import (
	"encoding/json"
	"os"
	"testing"
)

// free are the objects of the schema that take any key, each with the reason.
var free = map[string]string{
	"/properties/global":                                                 "Helm's own, for a chart that contains this one",
	"/properties/podSecurityContext":                                     "Kubernetes checks it",
	"/properties/securityContext":                                        "Kubernetes checks it",
	"/properties/config/properties/templates":                            "words of notifications, which peal checks",
	"/properties/httpRoute/properties/parentRefs/items":                  "the Gateway API checks it",
	"/properties/networkPolicy/properties/egress/properties/rules/items": "Kubernetes checks it",
	"/$defs/peers/items":                                                 "Kubernetes checks it",
	"/$defs/resources/properties/claims/items":                           "Kubernetes checks it",
	"/$defs/realm/properties/requiredClaims":                             "claims are named by the issuer",
	"/properties/env/items/properties/valueFrom":                         "Kubernetes checks it",
	"/properties/edge/properties/affinity":                               "Kubernetes checks it",
	"/properties/edge/properties/tolerations/items":                      "Kubernetes checks it",
	"/properties/dispatch/properties/affinity":                           "Kubernetes checks it",
	"/properties/dispatch/properties/tolerations/items":                  "Kubernetes checks it",
	"/properties/ensure/properties/affinity":                             "Kubernetes checks it",
	"/properties/ensure/properties/tolerations/items":                    "Kubernetes checks it",
	"/properties/embedded/properties/affinity":                           "Kubernetes checks it",
	"/properties/embedded/properties/tolerations/items":                  "Kubernetes checks it",
}

// A key that is spelled wrong is refused wherever it stands.
func TestSchemaIsStrict(t *testing.T) {
	data, err := os.ReadFile(chart + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	var walk func(v any, path string)
	walk = func(v any, path string) {
		node, ok := v.(map[string]any)
		if !ok {
			return
		}
		if node["type"] == "object" {
			seen[path] = true
			if _, closed := node["additionalProperties"]; closed == (free[path] != "") {
				t.Errorf("%s: that only some keys are known is %v, and the list of this test says otherwise", path, closed)
			}
		}
		for key, child := range node {
			walk(child, path+"/"+key)
		}
	}
	walk(schema, "")
	for path := range free {
		if !seen[path] {
			t.Errorf("%s is in the list, and not in the schema", path)
		}
	}
}
