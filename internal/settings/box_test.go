package settings

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// everything is a configuration with every field.
const everything = `{
  "mirrors": ["http://a.example/updates", "https://b.example"],
  "redirects": ["https://cdn.example"],
  "root": "root.json",
  "state": "/var/lib/boxup",
  "ca_file": "ca.pem",
  "product": "p",
  "hardware": "rev-a",
  "machine_id": "box 7",
  "accept_stale": "72h",
  "window": "22:00-04:30",
  "rate": 65536,
  "max_bytes_per_day": 104857600,
  "patience": "0s",
  "reboot": "asked",
  "timeout": "10m",
  "max_failures": 5,
  "pre_install": "pre",
  "post_install": "/post"
}`

func TestBox(t *testing.T) {
	got, err := ParseBox("/etc/boxup/config.json", []byte(everything))
	check(t, err)
	want := Box{
		Mirrors: []string{"http://a.example/updates", "https://b.example"}, Redirects: []string{"https://cdn.example"},
		Root: "/etc/boxup/root.json", State: "/var/lib/boxup", CAFile: "/etc/boxup/ca.pem",
		Product: "p", Hardware: "rev-a", MachineID: "box 7",
		AcceptStale: 72 * time.Hour, Window: Window{22 * 60, 4*60 + 30}, Rate: 65536, MaxBytesPerDay: 104857600,
		Reboot: "asked", Timeout: 10 * time.Minute, MaxFailures: 5, PreInstall: "/etc/boxup/pre", PostInstall: "/post",
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	fields := Keys(new(Box).Settings())
	var all map[string]json.RawMessage
	check(t, json.Unmarshal([]byte(everything), &all))
	if named := slices.Sorted(maps.Keys(all)); !slices.Equal(named, fields) {
		t.Errorf("the test has the fields %q, and there are %q", named, fields)
	}
	got, err = ParseBox("/C/config.json", []byte("{}"))
	if err != nil || got.State != DefaultState || got.Product != update.DefaultProduct || got.Patience != time.Minute || got.PreInstall != "/C/pre-install.d" || got.PostInstall != "/C/post-install.d" {
		t.Errorf("defaults: %+v, %v", got, err)
	}
}

// TestBoxRefusals changes one thing of a good configuration.
func TestBoxRefusals(t *testing.T) {
	for _, c := range []struct{ name, old, new, text string }{
		{"unknown field", `"rate"`, `"rates"`, `expected one of accept_stale, ca_file, hardware`},
		{"case", `"rate"`, `"Rate"`, `got "Rate"`},
		{"twice", `"rate": 65536`, `"rate": 65536, "rate": 65536`, `expected "rate" once`},
		{"null", `65536`, `null`, "rate: expected a number of bytes per second from 1 to 1099511627776, such as 500000 or 500k, got null"},
		{"text for a number", `65536`, `"many"`, "rate: expected"},
		{"a fraction", `65536`, `1.5`, "rate: expected"},
		{"zero", `65536`, `0`, "got 0"},
		{"a cap below a block", `104857600`, `4194303`, "max_bytes_per_day: expected a number of bytes from 4194304 to"},
		{"no mirror", `["http://a.example/updates", "https://b.example"]`, `[]`, "mirrors: expected a list of 1 to 32"},
		{"one mirror", `["http://a.example/updates", "https://b.example"]`, `"http://a.example"`, "mirrors: expected a list"},
		{"a mirror twice", `https://b.example`, `http://a.example/updates`, `"http://a.example/updates" is there twice`},
		{"another scheme", `https://b.example`, `ftp://b.example`, "mirrors: expected a list of 1 to 32 different URLs, http:// or https://"},
		{"no host", `https://b.example`, `https://`, `"https:": expected http://host or https://host`},
		{"a query", `https://b.example`, `https://b.example?x`, `"https://b.example?x": expected no query and no fragment`},
		{"a long URL", `https://b.example`, `https://b.example/` + strings.Repeat("x", maxText), `has more than 4096 bytes`},
		{"an empty path", `"root.json"`, `""`, "root: expected the path of a root file"},
		{"a path with a zero byte", `"root.json"`, `"a\u0000b"`, "root: expected"},
		{"a bad product", `"p"`, `"P"`, `product: expected a product such as "opq-box-update"`},
		{"hardware of two lines", `"rev-a"`, `"rev\na"`, "hardware: expected 1 to 64 bytes of printable ASCII"},
		{"a long machine id", `"box 7"`, `"` + strings.Repeat("x", 129) + `"`, "machine_id: expected 1 to 128 bytes"},
		{"a negative duration", `"72h"`, `"-1s"`, "accept_stale: expected a duration from"},
		{"a long duration", `"72h"`, `"8761h"`, "accept_stale: expected a duration from"},
		{"no duration", `"72h"`, `"72"`, "accept_stale: expected a duration from"},
		{"no window", `"22:00-04:30"`, `"22-04"`, `window: expected local times such as "02:00-04:00"`},
		{"an empty window", `"22:00-04:30"`, `"22:00-22:00"`, "window: expected"},
		{"another spelling", `"22:00-04:30"`, `"22:00-4:030"`, "window: expected"},
		{"no such hour", `"22:00-04:30"`, `"24:00-04:30"`, "window: expected"},
		{"no such reboot", `"asked"`, `"sometimes"`, `reboot: expected "always", "asked" or "never", got "sometimes"`},
		{"too many failures", `5,`, `101,`, "max_failures: expected a number from 1 to 100"},
		{"something after it", "\"/post\"\n}", "\"/post\"\n}{}", "expected nothing more"},
		{"a list", everything, `[]`, "expected an object, got a list"},
		{"half", "\"/post\"\n}", `"/post"`, "got the end"},
		{"too long", "\n}", strings.Repeat(" ", MaxBox) + "}", "expected at most 65536 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(everything, c.old, c.new, 1)
			if text == everything {
				t.Fatal("nothing is changed")
			}
			if got, err := ParseBox("c", []byte(text)); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("expected %q, got %+v, %v", c.text, got, err)
			}
		})
	}
}

// TestBoxWants: a value of the wrong kind is answered with what the field takes.
func TestBoxWants(t *testing.T) {
	for _, f := range new(Box).Settings() {
		for _, value := range []string{`null`, `5e400`, `"\u0000"`, `[""]`} {
			_, err := ParseBox("c", []byte(`{"`+f.Key+`":`+value+`}`))
			if err == nil || !strings.Contains(err.Error(), f.Key+": expected "+f.Want) {
				t.Errorf("%s %s: %v", f.Key, value, err)
			}
		}
	}
}

// FuzzBox: whatever is accepted is within its bounds, and accepted again once it is written anew.
func FuzzBox(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte(`{"mirrors":["http://a"],"root":"r"}`))
	f.Add([]byte(`{"window":"02:00-04:00","rate":1}`))
	f.Add([]byte(`{"rate":1,"rate":2}`))
	f.Add([]byte("/* a */ {\"rate\": 1, // b\n}"))
	f.Add([]byte(`{"a":{"b":[1,2,{"c":null}]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseBox("/etc/boxup/config.json", raw)
		if err != nil {
			return
		}
		if len(c.Mirrors) > MaxMirrors || c.Rate < 0 || c.MaxBytesPerDay < 0 || c.AcceptStale < 0 || c.Patience < 0 || c.MaxFailures < 0 || c.MaxFailures > 100 ||
			!filepath.IsAbs(c.State) || strings.ContainsAny(c.MachineID, "\n\x00") {
			t.Fatalf("accepted %+v", c)
		}
		object, err := ParseObject(raw)
		check(t, err)
		again, err := json.MarshalIndent(object, "", "  ")
		check(t, err)
		if len(again) > MaxBox {
			return
		}
		twice, err := ParseBox("/etc/boxup/config.json", again)
		if err != nil || fmt.Sprintf("%+v", twice) != fmt.Sprintf("%+v", c) {
			t.Fatalf("%s: %+v became %+v, %v", again, c, twice, err)
		}
	})
}

// TestDocumentedBox: the table of settings has them all.
func TestDocumentedBox(t *testing.T) {
	page, err := os.ReadFile("../../docs/BOX.md")
	check(t, err)
	_, section, _ := strings.Cut(string(page), "\n## Configuration\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(section, -1) {
		for name := range strings.SplitSeq(m[1], ", ") {
			listed = append(listed, strings.Trim(name, "`"))
		}
	}
	slices.Sort(listed)
	if known := Keys(new(Box).Settings()); !slices.Equal(listed, known) {
		t.Errorf("the manual lists %q, and the settings are %q", listed, known)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
