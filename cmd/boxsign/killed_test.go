package main

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	sshagent "golang.org/x/crypto/ssh/agent"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// killSteps are the system calls before which a command is killed by strace, each at its first, second …
// time.
var killSteps = []string{"fsync", "/^rename", "/^link", "/^unlink", "/^mkdir", "ftruncate", "flock"}

// TestKilledAnywhere kills boxsign add at every step on the disk: the repository is the old or the new
// one, whole, and running it again finishes.
func TestKilledAnywhere(t *testing.T) {
	needStrace(t)
	w := newKillWorld(t)
	for _, step := range killSteps {
		t.Run(strings.Trim(step, "/^"), func(t *testing.T) {
			kills, finished := 0, 0
			for n := 1; ; n++ {
				dir := w.fresh(t)
				killed := w.add(t, dir, step, n)
				if !killed {
					break
				}
				kills++
				if w.check(t, dir, fmt.Sprintf("killed before %s %d", step, n)) == 2 {
					finished++
				}
				if w.add(t, dir, "", 0) || w.check(t, dir, "run again") != 2 {
					t.Errorf("killed before %s %d: running it again didn't finish", step, n)
				}
			}
			t.Logf("killed %d times, %d of them after the new repository was there", kills, finished)
			if kills == 0 {
				t.Error("the step never came: expected it to be killed there")
			}
		})
	}
}

// TestInitKilledAnywhere kills boxsign init at every step on the disk: running it again makes the
// repository, unless it is there already, whole.
func TestInitKilledAnywhere(t *testing.T) {
	needStrace(t)
	w := newKillWorld(t)
	const start = "init --keys K2 --repo R2 --yes --root-key K/root.pem --release-key K/release.pem"
	const verify = "verify-repo --root R2/metadata/1.root.json R2"
	for _, step := range killSteps[:2] {
		t.Run(strings.Trim(step, "/^"), func(t *testing.T) {
			for n := 1; ; n++ {
				dir := w.fresh(t)
				if !w.strace(t, dir, step, n, strings.Fields(start)...) {
					if n == 1 {
						t.Error("the step never came: expected it to be killed there")
					}
					return
				}
				if _, err := w.run(t, dir, verify); err != nil {
					w.must(t, dir, start)
				}
				w.must(t, dir, "add --keys K2 --repo R2 --root R2/metadata/1.root.json --release-key K/release.pem --yes p-1.tar.gz")
				w.must(t, dir, verify)
			}
		})
	}
}

// commandKill is a command that is killed before each change that it makes on the disk, and then run again.
type commandKill struct {
	before []string // commands that make the world in which it runs
	args   string
	keys   string // its directory of keys, "" for K
	repo   string // "" for R

	// done reports whether the repository is as the command leaves it.
	done func(w *killWorld, r *trust.Repository) bool

	// refused is what it says where it was at its end already, and does not run twice.
	refused string
}

// commandKills has no add and publish, which TestKilledAnywhere kills, and of the commands that change a list in
// the same way one.
var commandKills = map[string]commandKill{
	"init": {
		args: "init --keys N --repo N2 --yes", keys: "N", repo: "N2", refused: "has a repository already",
		done: func(_ *killWorld, r *trust.Repository) bool { return r.Version(trust.RoleRoot) == 1 },
	},
	"keygen":   {args: "keygen --keys N online", keys: "N", refused: "a key is never overwritten"},
	"hold":     {args: "add --yes --hold p-2.tar.gz", done: lists(1)},
	"withdraw": {args: "withdraw --yes p-1.tar.gz", done: lists(0)},
	"pause": {before: []string{"add --yes --rollout 5%,24h:50% p-2.tar.gz"}, args: "rollout pause --yes p-2.tar.gz", done: func(_ *killWorld, r *trust.Repository) bool {
		return slices.ContainsFunc(r.Releases(), func(r trust.Release) bool {
			c := r.Conditions()
			return c.Rollout != nil && c.Rollout.Paused
		})
	}},
	"renew": {args: "renew --yes", done: lists(1)},
	"abort": {before: []string{"add --yes --hold p-2.tar.gz"}, args: "abort --yes", done: lists(1), refused: "nothing waits"},
	"cosign": {
		before: []string{"root add-key release B/release.pub --yes", "add --yes --hold p-2.tar.gz"},
		args:   "cosign --keys B --root pinned --yes", keys: "B", done: lists(2),
	},
	"root sign": {
		before: []string{"root add-key root B/root.pub --yes", "root threshold root 2 --yes"},
		args:   "root sign --keys B --root pinned --yes", keys: "B",
		done: func(_ *killWorld, r *trust.Repository) bool { return r.Root().Threshold(trust.RoleRoot) == 2 },
	},
	"root renew":      {args: "root renew --yes", done: func(_ *killWorld, r *trust.Repository) bool { return r.Root().Version() >= 2 }},
	"root add-key":    {args: "root add-key root B/root.pub --yes", done: holders(trust.RoleRoot, 2)},
	"root remove-key": {before: []string{"root add-key root B/root.pub --yes"}, args: "root remove-key root B/root.pub --yes", done: holders(trust.RoleRoot, 1)},
	"root threshold": {
		before: []string{"root add-key root B/root.pub --yes"}, args: "root threshold root 2 --yes --root-key K/root.pem --root-key B/root.pem",
		done: func(_ *killWorld, r *trust.Repository) bool { return r.Root().Threshold(trust.RoleRoot) == 2 },
	},
	"rotate online":  {args: "rotate online --yes", done: rotated(trust.RoleSnapshot)},
	"rotate release": {args: "rotate release --yes --agent AGENT", done: rotated(trust.RoleTargets)},
}

func lists(n int) func(*killWorld, *trust.Repository) bool {
	return func(_ *killWorld, r *trust.Repository) bool { return len(r.Releases()) == n }
}

func holders(role trust.Role, n int) func(*killWorld, *trust.Repository) bool {
	return func(_ *killWorld, r *trust.Repository) bool { return len(r.Root().Keys(role)) == n }
}

// rotated expects that one key has the role, and that it is another than at first.
func rotated(role trust.Role) func(*killWorld, *trust.Repository) bool {
	return func(w *killWorld, r *trust.Repository) bool {
		now := r.Root().Keys(role)
		return len(now) == 1 && !slices.Contains(w.first.Root().Keys(role), now[0])
	}
}

// TestKilledAtEachChange kills each command that changes something before each change of the disk, and runs
// it again: it comes to its end, the repository verifies, the keys fit, and no key is lost.
func TestKilledAtEachChange(t *testing.T) {
	if testing.Short() {
		t.Skip("runs boxsign some hundred times")
	}
	w := newKillWorld(t)
	for name, c := range commandKills {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := w.with(t, c.before)
			n := 1
			for ; ; n++ {
				dir := w.fresh(t)
				when := fmt.Sprintf("killed before change %d", n)
				if out, err := w.runAt(t, dir, c.args, n); err == nil {
					w.intact(t, dir, c, "not killed")
					break
				} else if !killed(err) {
					t.Fatalf("%s: %v\n%s", when, err, out)
				}
				if out, err := w.runAt(t, dir, c.args, 0); err != nil && (c.refused == "" || !strings.Contains(out, c.refused)) {
					t.Errorf("%s, and run again: %v\n%s", when, err, out)
					continue
				}
				w.intact(t, dir, c, when)
			}
			if n < 3 {
				t.Errorf("killed %d times: expected more changes", n-1)
			}
		})
	}
}

// intact checks what a command leaves that came to its end.
func (w *killWorld) intact(t *testing.T, dir string, c commandKill, when string) {
	t.Helper()
	repo, ring := cmp.Or(c.repo, "R"), cmp.Or(c.keys, "K")
	if c.done != nil {
		state, err := trust.Open(trust.Config{Dir: filepath.Join(dir, repo, "metadata"), DeferRoots: true})
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		r, err := state.Current()
		if err != nil || !c.done(w, r) {
			t.Errorf("%s: the command did not do its work: %v", when, err)
		}
		if kept, err := trust.Open(trust.Config{Dir: filepath.Join(dir, ring, "trusted"), DeferRoots: true}); err != nil {
			t.Errorf("%s: %v", when, err)
		} else if last, err := kept.Current(); err != nil || last.Version(trust.RoleTimestamp) != r.Version(trust.RoleTimestamp) {
			t.Errorf("%s: the keys don't remember what they published: %v", when, err)
		}
		for _, rel := range r.Releases() {
			digest := rel.Digest().String()
			if _, err := os.Stat(filepath.Join(dir, repo, "sha256", digest[:2], digest)); err != nil {
				t.Errorf("%s: an archive that is listed: %v", when, err)
			}
		}
		if ring != "B" {
			w.signs(t, filepath.Join(dir, ring), r, when)
		}
	}
	w.fits(t, filepath.Join(dir, ring), when)
	now := slices.Collect(maps.Values(w.private(t, dir)))
	for path, key := range w.private(t, w.base) {
		if !slices.Contains(now, key) {
			t.Errorf("%s: the key of %s is lost", when, path)
		}
	}
	w.tidy(t, dir, ring, c.args, when)
}

// tidy expects that nothing half written is left.
func (w *killWorld) tidy(t *testing.T, dir, ring, args, when string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && (strings.HasPrefix(e.Name(), disk.TempPrefix) || path == filepath.Join(dir, ring, "signed.targets.json") && !strings.Contains(args, "--hold")) {
			t.Errorf("%s: %s is left", when, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fits expects that each private key has its public key beside it.
func (w *killWorld) fits(t *testing.T, dir, when string) {
	t.Helper()
	for _, role := range keyRoles {
		for _, base := range []string{role, role + ".next"} {
			name := privateKey(t, dir, base)
			if name == "" {
				continue
			}
			key, err := secret.Loader{AgentSocket: w.socket}.Load(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if public, err := publicKey(dir, base); err != nil || public != key.Public() {
				t.Errorf("%s: %s is %v, and the public file has %v, %v", when, name, key, public, err)
			}
		}
	}
}

// signs expects a private key for each role, in its place, that the repository lets sign.
func (w *killWorld) signs(t *testing.T, dir string, r *trust.Repository, when string) {
	t.Helper()
	for i, role := range []trust.Role{trust.RoleRoot, trust.RoleTargets, trust.RoleSnapshot} {
		base := keyRoles[i]
		if privateKey(t, dir, base) == "" {
			t.Errorf("%s: no %s key", when, base)
		}
		if public, err := publicKey(dir, base); err != nil || !slices.Contains(r.Root().Keys(role), public) {
			t.Errorf("%s: %v does not sign for %s, %v", when, public, base, err)
		}
		if waits := privateKey(t, dir, base+".next"); waits != "" {
			t.Errorf("%s: the next %s key has not got its place: %s", when, base, waits)
		}
	}
}

// keyRoles are the names of keys in a directory of keys.
var keyRoles = []string{"root", "release", "online"}

// privateKey returns the file, or the name in the ssh-agent, of the private key with that base name, "" where there is none.
func privateKey(t *testing.T, dir, base string) string {
	t.Helper()
	path := filepath.Join(dir, base+".pem")
	if _, err := os.Lstat(path); err == nil {
		return path
	}
	name, err := os.ReadFile(filepath.Join(dir, base+".agent"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(name), "\n")
}

// publicKey returns the public key with that base name.
func publicKey(dir, base string) (keys.Public, error) {
	raw, err := os.ReadFile(filepath.Join(dir, base+".pub"))
	if err != nil {
		return keys.Public{}, err
	}
	return keys.ParsePEM(raw)
}

// private returns the public keys of the private key files below a directory.
func (w *killWorld) private(t *testing.T, dir string) map[string]keys.Public {
	t.Helper()
	out := map[string]keys.Public{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".pem") {
			return err
		}
		key, err := secret.Loader{}.Load(t.Context(), path)
		if err == nil {
			out[path] = key.Public()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRotateAfterEarlierKills goes on with a rotation whose last renames were cut in the order that boxsign
// had once: it moved the public file first.
func TestRotateAfterEarlierKills(t *testing.T) {
	w := newKillWorld(t).beforeSettling(t)
	old, fresh := filepath.Join("K", "online"), filepath.Join("K", "online.next")
	for name, moves := range map[string][][2]string{
		"the old public file moved":          {{old + ".pub", "AWAY.pub"}},
		"the new public file moved":          {{old + ".pub", "AWAY.pub"}, {old + ".pem", "AWAY.pem"}, {fresh + ".pub", old + ".pub"}},
		"and it was run again after the old": {{old + ".pub", "AWAY.pub"}, {fresh + ".pub", old + ".pub"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := w.fresh(t)
			public, err := publicKey(dir, old)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range moves {
				to := strings.Replace(m[1], "AWAY", old+"."+public.Fingerprint(), 1)
				if err := os.Rename(filepath.Join(dir, m[0]), filepath.Join(dir, to)); err != nil {
					t.Fatal(err)
				}
			}
			c := commandKills["rotate online"]
			if out, err := w.runAt(t, dir, c.args, 0); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			w.intact(t, dir, c, name)
			away, err := (secret.Loader{}).Load(t.Context(), filepath.Join(dir, old+"."+public.Fingerprint()+".pem"))
			if err != nil || away.Public() != public {
				t.Errorf("the old key: got %v, %v", away, err)
			}
		})
	}
}

// beforeSettling returns a world in which the online key is replaced in the repository, and not yet in the
// directory of keys.
func (w *killWorld) beforeSettling(t *testing.T) *killWorld {
	t.Helper()
	out := w.with(t, []string{commandKills["rotate online"].args})
	old := "online." + w.first.Root().Keys(trust.RoleSnapshot)[0].Fingerprint()
	for _, suffix := range []string{".pem", ".pub"} {
		for _, m := range [][2]string{{"online", "online.next"}, {old, "online"}} {
			if err := os.Rename(filepath.Join(out.base, "K", m[0]+suffix), filepath.Join(out.base, "K", m[1]+suffix)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

func needStrace(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs boxsign some hundred times")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		testworld.NotTested(t, "kill -9 at every step", err)
	}
}

// killWorld is a repository of one update, another update to add to it, and the keys of a second signer.
type killWorld struct {
	boxsign, program string // as it is built for users, and for tests
	base             string
	socket, agent    string // of an ssh-agent, and what boxsign calls the key that is in it
	first            *trust.Repository
}

func newKillWorld(t *testing.T) *killWorld {
	t.Helper()
	boxsign, err := exec.LookPath("boxsign")
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("boxsign-at")
	if err != nil {
		t.Fatal(err)
	}
	w := &killWorld{boxsign: boxsign, program: program, base: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(w.base, "DIR"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.base, "DIR", "install_update.sh"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Keys have no passphrase here: to derive a key from one takes longer than all else.
	for _, key := range []string{"K/root", "K/release", "K/online", "B/root", "B/release", "N/root", "N/release"} {
		if err := writeBareKey(filepath.Join(w.base, filepath.Dir(key)), filepath.Base(key)); err != nil {
			t.Fatal(err)
		}
	}
	for _, suffix := range []string{".pem", ".pub"} {
		if err := os.Link(filepath.Join(w.base, "K", "online"+suffix), filepath.Join(w.base, "B", "online"+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range []string{
		"build DIR -o p-1.tar.gz", "build DIR -o p-2.tar.gz", "init --keys K --repo R --yes", "add --keys K --repo R --yes p-1.tar.gz",
	} {
		w.must(t, w.base, args)
	}
	root, err := os.ReadFile(filepath.Join(w.base, "R", "metadata", "1.root.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.base, "pinned"), root, 0o644); err != nil {
		t.Fatal(err)
	}
	state, err := trust.Open(trust.Config{Dir: filepath.Join(w.base, "R", "metadata"), DeferRoots: true})
	if err != nil {
		t.Fatal(err)
	}
	if w.first, err = state.Current(); err != nil {
		t.Fatal(err)
	}
	w.serveAgent(t)
	return w
}

// serveAgent serves an ssh-agent with one key until the test ends.
func (w *killWorld) serveAgent(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ring := sshagent.NewKeyring()
	if err := ring.Add(sshagent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	key, err := keys.New(public)
	if err != nil {
		t.Fatal(err)
	}
	w.agent, w.socket = secret.AgentName(key), filepath.Join(dir, "s")
	l, err := net.Listen("unix", w.socket)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			served.Go(func() {
				defer conn.Close()                  // the program is gone
				_ = sshagent.ServeAgent(ring, conn) // ends with the program
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		served.Wait()
		os.RemoveAll(dir)
	})
}

// with returns a world in which those commands were run.
func (w *killWorld) with(t *testing.T, commands []string) *killWorld {
	t.Helper()
	if len(commands) == 0 {
		return w
	}
	out := *w
	out.base = w.fresh(t)
	for _, args := range commands {
		if said, err := w.runAt(t, out.base, args, 0); err != nil {
			t.Fatalf("boxsign %s: %v\n%s", args, err, said)
		}
	}
	return &out
}

func (w *killWorld) run(t *testing.T, dir, args string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), w.boxsign, strings.Fields(args)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// runAt runs boxsign on the keys K and the repository R, unless args name others, and kills it before its
// nth change of the disk; 0: never.
func (w *killWorld) runAt(t *testing.T, dir, args string, n int) (string, error) {
	t.Helper()
	list := strings.Fields(strings.ReplaceAll(args, "AGENT", w.agent))
	for _, flag := range [][2]string{{"--keys", "K"}, {"--repo", "R"}} {
		if !slices.Contains(list, flag[0]) && list[0] != "keygen" {
			list = append(list, flag[:]...)
		}
	}
	cmd := exec.CommandContext(t.Context(), w.program, list...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TEST_KILL="+strconv.Itoa(n), "SSH_AUTH_SOCK="+w.socket)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// killed reports whether a program ended by SIGKILL.
func killed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

func (w *killWorld) must(t *testing.T, dir, args string) {
	t.Helper()
	if out, err := w.run(t, dir, args); err != nil {
		t.Fatalf("boxsign %s: %v\n%s", args, err, out)
	}
}

// fresh copies the world, so that each kill meets the same.
func (w *killWorld) fresh(t *testing.T) string { return linked(t, w.base, nil) }

// linked links the files of a world into a directory of its own, but for those that are replaced, which get that content.
func linked(t *testing.T, base string, replaced map[string][]byte) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "w")
	err := filepath.WalkDir(base, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(base, path) // it begins with it
		to := filepath.Join(dir, name)
		data, other := replaced[name]
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return os.Mkdir(to, 0o755)
		case other:
			return os.WriteFile(to, data, 0o600)
		case e.Name() == "lock":
			return nil // the one file that is written to where it lies
		}
		return os.Link(path, to)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// add adds the second update and reports whether it was killed; step and n are as for strace.
func (w *killWorld) add(t *testing.T, dir, step string, n int) bool {
	t.Helper()
	return w.strace(t, dir, step, n, "add", "--keys", "K", "--repo", "R", "--yes", "p-2.tar.gz")
}

// strace runs boxsign and reports whether it was killed, before the nth time that one of its threads
// comes to a step; "" lets it run.
func (w *killWorld) strace(t *testing.T, dir, step string, n int, args ...string) bool {
	t.Helper()
	args = append([]string{w.boxsign}, args...)
	if step != "" {
		args = append([]string{"strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace=" + step, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", step, n)}, args...)
	}
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil && !killed(err) { // strace ends as its child does
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return err != nil
}

// check verifies the repository and returns how many updates it lists.
func (w *killWorld) check(t *testing.T, dir, when string) int {
	t.Helper()
	out, err := w.run(t, dir, "verify-repo --root "+filepath.Join(w.base, "R/metadata/1.root.json")+" R")
	for updates := 1; updates <= 2; updates++ {
		if err == nil && strings.Contains(out, fmt.Sprintf("updates: %d\narchives verified: %[1]d\n", updates)) {
			return updates
		}
	}
	t.Errorf("%s: expected the old or the new repository, got %v\n%s", when, err, out)
	return 0
}
