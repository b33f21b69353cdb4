package install_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
	"github.com/openpowerquality/box-update-server/update/install"
)

func TestInstall(t *testing.T) {
	b := newBox(t)
	b.c.Env = []string{"PROXY=http://127.0.0.1:1", "LANG=de_DE"}
	t.Setenv("OUTSIDE", "not for scripts")
	p := pack(t, 7, map[string]string{
		"data/file": "content",
		"install_update.sh": "#!/bin/sh\nenv | sort | grep -v '^\\(_\\|SHLVL\\|PWD\\|OLDPWD\\)=' > $HOME/env\n" +
			"cat - data/file > $HOME/content\npwd > $HOME/pwd\nps -o pgid= -p $$ | tr -d ' ' > $HOME/group\necho $$ >> $HOME/group\n",
	})
	s := b.mustInstall(p)

	top := b.at("work/update/opq-box-update-7")
	env := b.told("env")
	run := slices.IndexFunc(env, func(s string) bool { return strings.HasPrefix(s, "BOXUP_RUN=") })
	if run < 0 {
		t.Fatalf("no BOXUP_RUN in %q", env)
	}
	want := []string{"BOXUP_DIR=" + top, "BOXUP_PREVIOUS=", env[run], "BOXUP_VERSION=7", "HOME=" + b.home, "LANG=C",
		"PATH=" + b.at("work/shims") + ":" + b.c.Path, "PROXY=http://127.0.0.1:1"}
	if !slices.Equal(env, want) {
		t.Errorf("environment is %q, want %q", env, want)
	}
	b.wantTold("content", "content")
	b.wantTold("pwd", top)
	if group := b.told("group"); len(group) != 2 || group[0] != group[1] {
		t.Errorf("process group and process are %q, want a group of its own", group)
	}
	in := install.Installed{Name: p.name, Digest: p.digest, Length: s.Installed.Length, Time: epoch}
	if *s.Installed != in || s.Previous != nil || s.Reboot != nil || s.Damaged != "" || len(s.Failures) != 0 {
		t.Errorf("status is %+v", s)
	}
	if !reflect.DeepEqual(s.History, []install.Event{{Time: epoch, Name: p.name, Digest: p.digest, Outcome: install.OutcomeInstalled}}) {
		t.Errorf("history is %+v", s.History)
	}
	info, err := os.Stat(b.at())
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode is %v", info.Mode())
	}
	b.sameElsewhere(s)
}

// sameElsewhere checks that another process sees the same status, with and without the lock.
func (b *box) sameElsewhere(want install.Status) {
	b.t.Helper()
	read, err := install.ReadStatus(b.c.Dir)
	must(b.t, err)
	if got := b.status(); !reflect.DeepEqual(got, want) || !reflect.DeepEqual(read, want) {
		b.t.Errorf("status is %+v, read %+v, want %+v", got, read, want)
	}
}

func TestStatusWithoutAnything(t *testing.T) {
	b := newBox(t)
	s, err := install.ReadStatus(filepath.Join(b.c.Dir, "nothing"))
	must(t, err)
	raw, err := json.Marshal(s)
	must(t, err)
	want := `{"version":null,"installed":null,"previous":null,"attempt":null,"failures":[],"aside_to":null,"reboot":null,"damaged":"","history":[],"log":`
	if !strings.HasPrefix(string(raw), want) {
		t.Errorf("status is %s, want %s…", raw, want)
	}
}

// Each refusal leaves the box as it was.
func TestRefusals(t *testing.T) {
	good := script(t, 7, ran)
	older, newer := script(t, 6, ran), script(t, 8, ran)
	for _, c := range []struct {
		name   string
		change func(b *box, p *parcel, o *install.Options)
		want   error
	}{
		{"same version", func(*box, *parcel, *install.Options) {}, install.ErrInstalled},
		{"lower version", func(_ *box, p *parcel, _ *install.Options) { *p = older }, install.ErrDowngrade},
		{"another product", func(b *box, _ *parcel, _ *install.Options) { b.c.Product = "another" }, install.ErrProduct},
		{"another file", func(_ *box, p *parcel, _ *install.Options) { p.v, p.name = newer.v, newer.name }, install.ErrMismatch},
		{"a byte changed", func(b *box, p *parcel, _ *install.Options) { *p = b.changed(newer, 0o444) }, install.ErrMismatch},
		{"a byte changed, to be copied", func(b *box, p *parcel, _ *install.Options) { *p = b.changed(newer, 0o644) }, install.ErrMismatch},
		{"a byte more", func(b *box, p *parcel, _ *install.Options) { *p = b.longer(newer) }, install.ErrMismatch},
		{"a directory", func(b *box, p *parcel, _ *install.Options) { *p = newer; p.path = b.home }, install.ErrMismatch},
		{"no space", func(_ *box, p *parcel, o *install.Options) { *p = newer; o.Unpacked = 1 << 60 }, disk.ErrNoSpace},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			s := b.mustInstall(good)
			p, o := good, install.Options{}
			c.change(b, &p, &o)
			before := b.snapshot()
			_, got, err := b.install(p, o)
			wantErr(t, err, c.want)
			if after := b.snapshot(); after != before {
				t.Errorf("files are\n%s, want\n%s", after, before)
			}
			if !reflect.DeepEqual(got, s) {
				t.Errorf("status is %+v, want %+v", got, s)
			}
			b.wantTold("ran", "7")
		})
	}
}

func (b *box) changed(p parcel, perm fs.FileMode) parcel {
	b.t.Helper()
	raw, err := os.ReadFile(p.path)
	must(b.t, err)
	raw[len(raw)/2] ^= 1
	p.path = filepath.Join(b.t.TempDir(), "changed")
	must(b.t, os.WriteFile(p.path, raw, perm))
	return p
}

func (b *box) longer(p parcel) parcel {
	b.t.Helper()
	raw, err := os.ReadFile(p.path)
	must(b.t, err)
	p.path = filepath.Join(b.t.TempDir(), "longer")
	must(b.t, os.WriteFile(p.path, append(raw, 0), 0o644))
	return p
}

// snapshot returns what lies in the installer's directory.
func (b *box) snapshot() string {
	b.t.Helper()
	var out strings.Builder
	must(b.t, filepath.WalkDir(b.at(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		fmt.Fprintf(&out, "%s %v\n", path, update.Sum(raw))
		return err
	}))
	return out.String()
}

func TestNothingVerified(t *testing.T) {
	b := newBox(t)
	p := script(t, 7, ran)
	p.v = signing.Verified{}
	_, _, err := b.install(p, install.Options{})
	if err == nil || !strings.Contains(err.Error(), "nothing is verified") {
		t.Errorf("error is %v", err)
	}
	b.wantTold("ran")
}

func TestConfigRefused(t *testing.T) {
	for name, change := range map[string]func(c *install.Config){
		"reboot policy":     func(c *install.Config) { c.Reboot = "sometimes" },
		"a state directory": func(c *install.Config) { c.Dir = "" },
		"no colon":          func(c *install.Config) { c.Dir += ":2" },
	} {
		b := newBox(t)
		change(&b.c)
		if _, err := install.Open(b.c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestOneInstaller(t *testing.T) {
	b := newBox(t)
	i := b.open()
	_, err := install.Open(b.c)
	wantErr(t, err, install.ErrLocked)
	must(t, i.Close())
	must(t, b.open().Close())
}

func TestLetIn(t *testing.T) {
	for _, c := range []struct {
		name    string
		version int
		change  func(b *box, o *install.Options)
	}{
		{"newer", 8, func(*box, *install.Options) {}},
		{"same by force", 7, func(_ *box, o *install.Options) { o.Force = true }},
		{"older by option", 6, func(_ *box, o *install.Options) { o.AllowDowngrade = true }},
		{"older by configuration", 6, func(b *box, _ *install.Options) { b.c.AllowDowngrade = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			b.mustInstall(script(t, 7, ran))
			p, o := script(t, c.version, ran+"echo from $BOXUP_PREVIOUS >> $HOME/ran\n"), install.Options{}
			c.change(b, &o)
			r, s, err := b.install(p, o)
			must(t, err)
			b.wantInstalled(s, p)
			b.wantTold("ran", "7", fmt.Sprint(c.version), "from_7")
			if r.Installed != *s.Installed || r.Resumed || r.Reboot {
				t.Errorf("result is %+v", r)
			}
			if s.Previous == nil || s.Previous.Name.Version().String() != "7" || r.Previous.String() != "7" {
				t.Errorf("previous is %+v, %v", s.Previous, r.Previous)
			}
		})
	}
}

// A file that others could change is copied, one that nobody can change is linked.
func TestHold(t *testing.T) {
	for _, c := range []struct {
		perm fs.FileMode
		link bool
	}{{0o444, true}, {0o400, true}, {0o644, false}, {0o420, false}} {
		b := newBox(t)
		p := script(t, 7, ran)
		must(t, os.Chmod(p.path, c.perm))
		b.mustInstall(p)
		src, err := os.Stat(p.path)
		must(t, err)
		held, err := os.Stat(b.at("archives", p.digest.String()))
		must(t, err)
		if os.SameFile(src, held) != c.link {
			t.Errorf("mode %v: linked is %t, want %t", c.perm, !c.link, c.link)
		}
		if held.Mode()&0o222 != 0 {
			t.Errorf("mode %v became %v", c.perm, held.Mode())
		}
	}
}

// A path that leads to another file by now is not what was verified.
func TestHoldAfterASwap(t *testing.T) {
	b := newBox(t)
	p := script(t, 7, ran)
	f, err := os.Open(p.path)
	must(t, err)
	defer f.Close()
	must(t, os.Rename(script(t, 8, ran).path, p.path))
	s := b.with(func(i *install.Installer) {
		_, err := i.Install(t.Context(), p.v, f, install.Options{})
		must(t, err)
	})
	b.wantInstalled(s, p)
	b.wantTold("ran", "7")
	held, err := os.ReadFile(b.at("archives", p.digest.String()))
	must(t, err)
	if update.Sum(held) != p.digest {
		t.Error("another archive is held")
	}
}

func TestImproper(t *testing.T) {
	top := func(name string) string { return "opq-box-update-7/" + name }
	first := header{top(""), 0o755, 7, ""}
	version, installer := header{top("VERSION"), 0o644, 7, "7\n"}, header{top("install_update.sh"), 0o755, 7, ran}
	for _, c := range []struct {
		name    string
		entries []header
		want    error
	}{
		{"no script", []header{first, version}, archive.ErrNoInstallScript},
		{"another version", []header{first, {top("VERSION"), 0o644, 7, "8\n"}, installer}, archive.ErrVersion},
		{"outside", []header{first, version, installer, {top("../x"), 0o644, 7, ""}}, archive.ErrImproper},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			b.pre("10-stop", "echo pre >> $HOME/ran")
			p := packHeaders(t, 7, c.entries)
			s := b.fails(p, c.want)
			if reason, ok := s.SetAside(p.name, p.digest); !ok || reason == "" || s.Failures[0].Count != 1 {
				t.Errorf("failures are %+v", s.Failures)
			}
			if len(s.History) != 1 || s.History[0].Outcome != install.OutcomeRefused {
				t.Errorf("history is %+v", s.History)
			}
			b.wantTold("ran")
			b.fails(p, install.ErrSetAside)
			_, _, err := b.install(p, install.Options{Force: true})
			wantErr(t, err, c.want)
			if s := b.mustInstall(script(t, 8, ran)); len(s.Failures) != 0 {
				t.Errorf("failures are %+v after a newer one", s.Failures)
			}
		})
	}
}

func TestSetAside(t *testing.T) {
	b := newBox(t)
	b.mustInstall(script(t, 6, ran))
	bad := script(t, 7, ran+"touch left; ls > $HOME/files\necho 'no \x1b[31mroom\x01' >&2\nexit 3\n")
	for n := 1; n <= 3; n++ {
		s := b.fails(bad, install.ErrScript)
		f := s.Failures
		if len(f) != 1 || f[0].Count != n || f[0].SetAside != (n == 3) || f[0].Name != bad.name || f[0].Digest != bad.digest || f[0].Last != epoch {
			t.Fatalf("failures are %+v after %d", f, n)
		}
		if want := "install_update.sh: exit status 3: no ?[31mroom?"; f[0].Reason != want {
			t.Errorf("reason is %q, want %q", f[0].Reason, want)
		}
		b.wantTold("files", "VERSION", "install_update.sh", "left")
		b.sameElsewhere(s)
	}
	s := b.fails(bad, install.ErrSetAside)
	b.wantTold("ran", "6", "7", "7", "7")
	if s.Version.String() != "6" || len(s.History) != 4 || s.History[3].Outcome != install.OutcomeFailed {
		t.Errorf("version is %v, history %+v", s.Version, s.History)
	}
	_, _, err := b.install(bad, install.Options{Force: true})
	wantErr(t, err, install.ErrScript)
	b.mustInstall(script(t, 8, ran))
	if s := b.fails(bad, install.ErrDowngrade); len(s.Failures) != 0 {
		t.Errorf("failures are %+v", s.Failures)
	}
}

// A name is set aside with its digest: once the release keys were replaced, it may stand for another archive, which is tried. None
// of the two is tried over and over.
func TestSetAsideGoesByDigest(t *testing.T) {
	b := newBox(t)
	bad, other := script(t, 7, ran+"exit 3\n"), script(t, 7, ran+"exit 4\n")
	for _, p := range []parcel{bad, other} {
		for range 3 {
			b.fails(p, install.ErrScript)
		}
	}
	for _, p := range []parcel{bad, other} {
		b.fails(p, install.ErrSetAside)
	}
	s := b.mustInstall(script(t, 7, ran))
	if len(s.Failures) != 0 || s.Version.String() != "7" {
		t.Errorf("status is %+v", s)
	}
}

// One that failed succeeds when it is tried again; a lower number of failures may be asked for.
func TestSecondTry(t *testing.T) {
	b := newBox(t)
	p := script(t, 7, ran+"test -e $HOME/fixed\n")
	b.fails(p, install.ErrScript)
	must(t, os.WriteFile(filepath.Join(b.home, "fixed"), nil, 0o644))
	if s := b.mustInstall(p); len(s.Failures) != 0 || len(s.History) != 2 {
		t.Errorf("status is %+v", s)
	}

	b = newBox(t)
	b.c.MaxFailures = 1
	s := b.fails(p, install.ErrScript)
	if _, ok := s.SetAside(p.name, p.digest); !ok {
		t.Errorf("failures are %+v", s.Failures)
	}
}

func TestScriptWithoutInterpreter(t *testing.T) {
	b := newBox(t)
	b.mustInstall(script(t, 7, "echo $BOXUP_VERSION >> $HOME/ran\n"))
	b.wantTold("ran", "7")
}

// Directories that may not be written to are removed all the same.
func TestReadOnlyDirectories(t *testing.T) {
	b := newBox(t)
	b.mustInstall(pack(t, 7, map[string]string{"a/b/c": "", "install_update.sh": "#!/bin/sh\nchmod 0555 a/b a . && chmod 0 a/b\n"}))
}

func TestBadRecord(t *testing.T) {
	b := newBox(t)
	p := script(t, 7, ran)
	b.mustInstall(p)
	must(t, os.WriteFile(b.at("record.json"), []byte(`{"format":2}`), 0o600))
	if s, err := install.ReadStatus(b.c.Dir); err != nil || s.Installed == nil {
		t.Errorf("beside a copy the status is %+v, error %v", s, err)
	}
	must(t, os.WriteFile(b.at("record.json.copy"), []byte(`{"format":1}`), 0o600))
	if _, err := install.ReadStatus(b.c.Dir); err == nil || !strings.Contains(err.Error(), "expected format 1, got 2") {
		t.Errorf("error is %v", err)
	}
	if s := b.status(); s.Installed != nil || !strings.Contains(s.Damaged, "expected format 1, got 2") {
		t.Errorf("status is %+v", s)
	}
	if raw, err := os.ReadFile(b.at("record.json.bad")); err != nil || string(raw) != `{"format":2}` {
		t.Errorf("put aside is %q, %v", raw, err)
	}
	if s := b.mustInstall(p); s.Damaged != "" {
		t.Errorf("damaged: %s", s.Damaged)
	}
}

func TestCancelledBefore(t *testing.T) {
	b := newBox(t)
	p := script(t, 7, ran)
	f, err := os.Open(p.path)
	must(t, err)
	defer f.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the operator")
	cancel(cause)
	s := b.with(func(i *install.Installer) {
		_, err := i.Install(ctx, p.v, f, install.Options{})
		wantErr(t, err, cause)
	})
	b.tidy(s)
	b.wantTold("ran")
	if len(s.Failures) != 0 {
		t.Errorf("failures are %+v", s.Failures)
	}
}

// Of a script that can't be started the message says what is missing, which is not the script.
func TestInterpreterIsNamed(t *testing.T) {
	for line, want := range map[string]string{
		"#!/opt/none/bin/bash\n": "install_update.sh: this box does not have the interpreter that the first line of the script names: stat /opt/none/bin/bash: no such file",
		"#!/bin/sh\r\n":          "install_update.sh: the script has lines that end with CR LF",
	} {
		b := newBox(t)
		b.post("10-start", "echo $BOXUP_RESULT >> $HOME/service")
		version := header{"opq-box-update-7/VERSION", 0o644, 7, "7\n"}
		installer := header{"opq-box-update-7/install_update.sh", 0o755, 7, line + "exit 0\n"}
		s := b.fails(packHeaders(t, 7, []header{{"opq-box-update-7/", 0o755, 7, ""}, version, installer}), install.ErrScript)
		if len(s.Failures) != 1 || !strings.HasPrefix(s.Failures[0].Reason, want) {
			t.Errorf("failures are %+v, want %q", s.Failures, want)
		}
		b.wantTold("service", "failed")
	}
}

// What can't be removed keeps no update away.
func TestUndeletableFiles(t *testing.T) {
	b := newBox(t)
	if out, err := exec.Command("chattr", "+i", b.home).CombinedOutput(); err != nil {
		testworld.NotTested(t, "files that can't be removed", fmt.Errorf("%w: %s", err, out))
	}
	must(t, exec.Command("chattr", "-i", b.home).Run())
	t.Cleanup(func() {
		if out, err := exec.Command("chattr", "-R", "-i", b.c.Dir).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	for version := 7; version < 10; version++ {
		p := script(t, version, ran+"touch kept; chattr +i kept\n")
		s := b.with(func(i *install.Installer) {
			_, err := p.into(t, i, install.Options{})
			must(t, err)
		})
		b.wantInstalled(s, p)
	}
	b.wantTold("ran", "7", "8", "9")
	must(t, exec.Command("chattr", "-R", "-i", b.c.Dir).Run())
	b.mustInstall(script(t, 10, ran)) // after which nothing of that is left
}
