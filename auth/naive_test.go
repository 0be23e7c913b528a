package auth

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/pealhq/peal"
)

// The tenants of the realm that is judged naively, and another one.
const (
	ours   peal.Tenant = "11111111-1111-4111-8111-11111111111a"
	too    peal.Tenant = "33333333-3333-4333-8333-33333333333b"
	theirs peal.Tenant = "22222222-2222-4222-8222-22222222222c"
)

// naiveRealm is what naively knows by heart.
func naiveRealm(r *Realm) {
	r.Tenants = Tenants{IDs: []peal.Tenant{ours, too}}
	r.RequiredClaims = map[string]Values{"azp": {OneOf: []string{"web", "app"}}}
}

// said is what a good token says.
type said struct {
	user, id, session       string
	expires                 float64 // seconds
	publish, admin, tickets bool
	opens                   map[peal.Tenant]bool
}

var naiveUUID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// naively judges the payload of a token that naiveRealm has signed, by the rules
// of the contract from the first to the last. It shares nothing with the package,
// not even the parser that finds repeated names.
func naively(payload []byte) (s said, good bool) {
	if !jsontext.Value(payload).IsValid() { // RFC 7493: no repeated names, no half characters
		return s, false
	}
	var claims map[string]any
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	if dec.Decode(&claims) != nil || claims == nil {
		return s, false
	}
	texts := func(v any) []string { // nil unless it is a string or a list of nothing but strings
		if one, ok := v.(string); ok {
			return []string{one}
		}
		many, _ := v.([]any)
		var all []string
		for _, e := range many {
			one, ok := e.(string)
			if !ok {
				return nil
			}
			all = append(all, one)
		}
		return all
	}
	seconds := func(v any) (float64, bool) {
		n, ok := v.(json.Number)
		f, err := strconv.ParseFloat(string(n), 64)
		return f, ok && err == nil
	}

	// It is an access token.
	kind, _ := claims["typ"].(string)
	switch strings.ToLower(kind) {
	case "id", "refresh", "offline", "logout":
		return s, false
	}
	for _, name := range []string{"at_hash", "c_hash", "s_hash", "events"} {
		if _, ok := claims[name]; ok {
			return s, false
		}
	}
	if _, ok := claims["nonce"]; ok && !strings.EqualFold(kind, "bearer") {
		return s, false
	}

	// It is from our issuer, and for us.
	if claims["iss"] != "https://acme.example" {
		return s, false
	}
	if aud := texts(claims["aud"]); !slices.Contains(aud, "peal") && !slices.Contains(aud, "peal-test") {
		return s, false
	}
	if azp := texts(claims["azp"]); !slices.Contains(azp, "web") && !slices.Contains(azp, "app") {
		return s, false
	}

	// It is good now, and not for longer than 30 days.
	var ok bool
	if s.expires, ok = seconds(claims["exp"]); !ok || s.expires <= fuzzNow {
		return s, false
	}
	issued := float64(fuzzNow)
	if iat, there := claims["iat"]; there {
		if issued, ok = seconds(iat); !ok || issued > fuzzNow+30 {
			return s, false
		}
	}
	if s.expires-issued > 30*24*60*60 {
		return s, false
	}
	if nbf, there := claims["nbf"]; there {
		if from, ok := seconds(nbf); !ok || from > fuzzNow+30 {
			return s, false
		}
	}

	// It names a user, and may name itself and a session.
	if s.user, ok = claims["sub"].(string); !ok || len(s.user) < 1 || len(s.user) > 128 {
		return s, false
	}
	for _, r := range s.user {
		if r < ' ' || r >= 0x7f && r <= 0x9f {
			return s, false
		}
	}
	for name, to := range map[string]*string{"jti": &s.id, "sid": &s.session} {
		if v, there := claims[name]; there {
			if *to, ok = v.(string); !ok {
				return s, false
			}
		}
	}

	// It has roles, from three places.
	var roles []string
	nested, _ := claims["realm_access"].(map[string]any)
	places := []any{nested["roles"], claims["roles"], claims["scope"]}
	if v, there := claims["realm_access.roles"]; there {
		places[0] = v
	}
	for _, place := range places {
		if list, ok := place.(string); ok {
			roles = append(roles, strings.Split(list, " ")...)
		} else {
			roles = append(roles, texts(place)...)
		}
	}
	s.publish = slices.Contains(roles, "notifications:publish")
	s.admin = slices.Contains(roles, "notifications:admin")
	s.tickets = slices.Contains(roles, "tickets:all")

	// It opens the realm's tenants, or those of them that it names.
	s.opens = map[peal.Tenant]bool{ours: true, too: true}
	claim, there := claims["tenant_id"]
	if !there {
		claim, there = claims["tenants"]
	}
	if there {
		named := texts(claim)
		whole := true
		for _, id := range named {
			whole = whole && naiveUUID.MatchString(strings.ToLower(id)) && len(id) == 36
		}
		for id := range s.opens {
			s.opens[id] = whole && slices.ContainsFunc(named, func(n string) bool { return strings.ToLower(n) == string(id) })
		}
	}
	return s, true
}

// wantNaive holds the package against naively.
func wantNaive(t *testing.T, v *Verifier, key ed25519.PrivateKey, payload []byte) (good bool) {
	t.Helper()
	token := signed(key, `{"alg":"EdDSA","kid":"k"}`, string(payload))
	if len(token) > MaxToken {
		return false
	}
	got, err := v.Verify(t.Context(), "acme", token)
	want, good := naively(payload)
	if (err == nil) != good {
		t.Fatalf("%s\ngot %v, want it good: %v", payload, err, good)
	}
	if !good {
		return false
	}
	have := said{string(got.User), got.ID, got.Session, want.expires, got.granted&Publish != 0, got.granted&Admin != 0, got.granted&Tickets != 0, nil}
	if late := float64(got.Expires.UnixNano())/1e9 - want.expires; late > 1e-3 || late < -1e-3 {
		t.Fatalf("%s\nexpires %v, want %v", payload, got.Expires, want.expires)
	}
	if fmt.Sprint(have) != fmt.Sprint(said{want.user, want.id, want.session, want.expires, want.publish, want.admin, want.tickets, nil}) || got.Subject != want.user {
		t.Fatalf("%s\ngot %+v, want %+v", payload, have, want)
	}
	for _, tenant := range []peal.Tenant{ours, too, theirs} {
		c, err := got.Caller(string(tenant))
		if (err == nil) != want.opens[tenant] {
			t.Fatalf("%s\ntenant %s: %v, want it open: %v", payload, tenant, err, want.opens[tenant])
		}
		if err == nil && (c.Inbox != peal.Inbox{Tenant: tenant, Namespace: "acme", User: peal.UserID(want.user)}) {
			t.Fatalf("%s\ninbox %v", payload, c.Inbox)
		}
	}
	return true
}

// oddities are what a claim could be, as JSON; "" is none. The first of each is
// good.
var oddities = map[string][]string{
	"iss": {`"https://acme.example"`, ``, `"https://acme.example/"`, `"https:\/\/acme.example"`, `null`, `["https://acme.example"]`, `1`},
	"aud": {`"peal"`, `["x","peal-test"]`, `[]`, ``, `"x"`, `["peal",1]`, `"peal peal-test"`, `{"peal":1}`, `null`},
	"azp": {`"web"`, `["app"]`, `["x"]`, `["web",null]`, ``, `null`, `"we"`, `{}`},
	"exp": {`1800000060`, `1800000000`, `1800000000.001`, `1802592000`, `1802592000.5`, `1.80000006e9`, `9e18`, `-9e18`, `1e999`, `0`, ``, `"1800000060"`, `null`, `1799999999.999`},
	"iat": {``, `1800000000`, `1800000030`, `1800000030.001`, `1797408060`, `1797408059`, `-62135596800`, `0`, `9e18`, `"x"`, `null`, `[]`},
	"nbf": {``, `1800000030`, `1800000031`, `-9e18`, `9e18`, `1e999`, `"0"`, `null`},
	"sub": {`"jane"`, `"\u0000"`, `"\ud83d\ude00"`, `"\ud83d"`, `"😀"`, `""`, ``, `7`, `null`, `"a\u0085"`, `"\u007f"`,
		`"` + strings.Repeat("é", 64) + `"`, `"` + strings.Repeat("é", 64) + `x"`, `["jane"]`},
	"jti":     {``, `"j"`, `""`, `1`, `null`},
	"sid":     {``, `"s"`, `{}`, `null`},
	"typ":     {``, `"Bearer"`, `"ID"`, `"refresh"`, `"OFFLINE"`, `"Logout"`, `"x"`, `1`, `["ID"]`, `null`},
	"nonce":   {``, ``, ``, `"n"`, `null`},
	"events":  {``, ``, ``, ``, `{}`, `null`},
	"at_hash": {``, ``, ``, ``, `"x"`},
	"tenant_id": {``, ``, `"` + string(ours) + `"`, `"` + strings.ToUpper(string(too)) + `"`, `"` + string(theirs) + `"`, `""`, `null`, `1`,
		`["` + string(ours) + `","` + string(too) + `"]`, `" ` + string(ours) + `"`},
	"tenants": {``, ``, `["` + string(ours) + `"]`, `["` + string(theirs) + `","` + string(too) + `"]`,
		`["` + string(ours) + `","x"]`, `["` + string(ours) + `",1]`, `[]`, `{}`, `"` + string(too) + `"`, `null`},
	"roles":              {``, `["notifications:publish"]`, `"notifications:admin tickets:all"`, `["notifications:publish",1]`, `[["tickets:all"]]`, `{}`, `["notifications:admin tickets:all"]`},
	"scope":              {``, `"openid  tickets:all "`, `["notifications:admin"]`, `" "`, `1`},
	"realm_access":       {``, `{"roles":["notifications:admin"]}`, `{"roles":"tickets:all"}`, `{"roles":null}`, `"roles"`, `{}`, `[{"roles":["tickets:all"]}]`},
	"realm_access.roles": {``, ``, ``, `["notifications:publish"]`, `null`},
	"Sub":                {``, ``, `"admin"`},
	"extra":              {``, ``, `{"a":1,"b":[{"a":1},{"a":2}]}`, `{"a":1,"a":2}`, `[[{"a":1,"\u0061":1}]]`, `"\\\ud800"`, `"\\ud800"`, `1e999`},
}

// random makes a payload of oddities, most claims of which are good.
func random(r *rand.Rand) []byte {
	var members []string
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range oddities {
			if !yield(name) {
				return
			}
		}
	}) {
		values := oddities[name]
		value := values[0]
		if r.IntN(4) == 0 {
			value = values[r.IntN(len(values))]
		}
		if value != "" {
			members = append(members, fmt.Sprintf("%q:%s", name, value))
		}
		if r.IntN(200) == 0 && value != "" { // twice
			members = append(members, fmt.Sprintf("%q:%s", name, value))
		}
	}
	r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return []byte("{" + strings.Join(members, ", ") + "}")
}

func TestTheNaiveJudgeAgrees(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	v := fuzzVerifier(t, key, naiveRealm)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	const payloads = 10_000
	good := 0
	for range payloads {
		if wantNaive(t, v, key, random(r)) {
			good++
		}
	}
	if good < payloads/20 || good > payloads*19/20 {
		t.Errorf("seed %d: %d of %d payloads were good, want some of both", seed, good, payloads)
	}
}

// FuzzClaims: whatever an issuer signs, the package takes what the naive judge
// takes, and reads it so.
func FuzzClaims(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	v := fuzzVerifier(f, key, naiveRealm)
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		f.Add(random(r))
	}
	const good = `"iss":"https://acme.example","aud":"peal","azp":"web","exp":1800000060,"sub":"jane"`
	for _, payload := range []string{
		`{` + good + `}`, ` {` + good + `}` + "\n", `{` + good + `} {}`, `{` + good + `,}`, `[{` + good + `}]`, `null`, ``, `{}`,
		`{` + good + `,"s\u0075b":"x"}`, `{` + good + `,"x":"\ud83d\ude00"}`, `{` + good + `,"x":"\ude00\ud83d"}`, "{" + good + ",\"x\":\"\xff\"}",
		`{` + good + `,"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, `{` + good + `,"x":01}`, `{` + good + `,"x":NaN}`, "\ufeff{" + good + "}",
	} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) { wantNaive(t, v, key, payload) })
}
