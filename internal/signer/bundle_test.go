package signer

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func sampleBundle() bundle {
	return bundle{
		made: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		files: []bundled{
			{"release.74c1-81c7-ad8a-0855.pem", []byte("secret\n")},
			{"root.next.agent", nil},
			{"trusted/12.root.json", []byte("{}\nend\n")},
			{"trusted/ledger", []byte{0, 0xff}},
		},
	}
}

func TestBundle(t *testing.T) {
	raw := sampleBundle().Bytes()
	again, err := parseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Bytes(), raw) || string(again.content("trusted/12.root.json")) != "{}\nend\n" || len(again.trusted()) != 2 {
		t.Errorf("got %+v", again)
	}
	for n := range raw {
		if b, err := parseBundle(raw[:n]); err == nil {
			t.Errorf("cut after %d bytes: %+v", n, b)
		}
	}
}

func TestBundleRefuses(t *testing.T) {
	good := string(sampleBundle().Bytes())
	for _, c := range []struct{ name, old, fresh, want string }{
		{"another format", "backup 1", "backup 2", `expected "boxsign backup 1"`},
		{"another time zone", "12:00:00Z", "12:00:00+00:00", "expected the time when it was made"},
		{"fractions", "12:00:00Z", "12:00:00.0Z", "expected the time when it was made"},
		{"a way out", "root.next.agent", "../root.agent", "expected a file or the end"},
		{"an absolute path", "root.next.agent", "/root.agent", "expected a file or the end"},
		{"a file of nobody", "root.next.agent", "root.txt", "expected a file or the end"},
		{"another role", "root.next.agent", "other.next.agent", "expected a file or the end"},
		{"state elsewhere", "trusted/ledger", "trusted/x/ledger", "expected a file or the end"},
		{"a version with a zero", "trusted/12.root", "trusted/012.root", "expected a file or the end"},
		{"out of order", "root.next.agent", "online.agent", "file online.agent after release."},
		{"twice", "root.next.agent", "release.74c1-81c7-ad8a-0855.pem", "file release."},
		{"too short", "trusted/ledger 2", "trusted/ledger 1", "expected 1 bytes and a newline"},
		{"too long", "trusted/ledger 2", "trusted/ledger 9999", "expected 9999 bytes"},
		{"no number", "trusted/ledger 2", "trusted/ledger 02", "expected 02 bytes"},
		{"negative", "trusted/ledger 2", "trusted/ledger -2", "expected -2 bytes"},
		{"more words", "trusted/ledger 2", "trusted/ledger 2 2", "expected a file or the end"},
		{"something after it", "\nend\n", "\nend\n\n", "expected a file or the end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := strings.LastIndex(good, c.old) // the end occurs in a file too
			bad := good[:at] + c.fresh + good[at+len(c.old):]
			if _, err := parseBundle([]byte(bad)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzParseBundle(f *testing.F) {
	f.Add(sampleBundle().Bytes())
	f.Add(bundle{}.Bytes())
	f.Add([]byte("boxsign backup 1\nmade 2026-03-01T12:00:00Z\nfile root.pub 0\n\nend\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if b, err := parseBundle(raw); err == nil && !bytes.Equal(b.Bytes(), raw) {
			t.Errorf("%q is parsed as what prints as %q", raw, b.Bytes())
		}
	})
}
