package settings

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestSettingsMessages expects that what is wrong is said in the words of settings and not of Go.
func TestSettingsMessages(t *testing.T) {
	for given, want := range map[string]string{
		`[]`: "JSON: expected an object, got a list", `5`: "JSON: expected an object, got a number",
		`null`: "JSON: expected an object, got null", `{"port":`: "JSON: line 1, column 9: expected more, got the end",
		`{"log_format": "` + strings.Repeat("ä", 90) + `"`: "JSON: line 1, column 108: expected more, got the end",
		`{"drain": "` + strings.Repeat("ä", 90) + `"}`:     `drain: expected a duration such as "30s", got "` + strings.Repeat("ä", 79) + "…",
	} {
		_, err := new(Server).Parse("F", []byte(given))
		if err == nil || err.Error() != "settings in F: "+want {
			t.Errorf("%s: expected %q, got %v", given, want, err)
		}
	}
	for given, want := range map[string]string{
		"x": "missing port in address", "h:99999": `port "99999" is no number from 0 to 65535`, "h:http": `port "http" is no number from 0 to 65535`, "h:1:2": "too many colons in address",
	} {
		if err := checkAddress(given); err == nil || err.Error() != want || strings.Contains(err.Error(), "strconv") {
			t.Errorf("%s: expected %q, got %v", given, want, err)
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

// What is shown can be given as settings, which are the same then.
func TestShownIsGiven(t *testing.T) {
	s := NewServer()
	if unknown, err := s.Parse("F", []byte(values)); err != nil || len(unknown) > 0 {
		t.Fatal(unknown, err)
	}
	for _, one := range s.Settings() {
		if !strings.Contains(values, `"`+one.Key+`"`) || one.isDefault() {
			t.Errorf("%s: no value of the test, or its default", one.Key)
		}
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
	f.Add([]byte(`{"listen": "\ud800", "keep_since": "2026-01-31T12:00:00.5+02:00", "upstream": [], "hsts": "-1ns", "on_demand": "none"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
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
		Mask(s.Show())
		_ = s.Check()
	})
}

// A value that is refused leaves the setting as it was.
func TestRefusedValues(t *testing.T) {
	refused := map[string][]string{
		"port": {`0`, `65536`, `"1"`}, "listen": {`""`, `5`, `"\u0000"`}, "metrics": {`"yes"`, `0`}, "min_rate": {`"5"`, `1.5`}, "drain": {`5`, `"5"`},
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

// A rule about several settings is told once.
func TestRules(t *testing.T) {
	s := NewServer()
	s.MaxDownloads, s.MaxIdle, s.IdleTimeout, s.MinRate, s.ScrubEvery = -1, -1, 0, maxMinRate+1, 1
	var got []string
	for _, err := range s.Check() {
		got = append(got, err.Error())
	}
	want := []string{"idle_timeout must be between 1s and 24h", ruleRate, ruleLimits, "scrub_every must be 0s, or between 1s and ten years"}
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
	for _, page := range []string{"README.md", "docs/SERVING.md", "docs/MIRROR.md"} {
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
				if err := s.set(b); err != nil || !s.isDefault() {
					t.Errorf("%s: %s is not its default: %v", s.Key, b, err)
				}
			}
		}
	}
	for _, s := range declared {
		if !described[s.Key] {
			t.Errorf("%s is in no table", s.Key)
		}
	}
}
