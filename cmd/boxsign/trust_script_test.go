package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// tree describes everything below a directory, what a lock file says left out; "" where it is missing.
func tree(ts *testscript.TestScript, dir string) map[string]string {
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() == "lock" {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		what := info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += " " + update.Sum(data).String()
		}
		out[path] = what
		return nil
	})
	if !os.IsNotExist(err) {
		ts.Check(err)
	}
	return out
}

// snapshot remembers what directories hold, for unchanged.
func snapshot(ts *testscript.TestScript, _ bool, dirs []string) {
	for _, dir := range dirs {
		snapshots(ts)[dir] = tree(ts, ts.MkAbs(dir))
	}
}

func unchanged(ts *testscript.TestScript, _ bool, dirs []string) {
	for _, dir := range dirs {
		before, ok := snapshots(ts)[dir]
		if !ok {
			ts.Fatalf("%s: no snapshot was taken", dir)
		}
		after := tree(ts, ts.MkAbs(dir))
		if maps.Equal(before, after) {
			continue
		}
		var changes strings.Builder
		for path, was := range before {
			if after[path] != was {
				fmt.Fprintf(&changes, "%s: was %q, is %q\n", path, was, after[path])
			}
		}
		for path, is := range after {
			if before[path] == "" {
				fmt.Fprintf(&changes, "%s: new, %q\n", path, is)
			}
		}
		ts.Fatalf("%s changed:\n%s", dir, changes.String())
	}
}

type snapshotKey struct{}

func snapshots(ts *testscript.TestScript) map[string]map[string]string {
	return ts.Value(snapshotKey{}).(map[string]map[string]string)
}

func setupValues(e *testscript.Env) error {
	e.Setenv("ARCH", runtime.GOARCH)
	e.Values[lockKey{}] = new(*disk.Lock)
	e.Values[snapshotKey{}] = map[string]map[string]string{}
	return nil
}

// bareKeys makes keys without a passphrase, for scripts that are not about it: to derive a key from one
// takes longer than all else that a command does.
func bareKeys(ts *testscript.TestScript, _ bool, args []string) {
	for _, role := range args[1:] {
		ts.Check(writeBareKey(ts.MkAbs(args[0]), role))
	}
}

func writeBareKey(dir, role string) error {
	key, err := secret.Generate()
	if err != nil {
		return err
	}
	base := filepath.Join(dir, role)
	return errors.Join(os.MkdirAll(dir, 0o700), key.WriteUnencrypted(disk.FS{}, base+".pem"),
		os.WriteFile(base+".pub", key.Public().PEM(), 0o644))
}

// modes expects that only the owner can get at the private keys of a directory.
func modes(ts *testscript.TestScript, _ bool, args []string) {
	private, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "*.pem"))
	ts.Check(err)
	if len(private) == 0 {
		ts.Fatalf("no private key")
	}
	for _, path := range private {
		info, err := os.Stat(path)
		ts.Check(err)
		if info.Mode().Perm() != 0o600 {
			ts.Fatalf("%s: mode %v", path, info.Mode())
		}
	}
}

// held locks a file as another program does, until released.
func held(ts *testscript.TestScript, _ bool, args []string) {
	lock, err := disk.TryLock(ts.MkAbs(args[0]))
	ts.Check(err)
	*ts.Value(lockKey{}).(**disk.Lock) = lock
}

func released(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check((*ts.Value(lockKey{}).(**disk.Lock)).Unlock())
}

type lockKey struct{}

// large writes a file that does not compress.
func large(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(data)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o644))
}

func digestOf(ts *testscript.TestScript, file string) update.Digest {
	data, err := os.ReadFile(ts.MkAbs(file))
	ts.Check(err)
	return update.Sum(data)
}

// blobsOf removes the archive of a file from a repository.
func blobsOf(ts *testscript.TestScript, _ bool, args []string) {
	digest := digestOf(ts, args[0]).String()
	ts.Check(os.Remove(filepath.Join(ts.MkAbs(args[1]), "sha256", digest[:2], digest)))
}

// changeBlob flips a bit in the archive of a file, under all its names.
func changeBlob(ts *testscript.TestScript, _ bool, args []string) {
	digest := digestOf(ts, args[0]).String()
	f, err := os.OpenFile(filepath.Join(ts.MkAbs(args[1]), "sha256", digest[:2], digest), os.O_RDWR, 0)
	ts.Check(err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, 0)
	ts.Check(err)
	b[0] ^= 1
	_, err = f.WriteAt(b, 0)
	ts.Check(errors.Join(err, f.Close()))
}

// again makes R what GOOD is.
func again(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(os.RemoveAll(ts.MkAbs("R")))
	ts.Check(ts.Exec("cp", "-a", "GOOD", "R"))
}

// sigOf writes the detached signature of an update by a key, as a repository lists it.
func sigOf(ts *testscript.TestScript, _ bool, args []string) {
	state, err := trust.Open(trust.Config{Dir: filepath.Join(ts.MkAbs(args[0]), "metadata"), DeferRoots: true})
	ts.Check(err)
	repo, err := state.Current()
	ts.Check(err)
	name, err := update.ParseName(args[1])
	ts.Check(err)
	key, err := keys.ParsePEM([]byte(ts.ReadFile(args[2])))
	ts.Check(err)
	rel, _ := repo.Release(name)
	sig, ok := rel.Signature(key.ID())
	if !ok {
		ts.Fatalf("%v has no detached signature by %v", name, key)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), sig[:], 0o644))
}
