package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/box"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// misfortune is a box in order, with an update to be had, of which an arrangement makes something bad.
type misfortune struct {
	*device
	world  *world
	mirror *mirror
	fs     disk.FS
}

// A complaint is one bad thing, what is run then, and texts that the message must have. In both, $DIR stands for the
// directory of the box, $URL for its mirror.
type complaint struct {
	name    string
	arrange func(m *misfortune)
	args    string
	says    []string
}

// file makes a file the text, or a directory for "/", or nothing for "-".
func file(name, text string) func(m *misfortune) {
	return func(m *misfortune) {
		check(m.t, os.RemoveAll(m.path(name)))
		switch text {
		case "-":
		case "/":
			check(m.t, os.MkdirAll(m.path(name), 0o755))
		default:
			m.write(name, []byte(text))
		}
	}
}

// set makes one field of the configuration this JSON value.
func set(field, value string) func(m *misfortune) {
	return func(m *misfortune) {
		b, err := os.ReadFile(m.path("C/config.json"))
		check(m.t, err)
		object := map[string]json.RawMessage{}
		check(m.t, json.Unmarshal(b, &object))
		object[field] = json.RawMessage(value)
		b, err = json.Marshal(object)
		check(m.t, err)
		m.write("C/config.json", b)
	}
}

// mirrors makes these the mirrors.
func mirrors(urls ...string) func(m *misfortune) {
	return func(m *misfortune) { m.configure(map[string]any{"mirrors": urls}) }
}

// answers makes the mirror answer requests for a path that contains the text.
func answers(part string, how func(w http.ResponseWriter, r *http.Request)) func(m *misfortune) {
	return func(m *misfortune) {
		m.mirror.on(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, part) {
				return false
			}
			how(w, r)
			return true
		})
	}
}

func answerStatus(code int, body string) func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

const html = "<!DOCTYPE html>\n<html><body><h1>Internal Server Error</h1></body></html>\n"

// unsynced does not wait for the disk.
func unsynced(op disk.Op, _ string) (bool, error) {
	return op != disk.OpSync && op != disk.OpSyncDir, nil
}

func full(err error) func(m *misfortune) {
	return func(m *misfortune) {
		m.fs.Hook = func(op disk.Op, path string) (bool, error) {
			switch op {
			case disk.OpWrite:
				return false, err // durable says where
			case disk.OpCreate, disk.OpRename, disk.OpLink:
				return false, &os.PathError{Op: string(op), Path: path, Err: err}
			}
			return true, nil
		}
	}
}

// run runs the command line.
func (m *misfortune) run(args string) answer {
	var out, errs bytes.Buffer
	p := program{
		streams: cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs,
			Getenv: func(string) string { return "" }, Now: func() time.Time { return m.now }},
		box: box.Box{
			FS:            m.fs,
			Sleep:         func(context.Context, time.Duration) error { return nil },
			Random:        func() float64 { return 0 },
			MachineIDFile: m.machine,
		},
	}
	words := strings.Fields(m.fill(args))
	if !strings.Contains(args, "--config") {
		words = append(words, "--config", m.path("C/config.json"))
	}
	code := command.Run(m.t.Context(), "boxup", newRoot(&p), words, p.streams)
	return answer{m.t, words, code, out.String(), errs.String()}
}

func (m *misfortune) fill(s string) string {
	return strings.NewReplacer("$DIR", m.dir, "$URL", m.mirror.URL).Replace(s)
}

func complaints(t *testing.T) []complaint {
	cfg := "$DIR/C/config.json"
	all := []complaint{
		{"config missing", file("C/config.json", "-"), "check", []string{cfg, "boxup init"}},
		{"config is a directory", file("C/config.json", "/"), "check", []string{cfg, "directory"}},
		{"config empty", file("C/config.json", ""), "check", []string{cfg, "nothing"}},
		{"config is garbage", file("C/config.json", "\x00\xff\xfe"), "check", []string{cfg, "line 1"}},
		{"config is cut", file("C/config.json", `{"mirrors": ["http://a`), "check", []string{cfg, "line 1"}},
		{"config lacks a comma", file("C/config.json", "{\n  \"rate\": 5\n  \"window\": \"02:00-04:00\"\n}"), "check", []string{cfg, "line 3"}},
		{"config with a comma too many", file("C/config.json", "{\n  \"rate\": 5,,\n}"), "check", []string{cfg, "line 3"}},
		{"config is a list", file("C/config.json", `[]`), "check", []string{cfg, "expected an object, got a list"}},
		{"config is followed by something", file("C/config.json", "{}\n{}"), "check", []string{cfg, "line 2"}},
		{"config too long", file("C/config.json", "{"+strings.Repeat(" ", 64<<10)+"}"), "check", []string{cfg, "at most 65536 bytes"}},
		{"config with an unknown field", set("größe", `5`), "check", []string{cfg, `"größe"`}},
		{"config with a field twice", file("C/config.json", `{"rate":5,"rate":6}`), "check", []string{cfg, `"rate"`}},
		{"config with a long non-ASCII value", set("reboot", `"`+strings.Repeat("ä", 200)+`"`), "check", []string{cfg, "reboot", "ää"}},
		{"config with a product of another alphabet", set("product", `"größe-🙂"`), "check", []string{cfg, "product", "größe-🙂"}},
		{"config without root", file("C/config.json", `{"mirrors":["http://a"]}`), "check", []string{cfg, "boxup init"}},
		{"window backwards", set("window", `"4-2"`), "check", []string{cfg, "window", "02:00-04:00"}},
		{"duration without a unit", set("patience", `"12"`), "check", []string{cfg, "patience", "duration"}},
		{"duration of an unknown unit", set("patience", `"12x"`), "check", []string{cfg, "patience", "duration"}},
		{"rate too large", set("rate", `1e99`), "check", []string{cfg, "rate", "1e99"}},
		{"rate with a fraction", set("rate", `1.5`), "check", []string{cfg, "rate", "1.5"}},
		{"mirrors of another scheme", set("mirrors", `["ftp://h/x"]`), "check", []string{cfg, "mirrors", "ftp://h/x"}},
		{"mirrors without a scheme", set("mirrors", `["host:8151"]`), "check", []string{cfg, "mirrors", "host:8151"}},
		{"mirrors with a bad port and a password", set("mirrors", `["http://u:hunter2@h:x"]`), "check", []string{cfg, "mirrors"}},

		{"root missing", file("C/root.json", "-"), "check", []string{"$DIR/C/root.json", "the signers of the updates"}},
		{"root is a directory", file("C/root.json", "/"), "check", []string{"$DIR/C/root.json"}},
		{"root empty", file("C/root.json", ""), "check", []string{"$DIR/C/root.json"}},
		{"root too long", file("C/root.json", strings.Repeat(" ", 1<<20)), "check", []string{"$DIR/C/root.json", "at most"}},
		{"root is garbage", file("C/root.json", "\x00\xff"), "check", []string{"$DIR/C/root.json"}},
		{"root is cut", func(m *misfortune) {
			b := m.world.files["metadata/1.root.json"]
			m.write("C/root.json", b[:len(b)/2])
		}, "check", []string{"$DIR/C/root.json"}},
		{"root is a timestamp", func(m *misfortune) { m.write("C/root.json", m.world.files["metadata/timestamp.json"]) }, "check", []string{"$DIR/C/root.json", "timestamp"}},
		{"root of another repository", func(m *misfortune) {
			other := newWorldOf(m.t, start, testworld.NewSigner("r2"), testworld.NewSigner("l2"), testworld.NewSigner("o2"))
			m.write("C/root.json", other.files["metadata/1.root.json"])
		}, "check", []string{"$URL", "not enough signatures"}},

		{"ca_file missing", set("ca_file", `"ca.pem"`), "check", []string{"$DIR/C/ca.pem", "ca_file"}},
		{"ca_file is garbage", both(set("ca_file", `"ca.pem"`), file("C/ca.pem", "x")), "check", []string{"$DIR/C/ca.pem", "PEM"}},
		{"state is a file", both(file("S", "-"), file("S", "x")), "check", []string{"$DIR/S"}},
		{"state is below a file", nil, "check --state $DIR/machine-id/S", []string{"$DIR/machine-id"}},
		{"metadata is a file", both(file("S/metadata", "-"), file("S/metadata", "x")), "check", []string{"$DIR/S/metadata"}},

		{"unknown command", nil, "chekc", []string{"chekc", "did you mean check?"}},
		{"unknown flag", nil, "check --fast", []string{"--fast", "boxup check --help"}},
		{"an argument too many", nil, "check now", []string{"now", "boxup check --help"}},
		{"splay is no duration", nil, "check --splay 12x", []string{"--splay", "12x", "boxup check --help"}},
		{"splay is negative", nil, "check --splay -5s", []string{"--splay"}},
		{"a flag without its value", nil, "check --config", []string{"--config"}},
		{"a switch with a value", nil, "check --json=maybe", []string{"--json", "maybe"}},

		{"init without a root", nil, "init http://a", []string{"--root"}},
		{"init without a URL", nil, "init --root $DIR/1.root.json", []string{"URL", "boxup init --help"}},
		{"init, root missing", nil, "init --root $DIR/none http://a", []string{"$DIR/none"}},
		{"init, root is a directory", nil, "init --root $DIR http://a", []string{"$DIR", "directory"}},
		{"init, root is garbage", file("bad.json", "{"), "init --root $DIR/bad.json http://a", []string{"$DIR/bad.json"}},
		{"init, bad URL", nil, "init --root $DIR/1.root.json ftp://a", []string{"ftp://a"}},
		{"init, host and port", nil, "init --root $DIR/1.root.json a:8151", []string{"a:8151", "http://"}},
		{"init, same URL twice", nil, "init --root $DIR/1.root.json http://u:hunter2@a http://u:hunter2@a", []string{"twice"}},
		{"init, bad fingerprint", nil, "init --root $DIR/1.root.json --root-fingerprint xyz http://a", []string{"--root-fingerprint"}},
		{"init, other fingerprint", nil, "init --root $DIR/1.root.json --root-fingerprint " + strings.Repeat("0", 64) + " http://a", []string{"$DIR/1.root.json", "signers of the updates"}},
		{"init, nobody to ask", file("S", "-"), "init --root $DIR/1.root.json --config $DIR/D/config.json --state $DIR/T http://a", []string{"--root-fingerprint"}},
		{"init, config is broken", file("C/config.json", `{"rate":`), "init --root $DIR/1.root.json http://a", []string{cfg}},
		{"init, config is too long", file("C/config.json", strings.Repeat(" ", 64<<10+1)), "init --root $DIR/1.root.json http://a", []string{cfg, "at most"}},
		{"init, bad product", nil, "init --root $DIR/1.root.json --product größe http://a", []string{"product", "größe"}},
		{"init, no file of URLs", nil, "init --root $DIR/1.root.json @$DIR/none", []string{"$DIR/none"}},
		{"init, empty variable of URLs", nil, "init --root $DIR/1.root.json env:NONE", []string{"env:NONE"}},
		{"init, config can't be written", file("D", "x"), "init --root $DIR/1.root.json --root-fingerprint $FINGER --config $DIR/D/config.json --state $DIR/T http://a", []string{"$DIR/D"}},

		{"fetch, bad name", nil, "fetch größe", []string{"größe"}},
		{"fetch, not listed", nil, "fetch p-9.tar.gz", []string{"p-9.tar.gz"}},
		{"install, missing file", nil, "install --key $DIR/release.pub $DIR/none", []string{"$DIR/none"}},
		{"install, not listed", checked, "install opq-box-update-9.tar.gz", []string{"opq-box-update-9.tar.gz"}},
		{"install, directory", nil, "install $DIR/C", []string{`"C"`}},
		{"install, key alone", nil, "install --key $DIR/release.pub", []string{"--key"}},
		{"verify, no file", nil, "verify $DIR/" + two, []string{"$DIR/" + two}},
		{"verify, nothing named", nil, "verify", []string{"FILE", "boxup verify --help"}},
		{"verify, directory", both(file(two, "/"), checked), "verify $DIR/" + two, []string{"$DIR/" + two}},
		{"verify, bad name", file("größe", "x"), "verify $DIR/größe", []string{`"größe"`}},
		{"verify, empty", both(file(two, ""), checked), "verify $DIR/" + two, []string{"$DIR/" + two, "get it again"}},
		{"verify, other bytes", both(file(two, "x"), checked), "verify $DIR/" + two, []string{"$DIR/" + two, "get it again"}},
		{"verify, nothing trusted yet", file(two, "x"), "verify $DIR/" + two, []string{"boxup check"}},
		{"key missing", file(two, "x"), "verify --key $DIR/none $DIR/" + two, []string{"$DIR/none"}},
		{"key is a directory", file(two, "x"), "verify --key $DIR $DIR/" + two, []string{"$DIR", "directory"}},
		{"key empty", both(file(two, "x"), file("k", "")), "verify --key $DIR/k $DIR/" + two, []string{"$DIR/k", "PEM"}},
		{"key is garbage", both(file(two, "x"), file("k", "\xff\x00")), "verify --key $DIR/k $DIR/" + two, []string{"$DIR/k", "PEM"}},
		{"key with garbage in it", both(file(two, "x"), file("k", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")), "verify --key $DIR/k $DIR/" + two, []string{"$DIR/k", "damaged"}},
		{"key too long", both(file(two, "x"), file("k", strings.Repeat("x", 4<<10+1))), "verify --key $DIR/k $DIR/" + two, []string{"$DIR/k", "at most"}},
		{"key is private", both(file(two, "x"), file("k", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")), "verify --key $DIR/k $DIR/" + two, []string{"$DIR/k", "public"}},
		{"key of RSA", both(file(two, "x"), file("k", rsaKey)), "verify --key $DIR/k $DIR/" + two, []string{"$DIR/k", "Ed25519"}},
		{"signature missing", file(two, "x"), "verify --key $DIR/release.pub $DIR/" + two, []string{"$DIR/" + two + ".sig"}},
		{"signature short", both(file(two, "x"), file(two+".sig", "x")), "verify --key $DIR/release.pub $DIR/" + two, []string{"$DIR/" + two + ".sig", "64"}},
		{"signature long", both(file(two, "x"), file(two+".sig", strings.Repeat("x", 65))), "verify --key $DIR/release.pub $DIR/" + two, []string{"$DIR/" + two + ".sig", "64"}},
		{"signature wrong", both(file(two, "x"), file(two+".sig", strings.Repeat("x", 64))), "verify --key $DIR/release.pub $DIR/" + two, []string{two, "get"}},

		{"plain update without a key", nil, "update http://a", []string{"--key"}},
		{"plain update, bad URL", nil, "update --key $DIR/release.pub a:8151", []string{"a:8151", "http://"}},
		{"plain update, refused", nil, "update --key $DIR/release.pub http://u:hunter2@127.0.0.1:1", []string{"127.0.0.1:1", "refused"}},
		{"plain update, no such host", nil, "update --key $DIR/release.pub http://u:hunter2@nowhere.invalid", []string{"nowhere.invalid"}},
		{"plain update, 404", nil, "update --key $DIR/release.pub $URL", []string{"$URL", "404"}},
		{"plain update, 500", answers("", answerStatus(500, html)), "update --key $DIR/release.pub $URL", []string{"$URL", "500"}},
		{"plain update, garbage", answers("", answerStatus(200, "\xff\x00")), "update --key $DIR/release.pub $URL", []string{"$URL"}},
		{"plain update, a list of another type", answers("", answerStatus(200, `{"newest":5}`)), "update --key $DIR/release.pub $URL", []string{"$URL"}},
		{"plain update, cut", answers("", answerStatus(200, `{"newest":"`)), "update --key $DIR/release.pub $URL", []string{"$URL"}},
		{"plain update, too long", answers("", answerStatus(200, strings.Repeat(" ", 8<<20+1))), "update --key $DIR/release.pub $URL", []string{"$URL", "8388608"}},
		{"plain update, name of another product", answers("", answerStatus(200, `{"newest":"p-5.tar.gz"}`)), "update --key $DIR/release.pub $URL", []string{"$URL"}},
		{"plain update, loop", answers("", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusMovedPermanently)
		}), "update --key $DIR/release.pub $URL", []string{"$URL", "redirect"}},
		{"plain update, to another host", answers("", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/x", http.StatusFound)
		}), "update --key $DIR/release.pub $URL", []string{"127.0.0.1:1"}},
		{"plain update, unsigned", func(m *misfortune) {
			m.mirror.put("updates.json", []byte(`{"newest":"`+two+`"}`))
		}, "update --key $DIR/release.pub $URL", []string{"$URL", ".sig"}},
		{"plain update, bad signature", func(m *misfortune) {
			m.world.plain(m.mirror, one)
			m.mirror.put("update/"+one+".sig", bytes.Repeat([]byte("x"), 64))
		}, "update --key $DIR/release.pub $URL", []string{"$URL", one}},
		{"plain update, other archive", func(m *misfortune) {
			m.world.plain(m.mirror, one)
			m.mirror.put("update/"+one, []byte("x"))
		}, "update --key $DIR/release.pub $URL", []string{"$URL", one}},
		{"plain update, archive is gone", func(m *misfortune) {
			m.world.plain(m.mirror, one)
			m.mirror.put("update/"+one, nil)
		}, "update --key $DIR/release.pub $URL", []string{"$URL", one, "404"}},
		{"plain update, archive ends early", func(m *misfortune) {
			m.world.plain(m.mirror, one)
			answers("update/"+one, testworld.Short)(m)
		}, "update --key $DIR/release.pub $URL", []string{"$URL"}},

		{"status, record is garbage", file("S/box.json", "\xff\x00"), "status", []string{"$DIR/S/box.json"}},
		{"version with an argument", nil, "version 5", []string{"5"}},
	}
	for _, field := range manualSettings(t) {
		for _, value := range []string{`null`, `5e400`, `"\u0000"`, `[""]`} {
			all = append(all, complaint{"config " + field + " " + value, set(field, value), "check", []string{cfg, field, "expected "}})
		}
	}
	for name, m := range map[string]struct {
		url  string
		says []string
	}{
		"refused":            {"http://u:hunter2@127.0.0.1:1", []string{"127.0.0.1:1", "refused"}},
		"no such host":       {"http://u:hunter2@nowhere.invalid", []string{"nowhere.invalid"}},
		"TLS to a plain one": {"https://" + strings.TrimPrefix("$URL", "http://"), []string{"TLS"}},
	} {
		for _, command := range []string{"check", "fetch", "update"} {
			all = append(all, complaint{command + " of a mirror: " + name, func(b *misfortune) {
				url := strings.Replace(m.url, "$URL", strings.TrimPrefix(b.mirror.URL, "http://"), 1)
				mirrors(url)(b)
			}, command, m.says})
		}
	}
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = quiet()
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	all = append(all, complaint{"untrusted certificate", mirrors(strings.Replace(untrusted.URL, "//", "//u:hunter2@", 1)), "check", []string{untrusted.URL[8:], "certificate", "ca_file"}},
		complaint{"untrusted certificate, plain", nil, "update --key $DIR/release.pub " + strings.Replace(untrusted.URL, "//", "//u:hunter2@", 1), []string{untrusted.URL[8:], "certificate", "ca_file"}})
	for _, path := range []string{"timestamp", "snapshot", "targets", "2.root"} {
		for name, how := range map[string]func(http.ResponseWriter, *http.Request){
			"301 loop": func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, r.URL.Path, http.StatusMovedPermanently)
			},
			"302 away": func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://other.invalid/", http.StatusFound)
			},
			"404": answerStatus(404, html), "403": answerStatus(403, html), "410": answerStatus(410, html), "500": answerStatus(500, html), "204": answerStatus(204, ""), "429": answerStatus(429, html),
			"garbage": answerStatus(200, "\xff\x00ä"), "empty": answerStatus(200, ""), "HTML": answerStatus(200, html), "cut": testworld.Short, "not HTTP": testworld.NotHTTP,
			"no object": answerStatus(200, `[]`), "no signatures": answerStatus(200, `{"signed":{},"signatures":"x"}`), "wrong types": answerStatus(200, `{"signatures":[{"keyid":5,"sig":{}}],"signed":{"_type":5,"version":"x","expires":7}}`),
			"long": testworld.Endless, "another type": func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, `{"signatures":[],"signed":{"_type":"`+strings.Repeat("ä", 90)+`"}}`)
			},
		} {
			if path == "2.root" && strings.HasPrefix(name, "4") && name != "429" {
				continue // that there is none
			}
			all = append(all, complaint{path + " is " + name, answers(path, how), "check", []string{"$URL"}})
		}
	}
	for name, how := range map[string]func(http.ResponseWriter, *http.Request){
		"404": answerStatus(404, html), "403": answerStatus(403, html), "500": answerStatus(500, html), "garbage": answerStatus(200, "x"), "cut": testworld.Short,
		"bad Content-Range": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes ä-")
			w.WriteHeader(206)
			_, _ = io.WriteString(w, "x")
		},
		"too long": testworld.Endless, "other bytes": func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, 1<<16)))
		},
	} {
		all = append(all, complaint{"archive is " + name, answers("sha256/", how), "fetch", []string{"$URL"}})
	}
	for _, entry := range []struct {
		name   string
		header tar.Header
		says   []string
	}{
		{"a name that is no UTF-8", tar.Header{Name: "opq-box-update-300/\xff\xfe", Typeflag: tar.TypeReg, Mode: 0o644}, []string{`\xff\xfe`}},
		{"a name of another alphabet", tar.Header{Name: "größe-🙂", Typeflag: tar.TypeReg, Mode: 0o644}, []string{"größe-🙂"}},
		{"a name beyond the directory", tar.Header{Name: "../größe", Typeflag: tar.TypeReg, Mode: 0o644}, []string{"größe"}},
		{"a device", tar.Header{Name: "opq-box-update-300/größe", Typeflag: tar.TypeChar, Mode: 0o644}, []string{"opq-box-update-300/größe"}},
		{"a link out", tar.Header{Name: "opq-box-update-300/größe", Linkname: "../../ä", Typeflag: tar.TypeLink, Mode: 0o644}, []string{"größe"}},
		{"control characters", tar.Header{Name: "opq-box-update-300/\x1b[2J", Typeflag: tar.TypeChar, Mode: 0o644}, []string{`\x1b[2J`}},
	} {
		all = append(all, complaint{"install, " + entry.name, func(m *misfortune) { m.listed(three, packed(m.t, entry.header)) }, "update", entry.says})
	}
	for name, b := range map[string][]byte{"empty": {}, "garbage": []byte("garbage"), "cut": packed(t, tar.Header{Name: "opq-box-update-300/a", Typeflag: tar.TypeReg})[:40]} {
		all = append(all, complaint{"install, archive is " + name, func(m *misfortune) { m.listed(three, append(b, make([]byte, 0)...)) }, "update", []string{three}})
	}
	for name, script := range map[string]string{
		"fails": "echo größe >&2; exit 3", "is killed": "kill -9 $$", "has no interpreter": "", "says no UTF-8": `printf '\377\n'; exit 1`,
	} {
		all = append(all, complaint{"install script " + name, func(m *misfortune) {
			n := named(m.t, three)
			text := "#!/bin/sh\n" + script + "\n"
			if script == "" {
				text = "#!/größe/sh\n"
			}
			m.listed(three, tarball(m.t, n, map[string]string{"VERSION": "300\n", "install_update.sh": text}))
		}, "update", []string{three}})
	}
	for name, err := range map[string]error{"full": syscall.ENOSPC, "read-only": syscall.EROFS, "failing": syscall.EIO} {
		hint := map[string]string{"full": "make room"}[name]
		if hint == "" {
			hint = "disk of this box"
		}
		for _, command := range []string{"check", "fetch", "update", "install", "update --key $DIR/release.pub $URL",
			"init --root $DIR/1.root.json --root-fingerprint $FINGER --config $DIR/D/config.json --state $DIR/T http://a"} {
			prepare := ready
			label, _, _ := strings.Cut(command, " $DIR")
			switch command {
			case "check":
				prepare = func(*misfortune) {} // it writes what is new
			case "fetch":
				prepare = checked
			}
			all = append(all, complaint{"disk is " + name + ", " + label, both(prepare, full(err)), command, []string{hint}})
		}
	}
	return all
}

const (
	rsaKey = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALqyStMArEfdEUZ3TL3kRbYxHYtY5tPO\nd3SWVX6F0wYnMBQ3gHcH6XRkHFwhHQaNNp6Wks7hLfZYYq1nmGZ/AN8CAwEAAQ==\n-----END PUBLIC KEY-----\n"
)

// ready has all that the commands ask for.
func ready(m *misfortune) {
	m.world.plain(m.mirror, one)
	m.must(0, "fetch")
}

// checked has the box know what is published.
func checked(m *misfortune) { m.must(status.ExitAvailable, "check") }

func both(first, second func(*misfortune)) func(*misfortune) {
	return func(m *misfortune) {
		first(m)
		second(m)
	}
}

// packed is an archive with one more entry.
func packed(t testing.TB, more tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, h := range []tar.Header{
		{Name: "opq-box-update-300/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "opq-box-update-300/install_update.sh", Typeflag: tar.TypeReg, Mode: 0o755, Size: 10},
		more,
	} {
		h.ModTime = time.Unix(1000, 0)
		check(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, "#!/bin/sh\n"[:h.Size])
		check(t, err)
	}
	check(t, w.Close())
	check(t, z.Close())
	return b.Bytes()
}

// listed publishes an archive, in a world of its own, and has the mirror serve it.
func (m *misfortune) listed(name string, archive []byte) {
	w := newWorld(m.t)
	w.publish(trust.Conditions{}, map[string][]byte{name: archive})
	m.world = w
	m.mirror.sync(w)
}

func TestMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, ""), two: w.pack(two, "")})
	finger := update.Sum(w.files["metadata/1.root.json"]).String()
	for _, c := range complaints(t) {
		t.Run(c.name, func(t *testing.T) {
			m := &misfortune{world: w, mirror: &mirror{}, fs: disk.FS{Hook: unsynced}}
			m.mirror.sync(w)
			m.mirror.Server = httptest.NewServer(m.mirror)
			defer m.mirror.Close()
			world := *w
			world.t = t
			m.world = &world
			m.device = world.bare()
			root := w.files["metadata/1.root.json"]
			m.write("1.root.json", root)
			m.write("C/root.json", root)
			m.configure(map[string]any{"mirrors": []string{m.mirror.URL}, "root": "root.json", "state": m.path("S")})
			m.write("release.pub", w.release.Public().PEM())
			if c.arrange != nil {
				c.arrange(m)
			}
			a := m.run(strings.ReplaceAll(c.args, "$FINGER", finger))
			if os.Getenv("SHOW") != "" {
				fmt.Printf("=== %s (%d)\n%s", c.name, a.code, strings.NewReplacer(m.dir, "$DIR", m.mirror.URL, "$URL").Replace(a.err))
			}
			if a.code == 0 && !strings.Contains(a.err, "boxup: warning: ") {
				t.Errorf("it went well: %s%s", a.out, a.err)
			}
			for _, fault := range testworld.Unreadable("boxup", a.err) {
				t.Error(fault)
			}
			if strings.Contains(a.err+a.out, "hunter2") {
				t.Errorf("the password is shown: %s", a.err)
			}
			for _, must := range c.says {
				if !strings.Contains(a.err, m.fill(must)) {
					t.Errorf("expected %q in\n%s", m.fill(must), a.err)
				}
			}
		})
	}
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
