package trust_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// TestDamagedBits turns bits, in many places, of every file that a state has, one after another: of an origin, which nobody can fetch
// anything from again for, of a mirror, which has a pinned root, and of a directory that was written before files had
// copies. What Open returns is right, or names the file; on an origin's or a mirror's directory of today it is
// right, and after RewriteDamaged every byte is as it was.
func TestDamagedBits(t *testing.T) {
	testworld.Unraced(t)
	w := newWorld(t)
	w.add(one)
	w.newRoot(w.roots, nil)
	w.add(two)
	sum := 0
	for _, c := range []struct {
		name   string
		pinned []byte
		copies bool
	}{
		{"origin", nil, true},
		{"mirror", w.repo.Root().Raw(), true},
		{"mirror of before", w.repo.Root().Raw(), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "R")
			if err := os.CopyFS(dir, os.DirFS(w.dir.Path)); err != nil {
				t.Fatal(err)
			}
			if c.pinned != nil {
				c.pinned = read(t, filepath.Join(dir, "metadata", "1.root.json"))
			}
			d := directory{Path: dir}
			files, err := filepath.Glob(filepath.Join(dir, "metadata", "*"))
			if err != nil || len(files) < 14 {
				t.Fatal(files, err)
			}
			if !c.copies {
				files = slices.DeleteFunc(files, func(f string) bool {
					return filepath.Ext(f) == ".copy" && os.Remove(f) == nil
				})
			}
			for _, path := range files {
				sum += damageBits(t, d, c.pinned, path, c.copies, w)
			}
		})
	}
	t.Logf("%d bits", sum)
}

func damageBits(t *testing.T, d directory, pinned []byte, path string, copies bool, w *world) (n int) {
	good := read(t, path)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at := range good {
		step := 62
		if strings.HasPrefix(filepath.Base(path), trust.LedgerName) {
			step = 5
		}
		if at%step != 0 && at != len(good)-1 {
			continue // signatures are checked for each, which takes its time
		}
		bit := byte(1) << (at % 8)
		if _, err := f.WriteAt([]byte{good[at] ^ bit}, int64(at)); err != nil {
			t.Fatal(err)
		}
		n++
		where := fmt.Sprintf("%s, byte %d", filepath.Base(path), at)
		s, err := trust.Open(config(d, pinned))
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		r, err := s.Current()
		if copies && err != nil || err == nil && !slices.Equal(listed(r), listed(w.repo)) {
			t.Fatalf("%s: %v", where, err)
		}
		for _, u := range w.repo.Releases() {
			if got, _ := s.Ledger().Digest(u.Name()); got != u.Digest() && err == nil {
				t.Fatalf("%s: %v has digest %v", where, u.Name(), got)
			}
		}
		if superseded := strings.HasPrefix(where, "2.targets") || strings.HasPrefix(where, "3.snapshot"); copies && at%62 == 0 && !superseded {
			if err := s.RewriteDamaged(); err != nil {
				t.Fatal(err)
			}
			if got := read(t, path); string(got) != string(good) {
				t.Fatalf("%s: after mending it is %q", where, got)
			}
			f.Close()
			if f, err = os.OpenFile(path, os.O_WRONLY, fs.ModePerm); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.WriteAt(good[at:at+1], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestDamagedLedger: what tells of it asks nobody to build an update again.
func TestDamagedLedger(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	path := filepath.Join(w.dir.Path, "metadata", trust.LedgerName)
	raw := read(t, path)
	raw[0] ^= 1 // a digit of a digest
	if err := errors.Join(os.WriteFile(path, raw, 0o644), os.Remove(path+".copy")); err != nil {
		t.Fatal(err)
	}
	s, err := trust.Open(config(w.dir, nil))
	if err != nil {
		t.Fatal(err)
	}
	if d := fmt.Sprint(s.Damage()); !strings.Contains(d, path) || strings.Contains(d, "build") || !strings.Contains(d, "expected digest") {
		t.Errorf("expected the name and both digests, got %s", d)
	}
}

// TestLedgerOfAnOlderProgram: an older program went on with the ledger and left the copy as it was. That is no damage, and no
// name is forgotten, though the list has it no more.
func TestLedgerOfAnOlderProgram(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b := newBox(t, w.repo.Root())
	b.must(w.dir, w.clock())
	ledger := filepath.Join(b.cfg.Dir, trust.LedgerName)
	before := read(t, ledger+".copy")
	w.list("of the older program", w.releases...)
	b.must(w.dir, w.clock())
	w.takeBack(w.releases...)
	b.must(w.dir, w.clock())
	grown := read(t, ledger)
	if err := os.WriteFile(ledger+".copy", before, 0o644); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	if got := b.state.Ledger().Bytes(); string(got) != string(grown) || len(b.state.Damage()) != 0 {
		t.Errorf("expected\n%s and no damage, got\n%s and %v", grown, got, b.state.Damage())
	}
	w.publish(trust.Change{})
	b.must(w.dir, w.clock())
	if got := read(t, ledger+".copy"); !strings.HasSuffix(string(got), "\n"+string(grown)) {
		t.Errorf("expected the copy to follow, got\n%s", got)
	}
}
