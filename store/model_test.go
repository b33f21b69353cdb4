package store

import (
	"context"
	"errors"
	"flag"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// machine drives a store and a model of it through the same story.
type machine struct {
	t *testing.T
	o *origin
	s *Store

	changed bool                    // what is served, since it was checked
	pending bool                    // a crash left a list of everything that isn't current
	list    []string                // what the current repository lists
	blobs   map[string]bool         // which archives are in place
	arrived map[string]map[int]bool // the blocks of those on their way
	now     time.Duration
}

func (m *machine) names() []string { return []string{small, other, large, empty} }

// rel returns the release of a name that the next list would have.
func (m *machine) rel(name string) trust.Release {
	repo := m.o.repo
	defer func() { m.o.repo = repo }()
	return release(m.t, m.o.lists(name), name)
}

func (m *machine) reopen(t *rapid.T) {
	m.changed = true
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
	m.open()
}

func (m *machine) open() {
	s, err := Open(context.Background(), m.o.config(m.s.Dir()))
	if err != nil {
		m.t.Fatal(err)
	}
	m.s = s
	later(s, m.now)
}

// write brings one block, and closes.
func (m *machine) write(t *rapid.T) {
	name := rapid.SampledFrom(m.names()).Draw(t, "name")
	_, blocks := sumsOf(name)
	in, err := m.s.Ingest(context.Background(), m.rel(name), blocks)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	for i := range blocks {
		if want := !m.blobs[name] && !m.arrived[name][i]; slices.Contains(in.Missing(), i) != want {
			t.Fatalf("%s: block %d missing is not %t", name, i, want)
		}
	}
	if len(blocks) > 0 {
		i := rapid.IntRange(0, len(blocks)-1).Draw(t, "block")
		if err := in.WriteBlock(i, blockOf(content(name), i)); err != nil {
			t.Fatal(err)
		}
		m.took(name, i)
	}
	whole := m.blobs[name] || len(m.arrived[name]) == len(blocks)
	err = in.Commit(context.Background())
	if whole && err != nil || !whole && !errors.Is(err, ErrIncomplete) {
		t.Fatalf("%s: whole: %t, %v", name, whole, err)
	}
	if whole {
		m.placed(name)
	}
}

func (m *machine) took(name string, i int) {
	if m.blobs[name] {
		return
	}
	if m.arrived[name] == nil {
		m.arrived[name] = map[int]bool{}
	}
	m.arrived[name][i] = true
}

func (m *machine) placed(name string) {
	m.blobs[name] = true
	delete(m.arrived, name)
}

func (m *machine) commit(t *rapid.T) {
	m.changed = true
	list := rapid.SliceOfNDistinct(rapid.SampledFrom(m.names()), 1, 4, rapid.ID).Draw(t, "list")
	repo := m.o.repo
	err := m.s.Commit(context.Background(), m.o.lists(list...))
	missing := slices.ContainsFunc(list, func(n string) bool { return !m.blobs[n] })
	if missing != errors.Is(err, ErrIncomplete) || !missing && err != nil {
		t.Fatalf("%v, incomplete: %t, %v", list, missing, err)
	}
	if missing {
		m.o.repo = repo
		return
	}
	m.list, m.pending = list, false
}

// crash publishes everything, and the machine stops at some step of that.
func (m *machine) crash(t *rapid.T) {
	m.changed = true
	next := m.o.lists(m.names()...)
	m.s.c.FS = crashAfter(rapid.IntRange(0, 60).Draw(t, "steps"), rapid.Bool().Draw(t, "half"), func(disk.Op, string) {})
	mustReload(m.t, m.s)
	published := publish(m.s, next)
	if err := errors.Join(published, m.s.Close()); err != nil && !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	m.open()
	if got := m.s.Repository(); sameRepository(got, next) {
		m.list, m.pending = m.names(), false
	} else {
		m.o.repo, m.pending = got, true
	}
	m.learn(next)
}

// learn takes over what may have arrived before a crash: the checks say whether that is right.
func (m *machine) learn(r *trust.Repository) {
	for _, rel := range r.Releases() {
		name := rel.Name().String()
		if m.s.Has(rel) {
			m.placed(name)
			continue
		}
		in := mustIngest(m.t, m.s, rel)
		for i := range update.BlockCount(rel.Length()) {
			if !slices.Contains(in.Missing(), i) {
				m.took(name, i)
			}
		}
		mustClose(m.t, in)
	}
}

func (m *machine) wait(t *rapid.T) {
	// Never just the grace period, or the life of a part.
	m.now += time.Duration(rapid.IntRange(1, 6).Draw(t, "steps")) * 5 * time.Hour
	later(m.s, m.now)
}

// gc knows what has to go: the kernel says when a file changed, so that all are as old as the clock was
// moved. A list that a crash may have left may name anything, until the next one replaces it.
func (m *machine) gc(t *rapid.T) {
	m.changed = true
	got, err := m.s.GC(context.Background(), GC{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range m.names() {
		may := m.blobs[n] && !slices.Contains(m.list, n) && m.now > 24*time.Hour
		is := slices.Contains(got.Digests, digestOf(n))
		if is != may && !(may && m.pending) {
			t.Fatalf("collected %s: %t, want %t", n, is, may)
		}
		if is {
			delete(m.blobs, n)
		}
	}
	if m.now > partLife {
		clear(m.arrived)
	}
}

func (m *machine) quarantine(t *rapid.T) {
	m.changed = true
	if len(m.list) == 0 {
		return
	}
	name := rapid.SampledFrom(m.list).Draw(t, "name")
	if name == empty {
		return
	}
	rel := release(m.t, m.s.Repository(), name)
	spoil(m.t, m.s.blobPath(rel.Digest()))
	problems, err := m.s.Check(context.Background(), Check{Hash: true, Quarantine: true})
	if err != nil || len(problems) != 1 {
		t.Fatalf("%v, %v", problems, err)
	}
	if err := ingest(m.s, rel); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) check(t *rapid.T) {
	if m.changed {
		m.o.check(m.s)
		m.changed = false
	}
	want := slices.Sorted(slices.Values(m.list))
	if got := slices.Sorted(slices.Values(testworld.Listed(m.s.Repository()))); !slices.Equal(got, want) {
		t.Fatalf("listed are %v, want %v", got, want)
	}
	for _, n := range m.names() {
		if got := exists(m.t, m.s.blobPath(digestOf(n))); got != m.blobs[n] {
			t.Fatalf("%s in place: %t, want %t", n, got, m.blobs[n])
		}
	}
}

// TestModel compares a store with a model of it after each of many random stories.
func TestModel(t *testing.T) {
	t.Parallel()
	// A story is thirty actions, each of them on a disk: a hundred stories are for -rapid.checks=100.
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		mustDo(t, checks.Value.Set("20"))
		t.Cleanup(func() { mustDo(t, checks.Value.Set(checks.DefValue)) })
	}
	rapid.Check(t, func(r *rapid.T) {
		o := newOrigin(t)
		dir := testworld.TempDir(t)
		s, err := Open(t.Context(), o.config(filepath.Join(dir, "R")))
		if err != nil {
			t.Fatal(err)
		}
		m := &machine{t: t, o: o, s: s, blobs: map[string]bool{}, arrived: map[string]map[int]bool{}}
		defer func() { mustClose(t, m.s) }()
		if err := publish(s, o.lists(small)); err != nil {
			t.Fatal(err)
		}
		m.placed(small)
		m.list = []string{small}
		r.Repeat(map[string]func(*rapid.T){
			"write": m.write, "commit": m.commit, "reopen": m.reopen, "crash": m.crash,
			"wait": m.wait, "gc": m.gc, "quarantine": m.quarantine, "": m.check,
		})
	})
}
