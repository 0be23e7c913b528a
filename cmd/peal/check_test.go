package main

import "testing"

// What a browser never sends would match nothing, so it is refused at the start.
func TestOriginsAreThoseThatBrowsersSend(t *testing.T) {
	for origin, want := range map[string]bool{
		"https://app.example.com":       true,
		"https://app.example.com:8443":  true,
		"http://localhost:3000":         true,
		"http://intranet":               true,
		"https://xn--bcher-kva.example": true,
		"https://under_score.example":   true,
		"https://192.0.2.1":             true,
		"https://[2001:db8::1]":         true,
		"https://[2001:db8::1]:8443":    true,
		"http://app.example.com:443":    true,

		"":                               false,
		"*":                              false,
		"null":                           false,
		"https://*.example.com":          false,
		"https://":                       false,
		"app.example.com":                false,
		"//app.example.com":              false,
		"https:app.example.com":          false,
		"ftp://app.example.com":          false,
		"HTTPS://app.example.com":        false,
		"https://App.example.com":        false,
		"https://bücher.example":         false,
		"https://app.example.com/":       false,
		"https://app.example.com/x":      false,
		"https://app.example.com?":       false,
		"https://app.example.com?x":      false,
		"https://app.example.com#":       false,
		"https://app.example.com#x":      false,
		"https://u@app.example.com":      false,
		"https://u:p@app.example.com":    false,
		"https://@app.example.com":       false,
		"https://app.example.com:443":    false,
		"http://app.example.com:80":      false,
		"https://app.example.com:":       false,
		"https://app.example.com:0":      false,
		"https://app.example.com:08443":  false,
		"https://app.example.com:65536":  false,
		"https://app.example.com:x":      false,
		"https://app.example.com.":       false,
		"https://.example.com":           false,
		"https://app..example.com":       false,
		"https://app%2eexample.com":      false,
		" https://app.example.com":       false,
		"https://app.example.com ":       false,
		"https://[2001:DB8::1]":          false,
		"https://[2001:db8:0::1]":        false,
		"https://[fe80::1%25eth0]":       false,
		"https://2001:db8::1":            false,
		"https://[app.example.com]":      false,
		"https://a.example,https://b.ex": false,
	} {
		if got := isOrigin(origin); got != want {
			t.Errorf("%q: got %v, want %v", origin, got, want)
		}
	}
}
