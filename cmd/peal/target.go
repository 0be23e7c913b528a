package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/node"
	"github.com/pealhq/peal/sse"
)

// target is which service a client command talks to, and as whom: a running
// peal dev that its data directory tells of, or any service by --url and
// --token.
type target struct {
	data, url, token string
	realm, tenant    string
	user             string   // for dev
	roles            []string // for dev
	getenv           func(string) string
}

func (c *call) target(fs *flag.FlagSet) *target {
	t := &target{getenv: c.getenv}
	fs.StringVar(&t.data, "data", devData, "data `DIR` of a running peal dev")
	fs.StringVar(&t.url, "url", "", "`URL` of the service, if it is not peal dev")
	fs.StringVar(&t.token, "token", "", "bearer `TOKEN`, if it is not peal dev; better in the environment as PEAL_TOKEN")
	fs.StringVar(&t.realm, "realm", realmAcme, "`REALM` of the token")
	fs.StringVar(&t.tenant, "tenant", string(tenantAcme), "`TENANT` to speak for")
	return t
}

// bearer is the token that was given; "" if none was.
func (t *target) bearer() string { return cmp.Or(t.token, t.getenv("PEAL_TOKEN")) }

// owned refuses a command of a user's own inbox that does not say whose, or says so
// twice: a token of another than --user would have the last word.
func (t *target) owned() error {
	switch given := t.bearer() != ""; {
	case t.user == "" && !given:
		return usagef("--user USER is required, or a token that says who")
	case t.user != "" && given:
		return usagef("--user is of a running peal dev, and a token says who: leave one out, --user or --token (PEAL_TOKEN)")
	}
	return nil
}

// isServiceURL reports whether s can be the URL of a service.
func isServiceURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// resolve finds the address, and a way to get tokens.
func (t *target) resolve() (header func(context.Context) (http.Header, error), err error) {
	given := t.bearer()
	if t.url != "" {
		if given == "" {
			return nil, usagef("--url needs a token: --token TOKEN, or PEAL_TOKEN in the environment")
		}
		if !isServiceURL(t.url) {
			return nil, usagef("--url must be a URL such as https://peal.example.com")
		}
		t.url = strings.TrimSuffix(t.url, "/")
		return t.fixed(given), nil
	}
	running, err := readDevJSON(t.data)
	if err != nil {
		return nil, err
	}
	t.url = running.URL
	if given != "" {
		return t.fixed(given), nil
	}
	return t.minted, nil
}

func (t *target) fixed(token string) func(context.Context) (http.Header, error) {
	return func(context.Context) (http.Header, error) { return t.header(token), nil }
}

// minted makes a fresh token of the running dev. It asks where dev is each
// time, for it may have been started anew on another port.
func (t *target) minted(context.Context) (http.Header, error) {
	running, err := readDevJSON(t.data)
	if err != nil {
		return nil, err
	}
	tenant, err := peal.ParseTenant(t.tenant)
	if err != nil {
		return nil, usagef("--%v", err)
	}
	tokens, err := openIssuer(t.data, running.URL)
	if err != nil {
		return nil, err
	}
	token, err := mint(tokens, t.realm, t.user, tenant, time.Hour, "", t.roles)
	if errors.Is(err, peal.ErrInvalid) {
		return nil, usagef("--%v", err)
	}
	if err != nil {
		return nil, err
	}
	return t.header(token), nil
}

func (t *target) header(token string) http.Header {
	return http.Header{
		"Authorization": {"Bearer " + token},
		"Realmname":     {t.realm},
		"X-Tenantid":    {t.tenant},
	}
}

// requestTimeout bounds one call of the API by a client command.
const requestTimeout = 30 * time.Second

// post calls the API and reads the answer into v.
func (t *target) post(ctx context.Context, header http.Header, path string, body, v any) error {
	answer, _, err := t.send(ctx, http.MethodPost, header, path, body)
	if err != nil {
		return err
	}
	return readAnswer(answer, v)
}

// send calls the API.
func (t *target) send(ctx context.Context, method string, header http.Header, path string, body any) ([]byte, http.Header, error) {
	return send(ctx, method, t.url+node.Base+path, header, body)
}

// post posts JSON to a service and reads the answer into v.
func post(ctx context.Context, address string, header http.Header, body, v any) error {
	answer, _, err := send(ctx, http.MethodPost, address, header, body)
	if err != nil {
		return err
	}
	return readAnswer(answer, v)
}

// readAnswer reads the JSON of an answer.
func readAnswer(answer []byte, v any) error {
	if err := json.Unmarshal(answer, v); err != nil {
		return fmt.Errorf("an answer that is none: %w", err)
	}
	return nil
}

// maxAnswer bounds an answer, in bytes: a page of 200 of the largest
// notifications is 3.3 MB.
const maxAnswer = 8 << 20

// send calls a service, with a JSON body unless it is nil, and returns what it
// has answered. A refusal is an error.
func send(ctx context.Context, method, address string, header http.Header, body any) (answer []byte, answered http.Header, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, nil, err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return nil, nil, err
	}
	req.Header = header.Clone()
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, context.Canceled) {
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: is the service running there?", err)
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return nil, nil, err
	}
	if resp.StatusCode >= 300 {
		var p sse.Problem
		json.Unmarshal(answer, &p) // an answer without a problem has none to tell
		return nil, nil, refusedError{resp.StatusCode, strings.Join(strings.Fields(fmt.Sprint(resp.StatusCode, " ", p.Code, " ", p.Detail)), " ")}
	}
	return answer, resp.Header, nil
}

// refusedError is a refusal of a service.
type refusedError struct {
	status int
	text   string // status, code and detail
}

func (e refusedError) Error() string { return "refused: " + e.text }
