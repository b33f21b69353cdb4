package main_test

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// The lines that people are told, as written, from the first key to the box.
func TestLinesAsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(args ...string) string {
		t.Helper()
		cmd := boxsign(args...)
		cmd.Dir = dir
		return succeed(t, cmd)
	}
	second, third := name(1600000000, "tar.gz"), name(1600000001, "tar.zst")
	for _, n := range []string{newest, second, third} {
		pack(t, dir, n, proper())
	}
	in("init", "--keys", "K", "--repo", "R", "--yes")
	listen := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	w := &signer{t: t, dir: filepath.Join(dir, "R"), keys: filepath.Join(dir, "K")}
	s := launch{args: []string{"serve", "--data-dir", w.dir, "--online-key", w.onlineKey(), "--listen", listen}}.start(t)

	says(t, in("publish", "--keys", "K", "--yes", newest, second, s.base), "targets: 1 -> 2\n", "state: published\n",
		"at: "+s.base+"/update/"+newest+"\n", "at: "+s.base+"/update/"+second+"\n", "openssl pkeyutl -verify")
	w.verified(s.base, newest, read(t, dir, newest))
	w.verified(s.base, second, read(t, dir, second))
	says(t, in("verify-repo", "--root", "R/metadata/1.root.json", s.base), "archives verified: 2\n")
	says(t, in("publish", "--keys", "K", "--yes", newest, s.base), "state: unchanged\n")
	says(t, in("status", "--verbose", "--keys", "K", "--repo", s.base), newest)

	// The directory belongs to the server while it runs.
	fails(t, dir, []string{"publish", "--keys", "K", "--yes", third, "R"}, "R")
	s.stop(t)
	says(t, in("publish", "--keys", "K", "--yes", third, "R"), "targets: 2 -> 3\n", "state: published\n")
	says(t, in("verify-repo", "--root", "R/metadata/1.root.json", "R"), "archives verified: 3\n")

	s = launch{args: []string{"serve", "--data-dir", w.dir, "--online-key", w.onlineKey(), "--listen", listen}}.start(t)
	w.verified(s.base, third, read(t, dir, third))
	says(t, in("withdraw", "--keys", "K", "--repo", s.base, "--yes", second), "state: published\n")
	get(t, s.base+"/update/"+second).isNotFound(t)
	says(t, in("verify-repo", "--root", "R/metadata/1.root.json", s.base), "archives verified: 2\n")

	// An archive that was changed is refused: where it is to be published, and where it lies.
	archive := read(t, dir, newest)
	tamper(t, filepath.Join(dir, newest))
	fails(t, dir, []string{"publish", "--keys", "K", "--yes", "--force", newest, s.base}, newest, "digest")
	says(t, in("verify-repo", "--root", "R/metadata/1.root.json", s.base), "archives verified: 2\n")
	d := digest(archive)
	tamper(t, filepath.Join(dir, "R", "sha256", d[:2], d))
	fails(t, dir, []string{"verify-repo", "--root", "R/metadata/1.root.json", s.base}, newest, "digest")
	command(t, dir, need(t, "curl", "curl"), "-fsSO", s.base+"/update/"+newest, "-O", s.base+"/update/"+newest+".sig")
	write(t, dir, "line", []byte(digest(read(t, dir, newest))+"  "+newest+"\n"))
	out, err := attempt(dir, need(t, "openssl", "openssl"), "pkeyutl", "-verify", "-pubin", "-inkey", w.releaseKey(), "-rawin", "-in", "line", "-sigfile", newest+".sig")
	if err == nil {
		t.Errorf("openssl accepts a tampered archive: %s", out)
	}
}

// fails runs boxsign, which has to exit with status 1 and to say all these texts.
func fails(t *testing.T, dir string, args []string, texts ...string) {
	t.Helper()
	cmd := boxsign(args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%q: %v, want exit status 1\n%s", args, err, out)
	}
	says(t, string(out), texts...)
}
