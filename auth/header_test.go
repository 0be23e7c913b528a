package auth_test

import (
	"strings"
	"testing"

	"github.com/pealhq/peal/auth"
)

// All are signed by the realm: only the header is refused.
func TestKid(t *testing.T) {
	w := newWorld(t, nil)
	var rows []verdict
	for _, row := range []struct {
		name, kid string // as it is in the header; "" is none
		want      auth.Reason
	}{
		{"the key's", `"kid":"KID"`, ""},
		{"absent", ``, auth.ReasonKidMissing},
		{"Kid", `"Kid":"KID"`, auth.ReasonKidMissing},
		{"a number", `"kid":1`, auth.ReasonKidMissing},
		{"true", `"kid":true`, auth.ReasonKidMissing},
		{"null", `"kid":null`, auth.ReasonKidMissing},
		{"a list with it", `"kid":["KID"]`, auth.ReasonKidMissing},
		{"an object with it", `"kid":{"kid":"KID"}`, auth.ReasonKidMissing},
		{"empty", `"kid":""`, auth.ReasonKidMissing},
		{"of 256 bytes", `"kid":"` + strings.Repeat("k", 256) + `"`, auth.ReasonKidUnknown},
		{"of 257 bytes", `"kid":"` + strings.Repeat("k", 257) + `"`, auth.ReasonKidMissing},
		{"of 257 bytes in 129 characters", `"kid":"` + strings.Repeat("é", 128) + `k"`, auth.ReasonKidMissing},
		{"of 8 kB", `"kid":"` + strings.Repeat("k", 8<<10) + `"`, auth.ReasonKidMissing},
		{"of 10 kB, which no token has room for", `"kid":"` + strings.Repeat("k", 10<<10) + `"`, auth.ReasonMalformed},
		{"a path", `"kid":"../../etc/passwd"`, auth.ReasonKidUnknown},
		{"a path to nothing", `"kid":"/dev/null"`, auth.ReasonKidUnknown},
		{"a path to it", `"kid":"./KID"`, auth.ReasonKidUnknown},
		{"SQL", `"kid":"x' UNION SELECT 'secret"`, auth.ReasonKidUnknown},
		{"a command", `"kid":"KID;id"`, auth.ReasonKidUnknown},
		{"with NUL at the end", `"kid":"KID\u0000"`, auth.ReasonKidUnknown},
		{"with a space at the end", `"kid":"KID "`, auth.ReasonKidUnknown},
		{"in upper case", `"kid":"` + upperKid(w) + `"`, auth.ReasonKidUnknown},
		{"a star", `"kid":"*"`, auth.ReasonKidUnknown},
		{"twice", `"kid":"KID","kid":"KID"`, auth.ReasonMalformed},
		{"another one first", `"kid":"x","kid":"KID"`, auth.ReasonMalformed},
		{"another one by an escape", `"kid":"KID","k\u0069d":"x"`, auth.ReasonMalformed},
		{"Kid beside it", `"kid":"KID","Kid":"x"`, ""},
	} {
		header := strings.Replace(`{"alg":"ES256",}`, ",}", strings.TrimSuffix(","+row.kid, ",")+"}", 1)
		rows = append(rows, verdict{row.name, "acme", written(w, "acme", header, goodPayload), row.want})
	}
	wantVerdicts(t, w, rows)
}

func upperKid(w *world) string {
	kid, _, err := w.iss.PublicKey("acme")
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.ToUpper(kid)
}

// No extension is honoured, so none may be asked for (RFC 7515 section 4.1.11):
// whatever shape the wish has.
func TestExtensionsAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	var rows []verdict
	for _, extension := range []string{
		`"crit":["exp"]`, `"crit":["b64"]`, `"crit":["b64"],"b64":false`, `"crit":["b64"],"b64":true`, `"crit":["x"],"x":1`,
		`"crit":[]`, `"crit":[""]`, `"crit":[1]`, `"crit":["alg"]`, `"crit":"exp"`, `"crit":""`, `"crit":null`, `"crit":{}`, `"crit":0`, `"crit":false`,
		`"cr\u0069t":["exp"]`, `"b64":true`, `"b64":false`, `"b64":null`,
	} {
		rows = append(rows, verdict{extension, "acme", written(w, "acme", `{"alg":"ES256","kid":"KID",`+extension+`}`, goodPayload), auth.ReasonCrit})
	}
	wantVerdicts(t, w, append(rows,
		verdict{"Crit means nothing", "acme", written(w, "acme", `{"alg":"ES256","kid":"KID","Crit":["exp"]}`, goodPayload), ""},
		verdict{"crit in the payload means nothing", "acme", written(w, "acme", goodHeader, goodWith(`,"crit":["exp"]`)), ""},
	))
}
