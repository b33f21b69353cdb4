package settings

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSettingsMessages expects that what is wrong is said in the words of settings and not of Go.
func TestSettingsMessages(t *testing.T) {
	for given, want := range map[string]string{
		`[]`: "JSON: expected an object, got a list", `5`: "JSON: expected an object, got a number",
		`null`: "JSON: expected an object, got null", `{"port":`: "JSON: line 1, column 9: expected more, got the end",
		`{"log_format": "` + strings.Repeat("ä", 90) + `"`: "JSON: line 1, column 108: expected more, got the end",
		"// ä\n{ /* ä */ \"port\" 5}":                      `JSON: line 2, column 18: expected ":" after the key, got "5"`,
		"{} // a\n{}":                                      `JSON: line 2, column 1: expected nothing more, got "{"`,
		"// {}":                                            "JSON: line 1, column 6: expected more, got the end",
		"{\"port\": 1 /* x":                                `JSON: line 1, column 12: expected "," or "}", got "/"`,
		`{"port": 1,,}`:                                    `JSON: line 1, column 13: expected a key in double quotes, got "}"`,
		`{"port": 1 / 2}`:                                  `JSON: line 1, column 12: expected "," or "}", got "/"`,
		`{"drain": "` + strings.Repeat("ä", 90) + `"}`: `drain: expected a duration from "0s" on, got "` + strings.Repeat("ä", 79) + "…",
	} {
		_, err := new(Server).Parse("F", []byte(given))
		if err == nil || err.Error() != "settings in F: "+want {
			t.Errorf("%s: expected %q, got %v", given, want, err)
		}
	}
}

// TestOutOfBounds: a value of the right type that is out of bounds is found by Check, in a file as in a flag. The bounds
// themselves are in bounds.
func TestOutOfBounds(t *testing.T) {
	for key, c := range map[string]struct {
		want      string
		out, good []string
	}{
		"port":            {"a number from 1 to 65535", []string{`-1`, `65536`}, []string{`1`, `65535`}},
		"listen":          {`"host:port" with a port from 0 to 65535`, []string{`"x"`, `"h:99999"`, `"h:http"`, `"h:1:2"`, `"h:"`}, []string{`":0"`, `"[::1]:65535"`}},
		"log_format":      {`"text" or "json"`, []string{`"xml"`}, []string{`"text"`, `"json"`}},
		"drain":           {`a duration from "0s" on`, []string{`"-1ns"`}, []string{`"0s"`, `"1000h"`}},
		"idle_timeout":    {`a duration from "1s" to "24h0m0s"`, []string{`"0s"`, `"999ms"`, `"24h1s"`}, []string{`"1s"`, `"24h"`}},
		"min_rate":        {"a number of bytes per second from 1 to 1073741824, such as 500000 or 500k", []string{`0`, `1073741825`, `"2G"`}, []string{`1`, `1073741824`, `"1Gi"`}},
		"max_downloads":   {"a number of downloads from 0 on", []string{`-1`}, []string{`0`, `9223372036854775807`}},
		"scrub_every":     {`"0s", or a duration from "1s" to "87600h0m0s"`, []string{`"-1s"`, `"1ms"`, `"87601h"`}, []string{`"0s"`, `"1s"`, `"87600h"`}},
		"keep_superseded": {`a duration from "1m0s" to "720h0m0s"`, []string{`"0s"`, `"59s"`}, []string{`"1m"`, `"720h"`}},
	} {
		for _, value := range append(c.out, c.good...) {
			s := NewServer()
			_, err := s.Parse("F", []byte(`{"`+key+`": `+value+`}`))
			if err != nil {
				t.Errorf("%s %s: %v", key, value, err)
				continue
			}
			out, want := slices.Contains(c.out, value), key+": expected "+c.want+", got "
			if problems := s.Check(); out != (len(problems) == 1 && strings.HasPrefix(problems[0].Error(), want)) || !out && len(problems) > 0 {
				t.Errorf("%s %s: expected %q, got %q", key, value, want, problems)
			}
			i := slices.IndexFunc(s.Settings(), func(s Setting) bool { return s.Key == key })
			if err := NewServer().Settings()[i].SetText(strings.Trim(value, `"`)); (err != nil) != out {
				t.Errorf("--%s %s: %v", key, value, err)
			}
		}
	}
}

// values has one value for every setting, each another one than the default.
const values = `{
	"port": 1, "listen": "a:2", "updates_dir": "u", "data_dir": "d", "online_key": "o", "clock_checked": "2026-01-31",
	"release_key": "r", "serve_unsigned": true, "product": "meter", "log_format": "json", "log_requests": false, "metrics": false,
	"drain": "1s", "idle_timeout": "3s", "stall_window": "4s", "min_rate": 5,
	"max_downloads": 6, "max_bandwidth": 7, "max_idle": 0, "trusted_proxies": ["127.0.0.1", "10.0.0.0/8"],
	"tls_listen": "b:8", "tls_certificate": "c", "tls_key": "k", "tls_redirect": true, "hsts": "9s", "acme_domains": "a.example",
	"acme_directory": "https://acme.example", "acme_ca_file": "f", "acme_email": "e",
	"upstream": ["http://u.example", "https://v.example/x"], "root": "1.root.json", "redirects": "http://w.example", "ca_file": "g",
	"interval": "10s", "patience": "0s", "keep_newest": 11, "keep_since": "2026-02-28T12:00:00Z", "on_demand": "fetch",
	"accept_stale": "12s", "max_bytes": 13, "bandwidth": 14, "keep_superseded": "15m", "scrub_every": "0s", "admin": ":16"
}`

// TestComments: comments and commas at the end change nothing, and what looks like them in a text stays.
func TestComments(t *testing.T) {
	want := NewServer()
	want.Port, want.UpdatesDir, want.Upstream = 8151, "/srv//a/*b*/,}", []string{"http://u.example", "http://v.example"}
	got := NewServer()
	unknown, err := got.Parse("F", []byte(`// "port": 1,
/* { "port": 2, } */ {
	"port": 8151, // "port": 3
	"updates_dir": "/srv//a/*b*/,}",/**/
	"upstream": ["http://u.example", "http://v.example", /* ] */],
} // }`))
	if err != nil || len(unknown) > 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %q, %v", got, unknown, err)
	}
	box, err := ParseBox("/c", []byte("{\"rate\": 1, // \"rate\": 2\n}"))
	if err != nil || box.Rate != 1 {
		t.Errorf("got %+v, %v", box, err)
	}
	if _, err := ParseBox("/c", []byte("{\"rate\": 1, /* again */ \"rate\": 2,}")); err == nil || !strings.Contains(err.Error(), `expected "rate" once`) {
		t.Errorf("a key twice: %v", err)
	}
}

// What is shown can be given as settings, which are the same then.
func TestShownIsGiven(t *testing.T) {
	s := NewServer()
	if unknown, err := s.Parse("F", []byte(values)); err != nil || len(unknown) > 0 {
		t.Fatal(unknown, err)
	}
	for _, one := range s.Settings() {
		had := one.show()
		if one.reset(); !strings.Contains(values, `"`+one.Key+`"`) || reflect.DeepEqual(one.show(), had) {
			t.Errorf("%s: values must have it, with another value than its default", one.Key)
		}
	}
	if _, err := s.Parse("F", []byte(values)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Server{s, NewServer()} {
		b, err := json.Marshal(s.Show())
		if err != nil {
			t.Fatal(err)
		}
		again := NewServer()
		if _, err := again.Parse("shown", b); err != nil {
			t.Fatal(err)
		}
		again.Admin = s.Admin                    // of no use any more
		if again.Port = s.Port; s.Listen == "" { // port is shown as an address
			again.Listen = s.Listen
		}
		if !reflect.DeepEqual(again, s) {
			t.Errorf("%s is\n%+v\nwas\n%+v", b, again, s)
		}
	}
}

// FuzzServer: what is accepted can be given again as it is shown.
func FuzzServer(f *testing.F) {
	f.Add([]byte(values))
	f.Add([]byte(`{"port": 8151, "updates_dir": "/srv/updates", "workers": 4}`))
	f.Add([]byte(",,}"))
	f.Add([]byte("// a\n{\"port\": 8151, /* b */ \"upstream\": [\"http://u.example\",],}"))
	f.Add([]byte(`{"listen": "\ud800", "keep_since": "2026-01-31T12:00:00.5+02:00", "upstream": [], "hsts": "-1ns", "on_demand": "none"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		plain := Plain(raw)
		if len(plain) != len(raw) || bytes.Count(plain, []byte("\n")) != bytes.Count(raw, []byte("\n")) {
			t.Fatalf("%q became %q", raw, plain)
		}
		for _, text := range [][]byte{raw, plain} {
			if json.Valid(text) && !bytes.Equal(Plain(text), text) {
				t.Fatalf("plain JSON %q became %q", text, Plain(text))
			}
		}
		s := NewServer()
		if _, err := s.Parse("F", raw); err != nil {
			return
		}
		b, err := json.Marshal(s.Show())
		if err != nil {
			t.Fatal(err)
		}
		again := NewServer()
		if unknown, err := again.Parse("shown", b); err != nil || len(unknown) > 0 || !reflect.DeepEqual(again.Show(), s.Show()) {
			t.Fatalf("%s: %s became %v, %q, %v", raw, b, again.Show(), unknown, err)
		}
		_ = s.Check()
	})
}

// A value that is refused leaves the setting as it was.
func TestRefusedValues(t *testing.T) {
	refused := map[string][]string{
		"port": {`0`, `"1"`}, "listen": {`""`, `5`, `"\u0000"`}, "metrics": {`"yes"`, `0`}, "min_rate": {`"5x"`, `1.5`, `"1.5k"`}, "drain": {`5`, `"5"`},
		"keep_since": {`"yesterday"`}, "product": {`"Not A Product"`}, "on_demand": {`"other"`}, "trusted_proxies": {`"10.0.0.1/8"`, `["x"]`},
		"acme_domains": {`"*.example.org"`, `"localhost"`}, "acme_directory": {`"http://a.example"`}, "upstream": {`"ftp://a.example"`, `["http://"]`, `{}`},
	}
	for key, given := range refused {
		for _, value := range append(given, "null") {
			s := NewServer()
			_, err := s.Parse("F", []byte(`{"`+key+`": `+value+`}`))
			if err == nil || !strings.HasPrefix(err.Error(), "settings in F: "+key+": expected ") || !reflect.DeepEqual(s, NewServer()) {
				t.Errorf("%s %s: %v", key, value, err)
			}
		}
	}
}

// Check reports everything that is wrong, and the defaults are right.
func TestCheck(t *testing.T) {
	s := NewServer()
	s.MaxDownloads, s.MaxIdle, s.IdleTimeout, s.MinRate, s.ScrubEvery = -1, -1, 0, 1<<30+1, 1
	var got []string
	for _, err := range s.Check() {
		got = append(got, err.Error())
	}
	want := []string{
		`idle_timeout: expected a duration from "1s" to "24h0m0s", got "0s"`,
		"min_rate: expected a number of bytes per second from 1 to 1073741824, such as 500000 or 500k, got 1073741825",
		"max_downloads: expected a number of downloads from 0 on, got -1",
		"max_idle: expected a number of connections from 0 on, got -1",
		`scrub_every: expected "0s", or a duration from "1s" to "87600h0m0s", got "1ns"`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if problems := NewServer().Check(); len(problems) > 0 {
		t.Errorf("the defaults: %v", problems)
	}
}

// TestDocumentedSettings holds the tables of the documentation against the declarations: each setting stands in one, with
// its flag and its default where the table has those, and nothing else does.
func TestDocumentedSettings(t *testing.T) {
	var pages string
	for _, page := range []string{"docs/SERVING.md", "docs/MIRROR.md"} {
		b, err := os.ReadFile(filepath.Join("..", "..", page))
		if err != nil {
			t.Fatal(err)
		}
		pages += string(b)
	}
	described := map[string]bool{}
	declared := NewServer().Settings()
	byKey := map[string]Setting{}
	for _, s := range declared {
		byKey[s.Key] = s
	}
	tables := regexp.MustCompile(`(?m)^\| setting \|.*\n(\|.*\n)*`).FindAllString(pages, -1)
	if len(tables) < 4 {
		t.Fatalf("%d tables", len(tables))
	}
	quoted := regexp.MustCompile("`([^`]+)`")
	for _, table := range tables {
		flagged := strings.HasPrefix(table, "| setting | flag |")
		for _, row := range regexp.MustCompile(`(?m)^\| (.*)$`).FindAllStringSubmatch(table, -1) {
			cells := strings.Split(row[1], "|")
			keys := quoted.FindAllStringSubmatch(cells[0], -1)
			for i, key := range keys {
				s, known := byKey[key[1]]
				if !known {
					t.Errorf("`%s` is described, and is no setting", key[1])
					continue
				}
				described[s.Key] = true
				rest := cells[1:]
				if flagged {
					if s.Help != "" && !strings.Contains(cells[1], "…") && !strings.Contains(cells[1], "`--"+s.Flag()+"`") {
						t.Errorf("%s: its flag is not `--%s`: %s", s.Key, s.Flag(), cells[1])
					}
					rest = cells[2:]
				}
				defaults := quoted.FindAllStringSubmatch(rest[0], -1)
				if len(defaults) != len(keys) {
					continue // in words
				}
				b := json.RawMessage(defaults[i][1])
				if !json.Valid(b) {
					b = json.RawMessage(`"` + defaults[i][1] + `"`)
				}
				first := s.show()
				if err := s.set(b); err != nil || !reflect.DeepEqual(s.show(), first) {
					t.Errorf("%s: %s is not its default: %v", s.Key, b, err)
				}
			}
		}
	}
	for _, s := range declared {
		if s.Retired() && strings.Contains(pages, "The old setting `"+s.Key+"` ") { // the help has no retired setting, so no table has one
			continue
		}
		if !described[s.Key] {
			t.Errorf("%s is in no table of docs/SERVING.md or docs/MIRROR.md", s.Key)
		}
	}
}
