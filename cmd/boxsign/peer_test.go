package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// TestPeer has a TUF client of others read what boxsign makes.
func TestPeer(t *testing.T) {
	if testing.Short() {
		t.Skip("installs tuf-js and signs 200 MB")
	}
	client := testworld.TUFJS(t, "testdata/tufjs/client.cjs")
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/peer",
		Setup: setupValues,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"boxsign":       program,
			"bare-keys":     bareKeys,
			"large":         large,
			"snapshot":      snapshot,
			"unchanged":     unchanged,
			"flip":          flip,
			"tiny":          tiny,
			"ago":           ago,
			"serve":         serve,
			"tamper":        tamper,
			"tamper-target": tamperTarget,
			"tufjs": func(ts *testscript.TestScript, neg bool, args []string) {
				err := ts.Exec("node", append([]string{client, ts.Getenv("URL")}, absolute(ts, args)...)...)
				if (err != nil) != neg {
					ts.Fatalf("tuf-js: %v", err)
				}
			},
		},
	})
}

// absolute makes a path of every argument but the second, which names a target.
func absolute(ts *testscript.TestScript, args []string) []string {
	out := append([]string(nil), args...)
	for i := range out {
		if i != 1 {
			out[i] = ts.MkAbs(out[i])
		}
	}
	return out
}

// serve has a server of static files serve a directory at $URL, until the script ends.
func serve(ts *testscript.TestScript, _ bool, args []string) {
	s := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[0]))))
	ts.Defer(s.Close)
	ts.Setenv("URL", s.URL)
}

// tiny writes a file of 10 bytes.
func tiny(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte("0123456789"), 0o644))
}

// ago sets the clock of boxsign that long from now.
func ago(ts *testscript.TestScript, _ bool, args []string) {
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	ts.Setenv("TEST_NOW", time.Now().Add(d).UTC().Format(time.RFC3339))
}

// tamper flips a bit in the newest file of a role; said again, it flips it back.
func tamper(ts *testscript.TestScript, _ bool, args []string) {
	dir := filepath.Join(ts.MkAbs(args[0]), "metadata")
	newest := int64(0)
	entries, err := os.ReadDir(dir)
	ts.Check(err)
	for _, e := range entries {
		if role, version, ok := trust.ParseFileName(e.Name()); ok && string(role) == args[1] {
			newest = max(newest, version)
		}
	}
	flipInPlace(ts, filepath.Join(dir, trust.FileName(trust.Role(args[1]), newest)))
}

// tamperTarget flips a bit in the archive that clients get under a name.
func tamperTarget(ts *testscript.TestScript, _ bool, args []string) {
	found, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "targets", "*."+args[1]))
	ts.Check(err)
	if len(found) != 1 {
		ts.Fatalf("targets: got %q", found)
	}
	flipInPlace(ts, found[0])
}

func flipInPlace(ts *testscript.TestScript, path string) {
	data, err := os.ReadFile(path)
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(errors.Join(os.Remove(path), os.WriteFile(path, data, 0o644)))
}
