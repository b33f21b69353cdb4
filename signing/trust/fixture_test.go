package trust_test

import (
	"errors"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

var writeFixture = flag.Bool("write-fixture", false, "write testdata/before.txtar again")

// fixture holds the directories at the end of the story as an earlier version of this package wrote them: those of
// an origin, of a box and of a mirror that have the newest timestamp and not the list that it leads to.
const fixture = "testdata/before.txtar"

// chapters are the kinds of change that a repository goes through.
func chapters() []chapter {
	return []chapter{
		{"an update that two of three sign", func(w *world) {
			p, err := w.propose(w.releases[:1], one).Cosign(w.t.Context(), w.releases[2])
			if err != nil {
				w.t.Fatal(err)
			}
			w.publish(trust.Change{Targets: p})
		}},
		{"an update with conditions", func(w *world) {
			e := w.edit()
			a := addition(w.t, two, content(two))
			a.Conditions = trust.Conditions{
				Rollout:    &trust.Rollout{Steps: []trust.Step{{Percent: 5}, {After: hours24, Percent: 100}}, Paused: true, PausedAt: time.Hour},
				Hardware:   []string{`Raspberry Pi "Zero" \ W <&>`, "x86"},
				MinVersion: name(w.t, one).Version(),
			}
			if err := e.Add(a); err != nil {
				w.t.Fatal(err)
			}
			w.publish(trust.Change{Targets: w.sign(e, w.releases...)})
		}},
		{"renewal of the timestamp", func(w *world) {
			w.at = w.at.Add(4 * hours24)
			w.publish(trust.Change{})
		}},
		{"renewal of the snapshot", func(w *world) {
			w.at = w.at.Add(16 * hours24)
			w.publish(trust.Change{})
		}},
		{"renewal of the root", func(w *world) { w.newRoot(w.roots[1:], nil) }},
		{"a root key replaced", func(w *world) {
			old, fresh := w.roots[0], testworld.NewSigner("root 3")
			w.newRoot(append(w.roots, fresh), func(e *trust.RootEdit) error {
				return errors.Join(e.AddKey(trust.RoleRoot, fresh.Public()), e.RemoveKey(trust.RoleRoot, old.Public().ID()))
			})
			w.roots = append(w.roots[1:], fresh)
		}},
		{"the online key replaced", func(w *world) { w.newOnline("online 2") }},
		{"release keys added", func(w *world) {
			w.newRoot(w.roots, func(e *trust.RootEdit) error {
				return errors.Join(e.AddKey(trust.RoleTargets, testworld.NewSigner("release 3").Public()), e.AddKey(trust.RoleTargets, testworld.NewSigner("release 4").Public()))
			})
			w.releases = append(w.releases, testworld.NewSigner("release 3"), testworld.NewSigner("release 4"))
		}},
		{"an update by the new release keys", func(w *world) { w.publish(trust.Change{Targets: w.propose(w.releases[2:], three)}) }},
		{"old release keys removed", func(w *world) {
			w.newRoot(w.roots, func(e *trust.RootEdit) error {
				return errors.Join(e.RemoveKey(trust.RoleTargets, w.releases[0].Public().ID()), e.RemoveKey(trust.RoleTargets, w.releases[1].Public().ID()))
			})
			w.releases = w.releases[2:]
		}},
		{"thresholds changed", func(w *world) {
			w.newRoot(w.roots, func(e *trust.RootEdit) error {
				return errors.Join(e.SetThreshold(trust.RoleRoot, 3), e.SetThreshold(trust.RoleTargets, 1))
			})
		}},
		{"an update withdrawn", func(w *world) {
			e := w.edit()
			if err := e.Withdraw(name(w.t, one)); err != nil {
				w.t.Fatal(err)
			}
			w.publish(trust.Change{Targets: w.sign(e, w.releases[1])})
		}},
		{"an update whose conditions change", func(w *world) {
			e := w.edit()
			if err := e.Condition(name(w.t, two), trust.Conditions{Hardware: []string{"x86"}}); err != nil {
				w.t.Fatal(err)
			}
			w.publish(trust.Change{Targets: w.sign(e, w.releases[2])})
		}},
	}
}

// chapter is one change of a repository. Time goes on by an hour before each.
type chapter struct {
	name string
	run  func(*world)
}

// endOfStory runs all chapters. follow is called at the beginning and after each chapter.
func endOfStory(t testing.TB, follow func(w *world, chapter string)) *world {
	t.Helper()
	w := newWorldOf(t, 3, 2)
	follow(w, "a new repository")
	for _, c := range chapters() {
		w.at = w.at.Add(time.Hour)
		c.run(w)
		follow(w, c.name)
	}
	return w
}

// directories returns what an origin, a box and a mirror have at the end of the story. Box and mirror took the second
// update and then nothing until the end.
func directories(t testing.TB) map[string]string {
	t.Helper()
	var b, m *box
	w := endOfStory(t, func(w *world, chapter string) {
		if chapter == "an update with conditions" {
			b = newBox(t, w.repo.Root())
			b.must(w.dir, w.clock())
			m, _ = newMirror(t, w)
		}
	})
	newest := trust.FileName(trust.RoleTargets, w.repo.Version(trust.RoleTargets))
	for _, r := range []*box{b, m} {
		_, err := r.look(without(copyOf(t, w.dir), newest), w.clock())
		wantErr(t, err, trust.ErrNotFound)
	}
	proposed, err := w.repo.EditTargets(w.state.Ledger(), 0, w.at)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.dir.savePending(w.sign(proposed, w.releases[0])), w.dir.savePending(w.proposeRoot(w.roots[:1], nil))); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"origin": w.dir.Path, "box": b.cfg.Dir, "mirror": m.cfg.Dir}
}

// archive returns the files of directories. Metadata has no newline at its end, and the archive has.
func archive(t testing.TB, dirs map[string]string) *txtar.Archive {
	t.Helper()
	a := &txtar.Archive{}
	for _, prefix := range slices.Sorted(maps.Keys(dirs)) {
		err := filepath.WalkDir(dirs[prefix], func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(dirs[prefix], path)
			a.Files = append(a.Files, txtar.File{Name: filepath.Join(prefix, rel), Data: []byte(strings.TrimSuffix(string(read(t, path)), "\n") + "\n")})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// unpack writes the fixture into a directory.
func unpack(t testing.TB) string {
	t.Helper()
	a, err := txtar.ParseFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	dir := testworld.TempDir(t)
	for _, f := range a.Files {
		path := filepath.Join(dir, f.Name)
		if strings.HasSuffix(strings.TrimSuffix(path, disk.CopyPath("")), ".json") {
			f.Data = f.Data[:len(f.Data)-1]
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, f.Data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestSameBytesAsBefore: this version writes what earlier ones wrote, byte for byte, so that they read it.
func TestSameBytesAsBefore(t *testing.T) {
	got := txtar.Format(archive(t, directories(t)))
	if *writeFixture {
		if err := errors.Join(os.MkdirAll(filepath.Dir(fixture), 0o755), os.WriteFile(fixture, got, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want := strings.Split(string(read(t, fixture)), "\n")
	for i, line := range strings.Split(string(got), "\n") {
		if i >= len(want) || line != want[i] {
			t.Fatalf("line %d: got\n%s\nwant\n%s", i+1, line, want[min(i, len(want)-1)])
		}
	}
}

// TestReadsDirectoriesOfBefore opens what an earlier version left and goes on from there.
func TestReadsDirectoriesOfBefore(t *testing.T) {
	dir := unpack(t)
	d := directory{Path: filepath.Join(dir, "origin")}
	state := reopened(t, d)
	r, err := state.Current()
	if err != nil || len(state.Damage()) > 0 {
		t.Fatalf("got %v, damage %v", err, state.Damage())
	}
	wantListed(t, r, two, three)
	if got, want := r.Versions(), (status.Versions{Root: 8, Targets: 6, Snapshot: 14, Timestamp: 15}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	at := r.Issued(trust.RoleTimestamp)
	if _, err := verify(d, read(t, filepath.Join(d.Path, "metadata", "1.root.json")), trust.Clock{Now: at}); err != nil {
		t.Error(err)
	}
	waiting, err := d.pending(r, state.Ledger(), at)
	if err != nil || len(waiting) != 2 || waiting[0].Role() != trust.RoleTargets || waiting[1].Role() != trust.RoleRoot {
		t.Fatalf("got %v, %v", waiting, err)
	}
	next, err := r.Next(t.Context(), at.Add(time.Hour), trust.Change{Targets: waiting[0]}, testworld.NewSigner("online 2"))
	if err == nil {
		err = state.Commit(next)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"box", "mirror"} {
		b := &box{t: t, cfg: trust.Config{Dir: filepath.Join(dir, who), DeferRoots: who == "mirror"}}
		b.cfg.Pinned = read(t, filepath.Join(b.cfg.Dir, "1.root.json"))
		b.reopen()
		if b.state.Root().Version() != 8 || len(b.state.Damage()) > 0 {
			t.Errorf("%s: got root %d, damage %v", who, b.state.Root().Version(), b.state.Damage())
		}
		if had, err := b.state.Current(); who == "mirror" && (err != nil || had.Version(trust.RoleRoot) != 1) {
			t.Errorf("%s: expected the set of root 1 to be served, got %v", who, err)
		}
		if d, ok := b.state.Ledger().Digest(name(t, one)); !ok || d != addition(t, one, content(one)).Digest {
			t.Errorf("%s: got digest %v, %v of an update that was withdrawn since", who, d, ok)
		}
		// The roots that came without a set count.
		old := copyOf(t, d)
		old.data[trust.TimestampName] = read(t, filepath.Join(b.cfg.Dir, "timestamp.json"))
		_, err := b.look(old, trust.Clock{Now: at})
		wantErr(t, err, trust.ErrThreshold)
		wantListed(t, b.must(d, trust.Clock{Now: at}), two, three)
	}
}
