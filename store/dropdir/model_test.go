package dropdir

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

// modelFile is a file of the model's directory and what an observer of it remembers.
type modelFile struct {
	there bool
	content
	past []content // what the file ever was

	shown    map[string]bool // all bytes that the catalog ever offered under this name
	lookedAt disk.Stamp      // at the last look
	looked   bool
	looks    []glance // since the file was last absent, oldest first
}

// content is one state of a file.
type content struct {
	stamp disk.Stamp
	bytes string
}

// glance is one look at a file.
type glance struct {
	at    time.Time
	stamp disk.Stamp
}

// model is a directory that anything may happen to, beside the state that watches it.
type model struct {
	s      *state
	d      *Dir
	now    time.Time
	inode  uint64
	unique int64
	files  map[update.Name]*modelFile
}

func (m *model) file(t *rapid.T) *modelFile {
	v := rapid.IntRange(1, 3).Draw(t, "version")
	n, err := update.ParseName(fmt.Sprintf("opq-box-update-%d.tar.gz", v))
	if err != nil {
		t.Fatal(err)
	}
	if m.files[n] == nil {
		m.files[n] = &modelFile{shown: map[string]bool{}}
	}
	return m.files[n]
}

func (m *model) modified(t *rapid.T) int64 {
	ago := rapid.SampledFrom([]time.Duration{0, time.Second, 5 * time.Second, -time.Hour}).Draw(t, "modified before")
	m.unique++ // what is never hashed can be told apart by size and time only
	return m.now.Add(-ago).UnixNano() + m.unique
}

// put gives a file other bytes; the change time tells every change.
func (m *model) put(t *rapid.T, f *modelFile, inode uint64) {
	bytes := rapid.SampledFrom([]string{"", "a", "b", "cc", "dd", "eee"}).Draw(t, "bytes")
	f.there = true
	f.content = content{disk.Stamp{Inode: inode, Size: int64(len(bytes)), Modified: m.modified(t), Changed: m.tick()}, bytes}
	f.past = append(f.past, f.content)
}

func (m *model) tick() int64 {
	m.now = m.now.Add(time.Millisecond)
	return m.now.UnixNano()
}

func (m *model) Create(t *rapid.T) {
	m.inode++
	m.put(t, m.file(t), m.inode)
}

func (m *model) Rewrite(t *rapid.T) {
	if f := m.file(t); f.there {
		m.put(t, f, f.stamp.Inode)
	}
}

func (m *model) Touch(t *rapid.T) {
	if f := m.file(t); f.there {
		f.stamp.Modified, f.stamp.Changed = m.modified(t), m.tick()
	}
}

func (m *model) Chmod(t *rapid.T) {
	if f := m.file(t); f.there {
		f.stamp.Changed = m.tick()
	}
}

func (m *model) Remove(t *rapid.T) { m.file(t).there = false }

// Mount brings back a file exactly as it once was, as mounting another directory does.
func (m *model) Mount(t *rapid.T) {
	if f := m.file(t); len(f.past) > 0 {
		f.there, f.content = true, rapid.SampledFrom(f.past).Draw(t, "past")
	}
}

func (m *model) Pass(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * time.Millisecond)
}

// Hash reads one file as it is now.
func (m *model) Hash(*rapid.T) {
	task, ok := m.s.nextHash(m.now)
	if !ok {
		return
	}
	f := m.files[task.name]
	if !f.there || f.stamp != task.stamp {
		m.s.finish(task)
		return
	}
	var h update.Hasher
	h.Write([]byte(f.bytes))
	digest, blocks, _ := h.Result()
	m.s.hashed(task, digest, blocks, nil, m.now)
}

// Observe lists the directory and compares the catalog with what the looks so far say.
func (m *model) Observe(t *rapid.T) {
	var l listing
	for n, f := range m.files {
		f.looked = f.there
		if !f.there {
			f.looks = nil
			continue
		}
		f.lookedAt = f.stamp
		f.looks = append(f.looks, glance{m.now, f.stamp})
		l.files = append(l.files, sighting{name: n, stamp: f.stamp})
	}
	m.s.observe(l, m.now)
	c, err := m.s.catalog()
	if err != nil {
		t.Fatal(err)
	}
	for n, f := range m.files {
		_, listed := c.Lookup(n)
		if want := f.looked && f.counts(); listed != want {
			t.Fatalf("%v listed %v, want %v; looks %+v", n, listed, want, f.looks)
		}
		if listed {
			f.shown[f.bytes] = true
		}
	}
}

// counts says from the looks alone whether a file was still.
func (f *modelFile) counts() bool {
	const still = 2 * time.Second
	counted := false
	since, changing := f.looks[0].at, false
	for i, k := range f.looks {
		if i > 0 && !k.stamp.SameBytes(f.looks[i-1].stamp) {
			since, changing, counted = k.at, k.stamp.Inode == f.looks[i-1].stamp.Inode, false
		}
		age := k.at.Sub(time.Unix(0, k.stamp.Modified))
		counted = k.stamp.Size > 0 && (counted || k.at.Sub(since) >= still || !changing && age >= still)
	}
	return counted
}

// Check holds what must be true at every time.
func (m *model) Check(t *rapid.T) {
	c, err := m.s.catalog()
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range c.Updates() {
		f := m.files[u.Name]
		if u.Length != f.lookedAt.Size {
			t.Fatalf("%v has length %d, want %d", u.Name, u.Length, f.lookedAt.Size)
		}
		if f.there && f.stamp == f.lookedAt && !u.Digest.IsZero() && u.Digest != update.Sum([]byte(f.bytes)) {
			t.Fatalf("%v has the digest of other bytes", u.Name)
		}
	}
	for n, f := range m.files {
		e := m.s.entries[n]
		if len(f.shown) > 1 && f.looked && !m.d.Replaced(n) {
			t.Fatalf("%v stood for %d contents and is not replaced", n, len(f.shown))
		}
		if e != nil && e.replaced && len(f.shown) == 0 {
			t.Fatalf("%v is replaced and was never shown", n)
		}
	}
	if back, err := parseCache(encodeCache(m.s.entries)); err != nil {
		t.Fatalf("cache of this state: %v", err)
	} else if len(back) > len(m.s.entries) {
		t.Fatalf("%d names in the cache of %d", len(back), len(m.s.entries))
	}
}

// TestModel lets files be made, changed and removed at random between looks and hashes.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newState(Config{Product: update.DefaultProduct, Still: 2 * time.Second})
		m := &model{s: s, d: &Dir{state: s}, now: start, files: map[update.Name]*modelFile{}}
		t.Repeat(rapid.StateMachineActions(m))
	})
}
