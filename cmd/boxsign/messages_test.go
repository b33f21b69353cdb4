package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// failingWorld is a signer with all keys, a repository with one update and an archive for the next. A test breaks one
// of them.
type failingWorld struct {
	t      *testing.T
	dir    string
	now    time.Time
	disk   disk.FS
	server *httptest.Server
	answer func(w http.ResponseWriter, r *http.Request) bool // false: as a server that has the repository
	env    map[string]string
}

// A failure is one fault, the command that meets it, and texts that the message must have. $DIR stands for the directory of
// the signer, $URL for a server, $HOST for its host and port.
type failure struct {
	name    string
	arrange func(m *failingWorld)
	args    string
	want    []string
}

func (m *failingWorld) path(name string) string { return filepath.Join(m.dir, name) }

func (m *failingWorld) check(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *failingWorld) fill(s string) string {
	return strings.NewReplacer("$DIR", m.dir, "$URL", m.server.URL, "$HOST", strings.TrimPrefix(m.server.URL, "http://")).Replace(s)
}

// run runs a command line in this process.
func (m *failingWorld) run(args string) (code int, said string) {
	var out, errs bytes.Buffer
	ctx, cancel := context.WithCancel(m.t.Context())
	defer cancel()
	s := cli.Streams{
		In: strings.NewReader(""), Out: &out, Err: onPause{&errs, cancel}, Disk: m.disk,
		Getenv: func(name string) string { return m.env[name] }, Now: func() time.Time { return m.now },
	}
	code = command.Run(ctx, "boxsign", newRoot(s, 0), strings.Fields(m.fill(args)), s)
	return code, errs.String()
}

// onPause ends a command that waits for a server, once it has printed why it waits.
type onPause struct {
	io.Writer
	cancel func()
}

func (o onPause) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("; trying again in ")) {
		o.cancel()
	}
	return o.Writer.Write(p)
}

func (m *failingWorld) mustRun(args string) {
	m.t.Helper()
	if code, said := m.run(args); code != 0 {
		m.t.Fatalf("boxsign %s: exit code %d: %s", args, code, said)
	}
}

// file makes a file the text, or a directory for "/", or nothing for "-".
func file(name, text string) func(m *failingWorld) {
	return func(m *failingWorld) {
		m.check(os.RemoveAll(m.path(name)))
		switch text {
		case "-":
		case "/":
			m.check(os.MkdirAll(m.path(name), 0o755))
		default:
			m.check(os.MkdirAll(filepath.Dir(m.path(name)), 0o755))
			m.check(os.WriteFile(m.path(name), []byte(text), 0o600))
		}
	}
}

// cut leaves the first half of a file.
func cut(name string) func(m *failingWorld) {
	return func(m *failingWorld) {
		b, err := os.ReadFile(m.path(name))
		m.check(err)
		m.check(os.WriteFile(m.path(name), b[:len(b)/2], 0o600))
	}
}

func inOrder(arrange ...func(m *failingWorld)) func(m *failingWorld) {
	return func(m *failingWorld) {
		for _, a := range arrange {
			a(m)
		}
	}
}

func afterRun(args string) func(m *failingWorld) { return func(m *failingWorld) { m.mustRun(args) } }

func at(text string) func(m *failingWorld) {
	return func(m *failingWorld) {
		now, err := time.Parse(time.RFC3339, text)
		m.check(err)
		m.now = now
	}
}

// answering makes the server answer requests for a path that contains the text.
func answering(part string, how http.HandlerFunc) func(m *failingWorld) {
	return func(m *failingWorld) {
		m.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, part) {
				return false
			}
			how(w, r)
			return true
		}
	}
}

func replies(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// ServeHTTP serves the repository as an origin for which nothing waits and that publishes nothing.
func (m *failingWorld) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.answer != nil && m.answer(w, r) {
		return
	}
	if r.URL.Path == "/publish/" {
		_, _ = io.WriteString(w, `{"root":1,"targets":2,"snapshot":2,"timestamp":2,"reserved":0,"staged":[],"pending":[]}`)
		return
	}
	http.FileServer(http.Dir(m.path("R"))).ServeHTTP(w, r)
}

// broken makes the disk fail where files are written.
func broken(err error) func(m *failingWorld) {
	return func(m *failingWorld) {
		m.disk.Hook = func(op disk.Op, path string) (bool, error) {
			switch op {
			case disk.OpWrite:
				return false, err // durable says where
			case disk.OpCreate, disk.OpRename, disk.OpLink, disk.OpMkdir:
				return false, &os.PathError{Op: string(op), Path: path, Err: err}
			}
			return true, nil
		}
	}
}

const (
	html  = "<!DOCTYPE html>\n<html><body><h1>Internal Server Error</h1></body></html>\n"
	signs = "--keys $DIR/K --repo $DIR/R --yes"
	sends = "--keys $DIR/K --yes $DIR/p-2.tar.gz $URL"
	later = "--passphrase-file $DIR/pass"
)

func failures(t *testing.T) []failure {
	rows := []failure{
		{"unknown command", nil, "biuld", []string{"biuld", "did you mean build?"}},
		{"no command of a group", nil, "root", []string{"boxsign root"}},
		{"unknown command of a group", nil, "rollout pasue x", []string{"pasue", "pause"}},
		{"unknown flag", nil, "status --since 12x", []string{"--since", "boxsign status --help"}},
		{"no archive", nil, "add " + signs, []string{"FILE", "boxsign add --help"}},
		{"an argument too many", nil, "inspect a b", []string{"boxsign inspect", "FILE"}},
		{"no argument is taken", nil, "renew now " + signs, []string{"now"}},
		{"threshold is no number", nil, "init --keys $DIR/N --repo $DIR/N2 --yes --root-threshold x", []string{"--root-threshold", `"x"`, "whole number"}},
		{"threshold beyond the keys", nil, "init --keys $DIR/N --repo $DIR/N2 --yes --release-threshold 5", []string{"threshold 5"}},
		{"which keys", nil, "status --repo $DIR/R", []string{"no directory of keys", "--keys"}},
		{"which repository", nil, "status --keys $DIR/K", []string{"no repository", "--repo"}},
		{"keep is no number", nil, "add " + signs + " --keep x $DIR/p-2.tar.gz", []string{"--keep", `"x"`}},
		{"keep is negative", nil, "add " + signs + " --keep -1 $DIR/p-2.tar.gz", []string{"--keep"}},
		{"rollout without percents", nil, "add " + signs + " --rollout 5 $DIR/p-2.tar.gz", []string{"--rollout", `"5"`}},
		{"rollout of a bad duration", nil, "add " + signs + " --rollout 5%,12x:50% $DIR/p-2.tar.gz", []string{"--rollout", "12x"}},
		{"rollout of an overflowing number", nil, "add " + signs + " --rollout 99999999999999999999% $DIR/p-2.tar.gz", []string{"--rollout"}},
		{"bad version wanted", nil, "add " + signs + " --min-version größe $DIR/p-2.tar.gz", []string{"größe"}},
		{"bad hardware", nil, "add " + signs + " --hardware größe $DIR/p-2.tar.gz", []string{"größe"}},
		{"bad role", nil, "keygen --keys $DIR/N größe", []string{"größe", "root, release or online"}},
		{"bad place", nil, "add --keys $DIR/K --repo ftp://h --yes $DIR/p-2.tar.gz", []string{"ftp://h"}},
		{"threshold ROLE N", nil, "root threshold release none " + signs, []string{"none"}},

		{"build, no directory", nil, "build $DIR/none -o $DIR/p-9.tar.gz", []string{"$DIR/none"}},
		{"build, a file", nil, "build $DIR/p-2.tar.gz -o $DIR/p-9.tar.gz", []string{"$DIR/p-2.tar.gz"}},
		{"build, empty", file("D", "/"), "build $DIR/D -o $DIR/p-9.tar.gz", []string{"install_update.sh"}},
		{"build, bad name", nil, "build $DIR/DIR -o $DIR/größe.zip", []string{"größe.zip"}},
		{"build, bad version", nil, "build $DIR/DIR --version größe", []string{"größe"}},
		{"build, bad format", nil, "build $DIR/DIR --format zip", []string{"zip", "tar.bz2"}},
		{"build, bad product", nil, "build $DIR/DIR --product größe", []string{"größe"}},
		{"build, bad epoch", func(m *failingWorld) { m.env["SOURCE_DATE_EPOCH"] = "x" }, "build $DIR/DIR", []string{"SOURCE_DATE_EPOCH", `"x"`}},
		{"build, no such output", nil, "build $DIR/DIR -o $DIR/none/p-9.tar.gz", []string{"$DIR/none"}},
		{"build, output is there", nil, "build $DIR/DIR -o $DIR/p-2.tar.gz", []string{"$DIR/p-2.tar.gz"}},
		{"build, a name that is no UTF-8", file("DIR/\xff\xfe", "x"), "build $DIR/DIR -o $DIR/p-9.tar.gz", []string{`\xff\xfe`}},
		{"build, a socket of another alphabet", func(m *failingWorld) { m.check(syscall.Mkfifo(m.path("DIR/größe"), 0o600)) }, "build $DIR/DIR -o $DIR/p-9.tar.gz", []string{"größe"}},
		{"build, a link out", func(m *failingWorld) { m.check(os.Symlink("/größe", m.path("DIR/ä"))) }, "build $DIR/DIR -o $DIR/p-9.tar.gz", []string{"ä"}},

		{"key show, no directory", nil, "key show --keys $DIR/none", []string{"$DIR/none"}},
		{"key show, a file", nil, "key show --keys $DIR/p-2.tar.gz", []string{"$DIR/p-2.tar.gz"}},
		{"key show, public is garbage", file("K/release.pub", "\xff"), "key show --keys $DIR/K", []string{"$DIR/K/release.pub"}},
		{"key export, none", file("K/release.pub", "-"), "key export --keys $DIR/K release", []string{"release"}},
		{"key export, is there", nil, "key export --keys $DIR/K release -o $DIR/p-2.tar.gz", []string{"$DIR/p-2.tar.gz"}},
		{"keygen, is there", nil, "keygen --keys $DIR/K online", []string{"$DIR/K/online"}},
		{"keygen, bad agent", nil, "keygen --keys $DIR/N release --agent größe", []string{"größe"}},
		{"keygen, no agent", nil, "keygen --keys $DIR/N release --agent ssh-agent:SHA256:" + strings.Repeat("A", 43), []string{"SSH_AUTH_SOCK"}},
		{"keygen, agent is gone", func(m *failingWorld) { m.env["SSH_AUTH_SOCK"] = m.path("none") }, "keygen --keys $DIR/N release --agent ssh-agent:SHA256:" + strings.Repeat("A", 43), []string{"$DIR/none"}},
		{"keygen, passphrase file missing", nil, "keygen --keys $DIR/N release --passphrase-file $DIR/none", []string{"$DIR/none"}},
		{"keygen, passphrase file is empty", file("pass", ""), "keygen --keys $DIR/N release " + later, []string{"passphrase", "got none"}},
		{"keygen, passphrase file is a directory", nil, "keygen --keys $DIR/N release --passphrase-file $DIR/K", []string{"$DIR/K"}},
		{"keygen, passphrase file is too long", file("pass", strings.Repeat("x", 1<<20)), "keygen --keys $DIR/N release " + later, []string{"$DIR/pass", "at most"}},
		{"init, repository is there", nil, "init --keys $DIR/N --repo $DIR/R --yes", []string{"$DIR/R", "--repo"}},
		{"init, keys are there", nil, "init --keys $DIR/K --repo $DIR/N2 --yes", []string{"$DIR/K", "--keys"}},
		{"init, at a server", nil, "init --keys $DIR/N --repo $URL --yes", []string{"$URL"}},
		{"init, repository is a file", nil, "init --keys $DIR/N --repo $DIR/p-2.tar.gz --yes --root-key $DIR/K/root.pem --release-key $DIR/K/release.pem", []string{"$DIR/p-2.tar.gz"}},
		{"nobody to ask", nil, "add --keys $DIR/K --repo $DIR/R $DIR/p-2.tar.gz", []string{"no terminal", "--yes"}},

		{"sign, no archive", nil, "sign --keys $DIR/K $DIR/none", []string{"none"}},
		{"sign, bad name", file("größe", "x"), "sign --keys $DIR/K $DIR/größe", []string{"größe"}},
		{"sign, is a directory", file("p-9.tar.gz", "/"), "sign --keys $DIR/K $DIR/p-9.tar.gz", []string{"$DIR/p-9.tar.gz"}},
		{"verify, no key", nil, "verify $DIR/p-2.tar.gz", []string{"--key"}},
		{"verify, no signature", nil, "verify --key $DIR/K/release.pub $DIR/p-2.tar.gz", []string{"$DIR/p-2.tar.gz.sig"}},
		{"verify, short signature", file("p-2.tar.gz.sig", "x"), "verify --key $DIR/K/release.pub $DIR/p-2.tar.gz", []string{"$DIR/p-2.tar.gz.sig", "64"}},
		{"verify, wrong signature", file("p-2.tar.gz.sig", strings.Repeat("x", 64)), "verify --key $DIR/K/release.pub $DIR/p-2.tar.gz", []string{"p-2.tar.gz", "do not install"}},
		{"verify, key missing", nil, "verify --key $DIR/none $DIR/p-2.tar.gz", []string{"$DIR/none"}},
		{"verify, key is garbage", file("k", "\xff"), "verify --key $DIR/k $DIR/p-2.tar.gz", []string{"$DIR/k", "PEM"}},
		{"inspect, no archive", nil, "inspect $DIR/p-9.tar.gz", []string{"$DIR/p-9.tar.gz"}},
		{"inspect, bad name", file("größe", "x"), "inspect $DIR/größe", []string{"größe"}},
		{"inspect, a directory", file("p-9.tar.gz", "/"), "inspect $DIR/p-9.tar.gz", []string{"p-9.tar.gz"}},

		{"root of keys cut", cut("K/trusted/1.root.json"), "add " + signs + " $DIR/p-2.tar.gz", []string{"$DIR/K/trusted"}},
		{"pinned root missing", file("K/trusted", "-"), "add " + signs + " --root $DIR/none $DIR/p-2.tar.gz", []string{"$DIR/none"}},
		{"pinned root garbage", inOrder(file("K/trusted", "-"), file("r", "\xff")), "add " + signs + " --root $DIR/r $DIR/p-2.tar.gz", []string{"$DIR/r"}},
		{"pinned root too long", inOrder(file("K/trusted", "-"), file("r", strings.Repeat(" ", 1<<20))), "add " + signs + " --root $DIR/r $DIR/p-2.tar.gz", []string{"$DIR/r", "at most"}},
		{"pinned root is a list", file("K/trusted", "-"), "add " + signs + " --root $DIR/R/metadata/2.targets.json $DIR/p-2.tar.gz", []string{"$DIR/R/metadata/2.targets.json", "targets"}},
		{"keys meet for the first time", file("K/trusted", "-"), "add " + signs + " $DIR/p-2.tar.gz", []string{"$DIR/K", "--root"}},
		{"keys missing", nil, "add --keys $DIR/none --repo $DIR/R --yes $DIR/p-2.tar.gz", []string{"$DIR/none", "--keys"}},
		{"no release key", file("K/release.pem", "-"), "add " + signs + " $DIR/p-2.tar.gz", []string{"$DIR/K/release.pem", "--release-key"}},
		{"release key is garbage", file("K/release.pem", "\xff"), "add " + signs + " $DIR/p-2.tar.gz", []string{"$DIR/K/release.pem", "PEM"}},
		{"release key is cut", cut("K/release.pem"), "add " + signs + " $DIR/p-2.tar.gz", []string{"$DIR/K/release.pem"}},
		{"release key is empty", file("K/release.pem", ""), "add " + signs + " $DIR/p-2.tar.gz", []string{"$DIR/K/release.pem"}},
		{"release key is too long", file("K/release.pem", strings.Repeat("x", 1<<20)), "add " + signs + " $DIR/p-2.tar.gz", []string{"$DIR/K/release.pem", "at most"}},
		{"release key is a directory", file("K/release.pem", "/"), "add " + signs + " $DIR/p-2.tar.gz", []string{"$DIR/K/release.pem"}},
		{"release key is public", nil, "add " + signs + " --release-key $DIR/K/release.pub $DIR/p-2.tar.gz", []string{"$DIR/K/release.pub", "PUBLIC KEY"}},
		{"release key of others", nil, "add " + signs + " --release-key $DIR/OTHER/release.pem $DIR/p-2.tar.gz", []string{"key is not in the root", "boxsign root add-key"}},
		{"release key of DER garbage", file("K/release.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "add " + signs + " $DIR/p-2.tar.gz", []string{"$DIR/K/release.pem"}},
		{"release key of an agent that is gone", inOrder(file("K/release.pem", "-"), file("K/release.agent", "ssh-agent:SHA256:"+strings.Repeat("A", 43)+"\n")), "add " + signs + " $DIR/p-2.tar.gz", []string{"SSH_AUTH_SOCK"}},
		{"release key of a bad agent", inOrder(file("K/release.pem", "-"), file("K/release.agent", "größe\n")), "add " + signs + " $DIR/p-2.tar.gz", []string{"größe"}},
		{"keys that don't belong together", inOrder(file("K/release.pem", "-"), func(m *failingWorld) {
			b, err := os.ReadFile(m.path("OTHER/release.pem"))
			m.check(err)
			m.check(os.WriteFile(m.path("K/release.pem"), b, 0o600))
		}), "add " + signs + " $DIR/p-2.tar.gz", []string{"$DIR/K/release.pem", "$DIR/K/release.pub", "boxsign restore"}},
		{"sealed key, nobody to ask", file("K/release.pem", sealedKey), "add " + signs + " $DIR/p-2.tar.gz", []string{"$DIR/K/release.pem"}},
		{"sealed key, empty passphrase file", inOrder(file("K/release.pem", sealedKey), file("pass", "\n")), "add " + signs + " " + later + " $DIR/p-2.tar.gz", []string{"$DIR/K/release.pem"}},

		{"repository is missing", nil, "add --keys $DIR/K --repo $DIR/none --yes $DIR/p-2.tar.gz", []string{"$DIR/none", "boxsign init"}},
		{"repository is a file", nil, "add --keys $DIR/K --repo $DIR/p-2.tar.gz --yes $DIR/p-2.tar.gz", []string{"$DIR/p-2.tar.gz"}},
		{"repository of others", nil, "add --keys $DIR/OTHER --root $DIR/R/metadata/1.root.json --repo $DIR/R --yes $DIR/p-2.tar.gz", []string{"key"}},
		{"repository, metadata is a file", inOrder(file("R/metadata", "-"), file("R/metadata", "x")), "add " + signs + " $DIR/p-2.tar.gz", []string{"$DIR/R/metadata"}},
		{"online key is missing", file("K/online.pem", "-"), "add " + signs + " $DIR/p-2.tar.gz", []string{"$DIR/K/online.pem", "--online-key"}},
		{"archive is missing", nil, "add " + signs + " $DIR/p-9.tar.gz", []string{"$DIR/p-9.tar.gz"}},
		{"archive has a bad name", file("größe", "x"), "add " + signs + " $DIR/größe", []string{"größe"}},
		{"archive is a directory", file("p-9.tar.gz", "/"), "add " + signs + " $DIR/p-9.tar.gz", []string{"p-9.tar.gz"}},
		{"archive is listed with other bytes", inOrder(file("x/p-1.tar.gz", "x")), "add " + signs + " --force $DIR/x/p-1.tar.gz", []string{"p-1.tar.gz", "build the update again"}},
		{"withdraw, not listed", nil, "withdraw " + signs + " p-9.tar.gz", []string{"p-9.tar.gz", "boxsign ls"}},
		{"withdraw, bad name", nil, "withdraw " + signs + " größe", []string{"größe"}},
		{"rollout of nothing", nil, "rollout pause " + signs + " p-1.tar.gz", []string{"p-1.tar.gz"}},
		{"rollout show, not listed", nil, "rollout show --keys $DIR/K --repo $DIR/R p-9.tar.gz", []string{"p-9.tar.gz"}},
		{"cosign, no such file", nil, "cosign " + signs + " $DIR/none", []string{"none"}},
		{"abort, nothing waits", nil, "abort " + signs, []string{"nothing waits", "boxsign withdraw"}},
		{"root add-key, no file", nil, "root add-key release $DIR/none " + signs, []string{"$DIR/none"}},
		{"root add-key, garbage", file("k", "\xff"), "root add-key release $DIR/k " + signs, []string{"$DIR/k", "PEM"}},
		{"root add-key, bad role", nil, "root add-key größe $DIR/K/release.pub " + signs, []string{"größe"}},
		{"root remove-key, not there", nil, "root remove-key release aaaa-bbbb-cccc-dddd " + signs, []string{"aaaa-bbbb-cccc-dddd"}},
		{"root remove-key, the last", nil, "root remove-key release $DIR/K/release.pub " + signs, []string{"threshold"}},
		{"root threshold, beyond the keys", nil, "root threshold release 2 " + signs, []string{"threshold"}},
		{"root key is missing", file("K/root.pem", "-"), "root renew " + signs, []string{"$DIR/K/root.pem", "--root-key"}},
		{"rotate, no key", file("K/release.pem", "-"), "rotate release " + signs, []string{"$DIR/K/release.next.pem", "passphrase"}},
		{"threshold not met", afterRun("root add-key release $DIR/OTHER/release.pub " + signs), "root threshold release 3 " + signs, []string{"threshold"}},
		{"clock is behind", at("1970-01-01T00:00:00Z"), "add " + signs + " $DIR/p-2.tar.gz", []string{"clock", "set it"}},
		{"clock is ahead", at("2040-01-01T00:00:00Z"), "add " + signs + " $DIR/p-2.tar.gz", []string{"expired", "boxsign root renew"}},
		{"clock is ahead, renew", at("2030-09-01T00:00:00Z"), "renew " + signs, []string{"clock"}},

		{"backup, no output", nil, "backup --keys $DIR/K", []string{"-o"}},
		{"backup, no keys", nil, "backup --keys $DIR/none -o $DIR/b " + later, []string{"$DIR/none"}},
		{"backup, is there", file("pass", "mosaic-Tulip-93-harbor"), "backup --keys $DIR/K -o $DIR/p-2.tar.gz " + later, []string{"$DIR/p-2.tar.gz"}},
		{"backup, no passphrase", nil, "backup --keys $DIR/K -o $DIR/b --passphrase-file $DIR/none", []string{"$DIR/none"}},
		{"restore, no file", nil, "restore --keys $DIR/N $DIR/none", []string{"$DIR/none"}},
		{"restore, a directory", nil, "restore --keys $DIR/N $DIR/K", []string{"$DIR/K"}},
		{"restore, empty", inOrder(file("b", ""), file("pass", "x")), "restore --keys $DIR/N $DIR/b " + later, []string{"$DIR/b"}},
		{"restore, garbage", inOrder(file("b", "\xff\xfeä"), file("pass", "x")), "restore --keys $DIR/N $DIR/b " + later, []string{"$DIR/b"}},
		{"restore, cut", inOrder(file("b", "age-encryption.org/v1\n-> scrypt"), file("pass", "x")), "restore --keys $DIR/N $DIR/b " + later, []string{"$DIR/b"}},
		{"bootstrap, no root", nil, "bootstrap", []string{"--"}},
		{"verify-repo, no root", nil, "verify-repo $DIR/R", []string{"no root to trust", "--root"}},
		{"verify-repo, root missing", nil, "verify-repo --root $DIR/none $DIR/R", []string{"$DIR/none"}},
		{"verify-repo, root garbage", file("r", "{"), "verify-repo --root $DIR/r $DIR/R", []string{"$DIR/r"}},
		{"verify-repo, another root", nil, "verify-repo --root $DIR/OTHERR/metadata/1.root.json $DIR/R", []string{"not enough signatures"}},
		{"verify-repo, archive is cut", func(m *failingWorld) {
			found, err := filepath.Glob(m.path("R/sha256/*/*"))
			m.check(err)
			m.check(os.Truncate(found[0], 10))
		}, "verify-repo --root $DIR/R/metadata/1.root.json $DIR/R", []string{"1 of 1 archives", "a mirror or a backup"}},
	}
	for name, text := range map[string]string{"empty": "", "garbage": "\xff\xfegarbage", "a gzip cut": "\x1f\x8b\x08\x00\x00\x00\x00\x00"} {
		rows = append(rows, failure{"archive is " + name, file("p-9.tar.gz", text), "add " + signs + " $DIR/p-9.tar.gz", []string{"p-9.tar.gz"}},
			failure{"inspected archive is " + name, file("p-9.tar.gz", text), "inspect $DIR/p-9.tar.gz", []string{"p-9.tar.gz"}})
	}
	for name, entry := range map[string]tar.Header{
		"\xff\xfe": {Typeflag: tar.TypeReg}, "größe-🙂": {Typeflag: tar.TypeChar}, "../größe": {Typeflag: tar.TypeReg}, "\x1b[2J": {Typeflag: tar.TypeReg}, "a/ä": {Typeflag: tar.TypeLink, Linkname: "/größe"},
	} {
		entry.Name, entry.Mode = "p-9/"+name, 0o644
		shown := strings.NewReplacer("\xff\xfe", `\xff\xfe`, "\x1b[2J", `\x1b[2J`).Replace(name)
		for _, command := range []string{"add " + signs, "sign --keys $DIR/K", "publish --keys $DIR/K --repo $DIR/R --yes"} {
			rows = append(rows, failure{"entry " + shown + ", " + strings.Fields(command)[0], func(m *failingWorld) { file("p-9.tar.gz", archiveOf(m, entry))(m) }, command + " $DIR/p-9.tar.gz", []string{shown}})
		}
	}
	for _, name := range []string{"1.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"} {
		for what, how := range map[string]func(m *failingWorld){
			"missing": file("R/metadata/"+name, "-"), "garbage": file("R/metadata/"+name, "\xffä"), "a directory": file("R/metadata/"+name, "/"), "of wrong types": file("R/metadata/"+name, `{"signatures":[{"keyid":5}],"signed":{"_type":5}}`),
		} {
			rows = append(rows, failure{name + " is " + what, inOrder(how, file("R/metadata/"+name+".copy", "-")), "add " + signs + " $DIR/p-2.tar.gz", []string{"$DIR/R"}})
		}
	}
	for name, url := range map[string]string{
		"refused": "http://u:hunter2@127.0.0.1:1", "no such host": "http://u:hunter2@nowhere.invalid", "TLS to a plain one": "https://u:hunter2@$HOST", "a bad port": "http://u:hunter2@h:x",
		"a query": "http://u:hunter2@h/?x", "no host": "http://",
	} {
		rows = append(rows, failure{"publish to " + name, nil, "publish --keys $DIR/K --yes $DIR/p-2.tar.gz " + url, nil},
			failure{"status of " + name, nil, "status --keys $DIR/K " + url, nil})
	}
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	rows = append(rows, failure{"untrusted certificate", nil, "publish --keys $DIR/K --yes $DIR/p-2.tar.gz " + untrusted.URL, []string{untrusted.URL[8:], "certificate"}})
	for _, part := range []string{"timestamp", "2.root", "/publish/"} {
		for name, how := range map[string]http.HandlerFunc{
			"301 loop": func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, r.URL.Path, http.StatusMovedPermanently)
			},
			"302 away": func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://other.invalid/", http.StatusFound)
			},
			"404": replies(404, html), "403": replies(403, html), "410": replies(410, html), "500": replies(500, html), "401": replies(401, html),
			"garbage": replies(200, "\xff\x00ä"), "empty": replies(200, ""), "HTML": replies(200, html), "cut": testworld.Short, "not HTTP": testworld.NotHTTP,
			"a list": replies(200, "[]"), "of wrong types": replies(200, `{"root":"x","targets":[],"pending":5}`), "too long": testworld.Endless,
		} {
			if part == "2.root" && strings.HasPrefix(name, "4") && name != "401" {
				continue // that there is none
			}
			rows = append(rows, failure{part + " is " + name, answering(part, how), "publish " + sends, []string{"$URL"}})
		}
	}
	for name, how := range map[string]http.HandlerFunc{
		"404": replies(404, html), "413": replies(413, html), "500": replies(500, html), "garbage": replies(200, "\xff"), "words": replies(409, `{"error":"größe","hint":"ä"}`), "wrong types": replies(409, `{"error":5}`),
		"text": replies(400, "größe\n\x1b[2J"),
	} {
		rows = append(rows, failure{"put is answered with " + name, func(m *failingWorld) {
			m.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				how(w, r)
				return true
			}
		}, "publish " + sends, []string{"$URL"}})
	}
	for name, err := range map[string]error{"full": syscall.ENOSPC, "read-only": syscall.EROFS, "failing": syscall.EIO} {
		for _, command := range []string{
			"add " + signs + " $DIR/p-2.tar.gz", "withdraw " + signs + " p-1.tar.gz", "renew " + signs, "root renew " + signs, "rotate online " + signs,
			"key export --keys $DIR/K release -o $DIR/k", "init --keys $DIR/N --repo $DIR/N2 --yes --root-key $DIR/K/root.pem --release-key $DIR/K/release.pem",
			"add --hold " + signs + " $DIR/p-2.tar.gz", "keygen --keys $DIR/N online",
		} {
			label := command[:strings.Index(command, " --keys")+1]
			rows = append(rows, failure{"disk is " + name + ", " + label, broken(err), command, nil})
		}
	}
	return rows
}

// archiveOf is an archive with that entry.
func archiveOf(m *failingWorld, h tar.Header) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	h.ModTime = time.Unix(1000, 0)
	m.check(w.WriteHeader(&h))
	m.check(w.Close())
	m.check(z.Close())
	return b.String()
}

// sealedKey is an encrypted key of no worth.
const sealedKey = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"

// TestMessages provokes what commonly goes wrong, and judges what is said then.
func TestMessages(t *testing.T) {
	t.Parallel()
	unsynced := disk.FS{Hook: func(op disk.Op, _ string) (bool, error) {
		return op != disk.OpSync && op != disk.OpSyncDir, nil
	}}
	world := func(t *testing.T, dir string) *failingWorld {
		m := &failingWorld{t: t, dir: dir, disk: unsynced, env: map[string]string{}, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
		m.server = httptest.NewUnstartedServer(m)
		m.server.Config.ErrorLog = log.New(io.Discard, "", 0)
		m.server.Start()
		t.Cleanup(m.server.Close)
		return m
	}
	base := world(t, t.TempDir())
	for _, keys := range []string{"K", "OTHER"} {
		for _, role := range []string{"root", "release"} {
			base.check(writeBareKey(base.path(keys), role))
		}
	}
	file("DIR/install_update.sh", "#!/bin/sh\n")(base)
	base.mustRun("init --keys $DIR/K --repo $DIR/R --yes")
	base.mustRun("init --keys $DIR/OTHER --repo $DIR/OTHERR --yes")
	for _, name := range []string{"p-1.tar.gz", "p-2.tar.gz"} {
		base.mustRun("build $DIR/DIR -o $DIR/" + name)
	}
	base.mustRun("add " + signs + " $DIR/p-1.tar.gz")
	for _, c := range failures(t) {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "w")
			base.check(os.CopyFS(dir, os.DirFS(base.dir)))
			for _, key := range []string{"K/root.pem", "K/release.pem", "K/online.pem", "K/release.pub", "OTHER/release.pem", "OTHER/online.pem"} {
				base.check(os.Chmod(filepath.Join(dir, key), 0o600))
			}
			m := world(t, dir)
			if c.arrange != nil {
				c.arrange(m)
			}
			code, said := m.run(c.args)
			if os.Getenv("SHOW") != "" {
				fmt.Printf("=== %s (%d)\n%s", c.name, code, strings.NewReplacer(m.dir, "$DIR", m.server.URL, "$URL").Replace(said))
			}
			if code == 0 {
				t.Errorf("it went well: %s", said)
			}
			for _, fault := range testworld.Unreadable("boxsign", said) {
				t.Error(fault)
			}
			if strings.Contains(said, "hunter2") {
				t.Errorf("the password is shown: %s", said)
			}
			for _, must := range c.want {
				if !strings.Contains(said, m.fill(must)) {
					t.Errorf("expected %q in\n%s", m.fill(must), said)
				}
			}
		})
	}
}
