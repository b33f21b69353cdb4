package install_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
	"github.com/openpowerquality/box-update-server/update/install"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimEnv) != "" {
		victim()
		return
	}
	// The tests wait for processes and for the disk more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

var (
	must    = testworld.Must
	wantErr = testworld.WantErr
	epoch   = testworld.Start // the time of all tests, in which nothing waits for it
)

// box is a box in a directory of its own.
type box struct {
	t    testing.TB
	home string // where scripts leave what they have to tell
	c    install.Config
}

// newBox returns a box that can't reach the programs of this machine that switch it off: PATH begins with
// programs of the same name that only say that they ran.
func newBox(t testing.TB) *box {
	t.Helper()
	dir := t.TempDir()
	b := &box{t: t, home: filepath.Join(dir, "home")}
	for _, d := range []string{"home", "bin", "pre", "post", "state"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	for _, name := range []string{"reboot", "poweroff", "halt", "shutdown", "init", "telinit", "systemctl"} {
		b.program(filepath.Join(dir, "bin", name), fmt.Sprintf("echo %s \"$@\" >> %s/real", name, b.home))
	}
	b.c = install.Config{
		Dir:           filepath.Join(dir, "state"),
		PreHooks:      filepath.Join(dir, "pre"),
		PostHooks:     filepath.Join(dir, "post"),
		Path:          filepath.Join(dir, "bin") + ":/usr/bin:/bin",
		Home:          b.home,
		Timeout:       time.Minute,
		Grace:         200 * time.Millisecond,
		Reboot:        install.RebootNever,
		RebootCommand: []string{"shutdown", "-r"},
		BootID:        "first boot",
		Now:           func() time.Time { return epoch },
	}
	return b
}

func (b *box) program(path, text string) {
	b.t.Helper()
	must(b.t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
}

func (b *box) pre(name, text string)  { b.program(filepath.Join(b.c.PreHooks, name), text) }
func (b *box) post(name, text string) { b.program(filepath.Join(b.c.PostHooks, name), text) }

func (b *box) open() *install.Installer {
	b.t.Helper()
	i, err := install.Open(b.c)
	must(b.t, err)
	return i
}

// with opens the installer for one use of it.
func (b *box) with(use func(i *install.Installer)) install.Status {
	b.t.Helper()
	i := b.open()
	defer func() { must(b.t, i.Close()) }()
	use(i)
	return i.Status()
}

// status opens the installer and closes it.
func (b *box) status() install.Status {
	b.t.Helper()
	return b.with(func(*install.Installer) {})
}

// install installs one update.
func (b *box) install(p parcel, o install.Options) (r install.Result, s install.Status, err error) {
	b.t.Helper()
	s = b.with(func(i *install.Installer) { r, err = p.into(b.t, i, o) })
	b.tidy(s)
	return r, s, err
}

func (b *box) mustInstall(p parcel) install.Status {
	b.t.Helper()
	_, s, err := b.install(p, install.Options{})
	must(b.t, err)
	b.wantInstalled(s, p)
	return s
}

func (b *box) fails(p parcel, want error) install.Status {
	b.t.Helper()
	r, s, err := b.install(p, install.Options{})
	wantErr(b.t, err, want)
	if r != (install.Result{}) {
		b.t.Errorf("result beside an error: %v", r)
	}
	return s
}

func (b *box) wantInstalled(s install.Status, p parcel) {
	b.t.Helper()
	if s.Installed == nil || s.Installed.Name != p.name || s.Installed.Digest != p.digest || s.Version != p.name.Version() {
		b.t.Fatalf("installed is %+v, want %v", s.Installed, p.name)
	}
}

// tidy checks what lies on the disk after an installation that is over.
func (b *box) tidy(s install.Status) {
	b.t.Helper()
	want := []string{}
	if s.Installed != nil {
		want = append(want, s.Installed.Digest.String())
	}
	if got := list(b.t, b.at("archives")); !slices.Equal(got, want) {
		b.t.Errorf("archives are %v, want %v", got, want)
	}
	if s.Attempt != nil {
		b.t.Errorf("attempt %+v is still there", s.Attempt)
	}
	allowed := []string{"archives", "lock", "log", "record.json", "record.json.bad", "record.json.copy"}
	for _, name := range list(b.t, b.at()) {
		if !slices.Contains(allowed, name) {
			b.t.Errorf("%s is left", name)
		}
	}
}

func (b *box) at(names ...string) string {
	return filepath.Join(append([]string{b.c.Dir, "install"}, names...)...)
}

// told returns the lines that scripts wrote to a file in their HOME, with "_" for spaces.
func (b *box) told(name string) []string {
	b.t.Helper()
	raw, err := os.ReadFile(filepath.Join(b.home, name))
	if !errors.Is(err, fs.ErrNotExist) {
		must(b.t, err)
	}
	return strings.Fields(strings.ReplaceAll(strings.TrimSpace(string(raw)), " ", "_"))
}

func (b *box) wantTold(name string, want ...string) {
	b.t.Helper()
	if got := b.told(name); !slices.Equal(got, want) {
		b.t.Errorf("%s is %q, want %q", name, got, want)
	}
}

func list(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// parcel is a verified archive in a file.
type parcel struct {
	name   update.Name
	digest update.Digest
	path   string
	v      signing.Verified
}

// into installs the parcel.
func (p parcel) into(t testing.TB, i *install.Installer, o install.Options) (install.Result, error) {
	t.Helper()
	f, err := os.Open(p.path)
	must(t, err)
	defer f.Close()
	return i.Install(context.Background(), p.v, f, o)
}

// ran is a script that tells which version ran.
const ran = "#!/bin/sh\necho $BOXUP_VERSION >> $HOME/ran\n"

// pack packs an update whose files are those given, install_update.sh included.
func pack(t testing.TB, version int, files map[string]string) parcel {
	t.Helper()
	n := updateName(t, version)
	src := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(src, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(files[name]), 0o644))
	}
	root, err := os.OpenRoot(src)
	must(t, err)
	defer root.Close()
	var out bytes.Buffer
	must(t, archive.Build(context.Background(), &out, root, archive.Options{Name: n}))
	return seal(t, n, out.Bytes())
}

func script(t testing.TB, version int, text string) parcel {
	t.Helper()
	return pack(t, version, map[string]string{"install_update.sh": text})
}

func updateName(t testing.TB, version int) update.Name {
	t.Helper()
	n, err := update.ParseName(fmt.Sprintf("opq-box-update-%d.tar.gz", version))
	must(t, err)
	return n
}

// seal signs an archive and verifies it, since nothing else can be installed.
func seal(t testing.TB, n update.Name, raw []byte) parcel {
	t.Helper()
	path := filepath.Join(t.TempDir(), n.String())
	must(t, os.WriteFile(path, raw, 0o444))
	v, err := verify(n, raw)
	must(t, err)
	return parcel{n, update.Sum(raw), path, v}
}

func verify(n update.Name, raw []byte) (signing.Verified, error) {
	sig, err := signing.Sign(context.Background(), signer{}, update.Sum(raw), n)
	if err != nil {
		return signing.Verified{}, err
	}
	return signing.Verify(context.Background(), bytes.NewReader(raw), n, sig, signer{}.Public())
}

// signer is the key of the tests.
type signer struct{}

func (signer) private() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, 32)) }

func (s signer) Public() keys.Public {
	public, err := keys.New(s.private().Public().(ed25519.PublicKey))
	if err != nil {
		panic(err)
	}
	return public
}

func (s signer) Sign(ctx context.Context, msg []byte) ([ed25519.SignatureSize]byte, error) {
	return [ed25519.SignatureSize]byte(ed25519.Sign(s.private(), msg)), ctx.Err()
}

// header is an entry of an archive that boxsign build did not make.
type header struct {
	name string
	mode int64
	time int64
	body string // of a regular file
}

// seedHeaders are the entries of an update of the old kind.
func seedHeaders(version int, script string) []header {
	top := fmt.Sprintf("opq-box-update-%d/", version)
	return []header{
		{top, 0o775, 1547861057, ""},
		{top + "install_update.sh", 0o775, 1547861000, script},
		{top + "version", 0o664, 1547861057, fmt.Sprintln(version)},
	}
}

func packHeaders(t testing.TB, version int, entries []header) parcel {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, ModTime: time.Unix(e.time, 0), Size: int64(len(e.body))}
		if strings.HasSuffix(e.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		must(t, w.WriteHeader(h))
		_, err := w.Write([]byte(e.body))
		must(t, err)
	}
	must(t, errors.Join(w.Close(), zip.Close()))
	return seal(t, updateName(t, version), out.Bytes())
}

// await waits for something that another process does.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(testworld.Patience); !done(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not in time", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// alive reports whether a process runs; one that nobody waits for does not.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
