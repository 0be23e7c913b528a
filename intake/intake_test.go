package intake_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/intake"
)

// letter is a body with something of each kind.
type letter struct {
	To      peal.UserRef      `json:"to"`
	Copies  []peal.UserRef    `json:"copies"`
	Reasons map[string]string `json:"reasons"`
	Content struct {
		Title string `json:"title"`
		Pages int    `json:"pages"`
	} `json:"content"`
	Rest intake.Raw `json:"rest"`
}

// The error tells its sender where to look, and never what was there.
func TestUnmarshalNamesTheField(t *testing.T) {
	for _, row := range []struct{ name, body, want string }{
		{"nothing", ``, "body: is not valid JSON at byte 0"},
		{"half of it", `{"content":{"title":"a"`, "content"},
		{"no object", `[]`, "body: has the wrong type"},
		{"two", `{}{}`, "body: is not valid JSON at byte 2"},
		{"an unknown field", `{"from":"secret"}`, "from: is not a known field"},
		{"one within another", `{"content":{"size":1}}`, "content.size: is not a known field"},
		{"another case", `{"To":"secret"}`, "To: is not a known field"},
		{"a field twice", `{"to":"a","to":"secret"}`, "to: must not be repeated"},
		{"a key of a map twice", `{"reasons":{"a":"1","a":"secret"}}`, "reasons.a: must not be repeated"},
		{"a text for a number", `{"content":{"pages":"secret"}}`, "content.pages: has the wrong type"},
		{"a number for a text", `{"content":{"title":1}}`, "content.title: has the wrong type"},
		{"a number out of range", `{"content":{"pages":9223372036854775808}}`, "content.pages: has the wrong type"},
		{"no UTF-8", "{\"content\":{\"title\":\"\xff\"}}", "content.title: is not valid JSON at byte 21"},
		{"half a surrogate pair", `{"content":{"title":"\ud800"}}`, "content.title: is not valid JSON at byte 21"},
		{"a control character", "{\"content\":{\"title\":\"\n\"}}", "content.title: is not valid JSON at byte 21"},
		{"in a list", `{"copies":["a","b",1]}`, "copies[2]: has the wrong type"},
		{"a field with lines in its name", `{"a\r\nb":1}`, "body: is not a known field"},
		{"a field with an endless name", `{"` + strings.Repeat("x", 129) + `":1}`, "body: is not a known field"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := intake.Unmarshal([]byte(row.body), new(letter))
			if err == nil || !errors.Is(err, peal.ErrInvalid) || !strings.HasPrefix(err.Error(), row.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: got %v, want %s", row.body, err, row.want)
			}
		})
	}
}

func TestUserReferences(t *testing.T) {
	long := strings.Repeat("ü", 64) // 128 bytes
	for _, row := range []struct {
		name, json string
		want       peal.UserRef
		refused    string // or the reason
	}{
		{"a text", `"jane"`, peal.UserRef{ID: "jane"}, ""},
		{"nothing is split out of it", `"acme/jane@x:y"`, peal.UserRef{ID: "acme/jane@x:y"}, ""},
		{"nor folded", `" Jane\u00e9 "`, peal.UserRef{ID: " Janeé "}, ""},
		{"nobody", `""`, peal.UserRef{}, ""},
		{"null", `null`, peal.UserRef{}, ""},
		{"of a namespace", `{"id":"jane","namespace":"acme"}`, peal.UserRef{ID: "jane", Namespace: "acme"}, ""},
		{"in the other order", `{ "namespace" : "acme" , "id" : "jane" }`, peal.UserRef{ID: "jane", Namespace: "acme"}, ""},
		{"of 128 bytes", `"` + long + `"`, peal.UserRef{ID: peal.UserID(long)}, ""},
		{"of 129 bytes", `"` + long + `x"`, peal.UserRef{}, "must be at most 128 bytes"},
		{"with a control character", `"a\u0000"`, peal.UserRef{}, "must not contain control characters"},
		{"an object of nothing", `{}`, peal.UserRef{}, "the namespace must be"},
		{"without a namespace", `{"id":"jane"}`, peal.UserRef{}, "the namespace must be"},
		{"with an empty one", `{"id":"jane","namespace":""}`, peal.UserRef{}, "the namespace must be"},
		{"with null for one", `{"id":"jane","namespace":null}`, peal.UserRef{}, "the namespace must be"},
		{"with one that is none", `{"id":"jane","namespace":"Acme"}`, peal.UserRef{}, "the namespace must be"},
		{"without an id", `{"namespace":"acme"}`, peal.UserRef{}, "the user must not be empty"},
		{"with null for an id", `{"id":null,"namespace":"acme"}`, peal.UserRef{}, "the user must not be empty"},
		{"with a long id", `{"id":"` + long + `x","namespace":"acme"}`, peal.UserRef{}, "the user must be at most 128 bytes"},
		{"a number", `1`, peal.UserRef{}, "has the wrong type"},
		{"true", `true`, peal.UserRef{}, "has the wrong type"},
		{"a list", `["jane"]`, peal.UserRef{}, "has the wrong type"},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, at := range []struct{ field, before, after string }{{"to", `{"to":`, `}`}, {"copies[1]", `{"copies":["a",`, `]}`}} {
				got := letter{To: peal.UserRef{ID: "before", Namespace: "before"}, Copies: []peal.UserRef{{}, {ID: "before", Namespace: "before"}}}
				err := intake.Unmarshal([]byte(at.before+row.json+at.after), &got)
				if row.refused != "" {
					if want := at.field + ": " + row.refused; err == nil || !strings.HasPrefix(err.Error(), want) || !errors.Is(err, peal.ErrInvalid) {
						t.Errorf("got %v, want %s", err, want)
					}
					continue
				}
				ref := got.To
				if at.field != "to" && len(got.Copies) == 2 {
					ref = got.Copies[1]
				}
				if err != nil || ref != row.want {
					t.Errorf("%s: got %+v, %v, want %+v", at.field, ref, err, row.want)
				}
			}
		})
	}
}

// What peal writes of a user reference it reads as the same.
func TestUserReferencesSurvive(t *testing.T) {
	for _, want := range []peal.UserRef{{}, {ID: "jane"}, {ID: `"<&>\ü`}, {ID: "jane", Namespace: "acme"}} {
		b, err := json.Marshal(map[string]any{"to": want})
		if err != nil {
			t.Fatal(err)
		}
		var got letter
		if err := intake.Unmarshal(b, &got); err != nil || got.To != want {
			t.Errorf("%s: got %+v, %v, want %+v", b, got.To, err, want)
		}
	}
}

func TestRawIsReadLater(t *testing.T) {
	var got letter
	if err := intake.Unmarshal([]byte(`{"rest":{"to":"a", "unknown":[1]}}`), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"to":"a", "unknown":[1]}`, string(got.Rest)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := intake.Unmarshal([]byte(`{"rest":{"to":"a","to":"b"}}`), &got); err == nil {
		t.Error("what is read later need not be well-formed")
	}
}

func TestWithoutNull(t *testing.T) {
	for body, want := range map[string]string{
		`{}`:                               "",
		`{"a":"null","null":[1,true,{}]}`:  "",
		`null`:                             "body: must not be null",
		`{"a":null}`:                       "a: must not be null",
		`{"a":{"b":[0,{"c":null}]}}`:       "a.b[1].c: must not be null",
		`[1,null]`:                         "[1]: must not be null",
		`{"a":1,"b":[],"c":"x","d": null}`: "d: must not be null",
	} {
		err := intake.WithoutNull([]byte(body))
		if want == "" && err == nil {
			continue
		}
		if err == nil || err.Error() != want || !errors.Is(err, peal.ErrInvalid) {
			t.Errorf("%s: got %v, want %q", body, err, want)
		}
	}
}

func TestAboutUser(t *testing.T) {
	other := errors.New("away")
	for _, row := range []struct {
		err  error
		want string
	}{
		{peal.Invalid("user", "must not be empty"), "mentions[3]: the user must not be empty"},
		{peal.Invalid("namespace", "must be short"), "mentions[3]: the namespace must be short"},
		{peal.Invalid("recipients", "a user id must not be empty"), "mentions[3]: a user id must not be empty"},
		{other, "away"},
	} {
		if got := intake.AboutUser("mentions[3]", row.err); got.Error() != row.want {
			t.Errorf("got %v, want %s", got, row.want)
		}
	}
	if err := intake.AboutUser("mentions[3]", nil); err != nil {
		t.Errorf("got %v of no error", err)
	}
}
