package mirror_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/export"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// export returns an export of the origin.
func (o *origin) export(since export.Since) []byte {
	o.t.Helper()
	var out bytes.Buffer
	_, err := export.Export{Store: o.s, Since: since}.Write(o.t.Context(), &out)
	must(o.t, err)
	return out.Bytes()
}

// newIsland returns a mirror that no upstream reaches.
func (o *origin) newIsland(change func(*store.Config)) *site {
	return o.newMirror(setup{upstreams: []string{"http://127.0.0.1:1"}, store: change})
}

func (s *site) read(r io.Reader) (mirror.Result, error) {
	s.o.t.Helper()
	result, err := export.Import{Store: s.s, Now: func() time.Time { return s.o.at }}.Read(s.o.t.Context(), r)
	s.whole()
	return result, err
}

func (s *site) mustRead(raw []byte) mirror.Result {
	s.o.t.Helper()
	result, err := s.read(bytes.NewReader(raw))
	must(s.o.t, err)
	return result
}

func (s *site) readFails(raw []byte, want error) {
	s.o.t.Helper()
	before := s.s.Repository()
	_, err := s.read(bytes.NewReader(raw))
	wantErr(s.o.t, err, want)
	if s.s.Repository() != before {
		s.o.t.Fatal("expected the old repository after an import that failed")
	}
}

// TestExportAndImport: a first copy, increments by version and by date, and nothing new.
func TestExportAndImport(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, big)
	island := o.newIsland(nil)
	if got := island.mustRead(o.export(export.Since{})); !got.Changed || got.Archives != 2 || got.Bytes != int64(len(content(one))+len(content(big))) {
		t.Errorf("expected a first copy, got %+v", got)
	}
	wantSame(t, o.s.Repository(), o.url, island.url)

	o.at = day.Add(time.Hour)
	o.newRoot()
	o.publish(two)
	byTime := o.export(export.Since{Time: o.at})
	if len(byTime) > 100_000 {
		t.Errorf("expected an increment without the old archives, got %d bytes", len(byTime))
	}
	if got := island.mustRead(byTime); got.Archives != 1 {
		t.Errorf("expected one archive, got %+v", got)
	}
	wantSame(t, o.s.Repository(), o.url, island.url)

	o.withdraw(one)
	o.publish("opq-box-update-10.tar.gz")
	byVersion := o.export(export.Since{Version: name(big).Version()})
	if len(byVersion) > 100_000 {
		t.Errorf("expected an increment without the old archives, got %d bytes", len(byVersion))
	}
	if got := island.mustRead(byVersion); got.Archives != 1 {
		t.Errorf("expected one archive, got %+v", got)
	}
	wantSame(t, o.s.Repository(), o.url, island.url)

	if got := island.mustRead(o.export(export.Since{})); got != (mirror.Result{}) {
		t.Errorf("expected nothing new, got %+v", got)
	}
	if f := island.Freshness(o.at); f.Own != f.Upstream && f.Upstream != (status.Versions{}) || !f.Synced {
		t.Errorf("expected a copy that is synced, got %+v", f)
	}
	f, _, err := mirror.ReadHealth(island.s, 0, o.at)
	must(t, err)
	if !f.Complete.Equal(o.at) || !f.Checked.Equal(o.at) || f.Upstream != f.Own || f.UpdatesBehind != 0 {
		t.Errorf("expected the import written down, got %+v", f)
	}
}

// TestExportThroughAPipe works front to back, and the writer ends well.
func TestExportThroughAPipe(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, big)
	island := o.newIsland(nil)
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	written := make(chan error, 1)
	go func() {
		_, err := export.Export{Store: o.s}.Write(context.Background(), w)
		written <- errors.Join(err, w.Close())
	}()
	_, err = island.read(r)
	must(t, errors.Join(err, <-written))
	wantSame(t, o.s.Repository(), o.url, island.url)
}

// TestExportIsTheSame for the same repository, made by a mirror and beside the process that writes.
func TestExportIsTheSame(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, two)
	m := o.newMirror(setup{})
	m.sync()
	reader, err := store.OpenReadOnly(t.Context(), store.Config{Dir: m.s.Dir(), Root: o.rootOne()})
	must(t, err)
	var out bytes.Buffer
	_, err = export.Export{Store: reader}.Write(t.Context(), &out)
	must(t, err)
	if !bytes.Equal(out.Bytes(), o.export(export.Since{})) {
		t.Error("expected the same bytes")
	}
}

// TestIncrementWithoutItsBase says what is missing, and keeps what came; the base completes it.
func TestIncrementWithoutItsBase(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, two)
	island := o.newIsland(nil)
	island.readFails(o.export(export.Since{Version: name(one).Version()}), store.ErrIncomplete)
	if got := island.mustRead(o.export(export.Since{})); got.Archives != 1 {
		t.Errorf("expected the one that was missing, got %+v", got)
	}
}

// TestImportKeepsWhatIsKept: archives that are not kept are skipped.
func TestImportKeepsWhatIsKept(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, two)
	island := o.newIsland(newestOnly)
	if got := island.mustRead(o.export(export.Since{})); got.Archives != 1 || island.has(one) || !island.has(two) {
		t.Errorf("expected the newest alone, got %+v", got)
	}
}

// TestImportFits: what does not fit is refused before an archive is read.
func TestImportFits(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	island := o.newIsland(func(c *store.Config) { c.Reserve = 1 << 60 })
	island.readFails(o.export(export.Since{}), disk.ErrNoSpace)
}

// TestOldExport: what is older than what is here, or too old for boxes, is refused.
func TestOldExport(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	old := o.export(export.Since{})
	o.publish(two)
	now := o.export(export.Since{})
	island := o.newIsland(nil)
	island.mustRead(now)
	island.readFails(old, trust.ErrRollback)
	o.at = day.Add(8 * 24 * time.Hour)
	o.newIsland(nil).readFails(now, trust.ErrExpired)
	late := o.newIsland(nil)
	_, err := export.Import{Store: late.s, Now: func() time.Time { return o.at }, AcceptStale: 48 * time.Hour}.Read(t.Context(), bytes.NewReader(now))
	must(t, err)
	late.wantListed(one, two)
}

// TestStrangersExport is refused, whatever it holds.
func TestStrangersExport(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	o.newIsland(nil).readFails(newOriginOf(t, "stranger's ", one).export(export.Since{}), trust.ErrThreshold)
}

// TestDamageStopsAnExport: what is not right is never carried on.
func TestDamageStopsAnExport(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, big)
	damage(t, o.s, o.rel(big), 2*update.BlockSize)
	var out bytes.Buffer
	_, err := export.Export{Store: o.s}.Write(t.Context(), &out)
	wantErr(t, err, store.ErrCorrupt)
	o.newIsland(nil).readFails(out.Bytes(), export.ErrExport)
}

// damage changes a byte of an archive in a store.
func damage(t *testing.T, s *store.Store, rel trust.Release, at int64) {
	t.Helper()
	d := rel.Digest().String()
	path := s.Dir() + "/sha256/" + d[:2] + "/" + d
	must(t, os.Chmod(path, 0o644))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte{0}, at)
	must(t, err)
}

// TestCutExport: at every kind of place it is refused, what came before is kept, and the whole goes on
// with it.
func TestCutExport(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, big)
	whole := o.export(export.Since{})
	end := len(whole) - 1024 - 512 // the header of the last entry
	cuts := []int{0, 1, 511, 512, 1024, 1500, 3000, 5000, len(whole) / 3, len(whole) / 2, end - 1, end, end + 511}
	for _, n := range cuts {
		island := o.newIsland(nil)
		island.readFails(whole[:n], export.ErrExport)
		island.mustRead(whole)
	}
	// Half of the bytes hold more than one block of the big archive: it is there when the network is.
	island := o.newIsland(nil)
	island.readFails(whole[:len(whole)/3*2], export.ErrExport)
	p := newProxy(t, o.url)
	m, _ := newMirror(t, island.s, func() time.Time { return o.at }, []string{p.url}, nil)
	_, err := m.Sync(t.Context())
	must(t, err)
	island.whole()
	var spans []string
	for _, a := range p.taken() {
		if path, span, _ := strings.Cut(a, " "); path == "/sha256/"+o.rel(big).Digest().String() {
			spans = append(spans, span)
		}
	}
	if len(spans) == 0 || strings.HasPrefix(spans[0], "bytes=0-") || spans[0] == "" {
		t.Errorf("expected the blocks that came not fetched again, got %q", spans)
	}
}

// TestChangedExport: with any byte changed it is refused, or the byte did not matter; never is anything
// wrong served.
func TestChangedExport(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	whole := o.export(export.Since{})
	refused := 0
	for n := 0; n < len(whole); n += 37 {
		raw := slices.Clone(whole)
		raw[n] ^= 1
		island := o.newIsland(nil)
		if _, err := island.read(bytes.NewReader(raw)); err != nil {
			refused++
			if island.s.Repository() != nil {
				t.Fatalf("byte %d: expected nothing served after %v", n, err)
			}
		}
	}
	if refused < len(whole)/37/4 {
		t.Errorf("expected many refused, got %d", refused)
	}
}

// entry is a file of an export.
type entry struct {
	tar.Header
	data []byte
}

func entries(t testing.TB, raw []byte) (out []entry) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		must(t, err)
		data, err := io.ReadAll(r)
		must(t, err)
		out = append(out, entry{*h, data})
	}
}

func archiveOf(t testing.TB, all []entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range all {
		h := e.Header
		h.Format, h.Size = tar.FormatUnknown, int64(len(e.data))
		if h.Typeflag != tar.TypeReg {
			h.Size = 0
		}
		must(t, w.WriteHeader(&h))
		if h.Size > 0 {
			_, err := w.Write(e.data)
			must(t, err)
		}
	}
	must(t, w.Close())
	return out.Bytes()
}

// TestNoExport: a good export with one change is refused for that change.
func TestNoExport(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, two)
	whole := o.export(export.Since{})
	d := o.rel(one).Digest().String()
	at := func(all []entry, name string) int {
		i := slices.IndexFunc(all, func(e entry) bool { return e.Name == name })
		if i < 0 {
			t.Fatalf("no entry %s", name)
		}
		return i
	}
	cases := []struct {
		name   string
		change func(all []entry) []entry
		want   error
		says   string
	}{
		{"nothing", func([]entry) []entry { return nil }, export.ErrExport, "it was cut"},
		{"another name first", func(all []entry) []entry { all[0].Name = "import"; return all }, export.ErrExport, `expected "export" first`},
		{"another format", func(all []entry) []entry { all[0].data = []byte("box-update-export 2\n"); return all }, export.ErrExport, "expected the text"},
		{"a link", func(all []entry) []entry {
			i := at(all, "metadata/timestamp.json")
			all[i].Typeflag, all[i].Linkname = tar.TypeSymlink, "/etc/passwd"
			return all
		}, export.ErrExport, "only regular files"},
		{"metadata out of order", func(all []entry) []entry {
			i := at(all, "metadata/timestamp.json")
			all[i], all[i-1] = all[i-1], all[i]
			return all
		}, export.ErrExport, "in this order"},
		{"metadata twice", func(all []entry) []entry {
			i := at(all, "metadata/timestamp.json")
			return slices.Insert(all, i, all[i])
		}, export.ErrExport, "in this order"},
		{"metadata of no role", func(all []entry) []entry { all[1].Name = "metadata/1.mirrors.json"; return all }, export.ErrExport, "in this order"},
		{"a path that leads out", func(all []entry) []entry { all[1].Name = "metadata/../../1.root.json"; return all }, export.ErrExport, "in this order"},
		{"too much metadata", func(all []entry) []entry {
			all[at(all, "metadata/timestamp.json")].data = make([]byte, 20_000)
			return all
		}, export.ErrExport, "expected at most 16384 bytes"},
		{"no timestamp", func(all []entry) []entry {
			i := at(all, "metadata/timestamp.json")
			return slices.Delete(all, i, i+1)
		}, trust.ErrNotFound, "timestamp.json"},
		{"an archive without its block list", func(all []entry) []entry {
			i := at(all, "sha256/"+d+".blocks")
			return slices.Delete(all, i, i+1)
		}, export.ErrExport, "expected sha256/<digest>.blocks"},
		{"a block list without its archive", func(all []entry) []entry {
			i := at(all, "sha256/"+d)
			return slices.Delete(all, i, i+1)
		}, export.ErrExport, "expected archive"},
		{"another archive after the block list", func(all []entry) []entry {
			i, j := at(all, "sha256/"+d), at(all, "sha256/"+o.rel(two).Digest().String())
			all[i], all[j] = all[j], all[i]
			return all
		}, export.ErrExport, "expected archive"},
		{"an archive that is not listed", func(all []entry) []entry {
			other := strings.Repeat("0", 64)
			all[at(all, "sha256/"+d+".blocks")].Name = "sha256/" + other + ".blocks"
			return all
		}, export.ErrExport, "not listed"},
		{"a wrong block list", func(all []entry) []entry {
			all[at(all, "sha256/"+d+".blocks")].data[0] ^= 1
			return all
		}, store.ErrCorrupt, "block list"},
		{"a wrong archive", func(all []entry) []entry {
			all[at(all, "sha256/"+d)].data[0] ^= 1
			return all
		}, store.ErrCorrupt, "expected digest"},
		{"a longer archive", func(all []entry) []entry {
			i := at(all, "sha256/"+d)
			all[i].data = append(all[i].data, 'x')
			return all
		}, export.ErrExport, "bytes, got"},
		{"no end", func(all []entry) []entry { return all[:len(all)-1] }, export.ErrExport, "it was cut"},
		{"something after the end", func(all []entry) []entry { return append(all, all[0]) }, export.ErrExport, "nothing after"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			island := o.newIsland(nil)
			_, err := island.read(bytes.NewReader(archiveOf(t, c.change(entries(t, whole)))))
			wantErr(t, err, c.want)
			if !strings.Contains(err.Error(), c.says) || island.s.Repository() != nil {
				t.Errorf("expected %q and nothing served, got %v", c.says, err)
			}
		})
	}
	o.newIsland(nil).mustRead(archiveOf(t, entries(t, whole)))
}

// TestImportEndsWithItsContext and keeps what came.
func TestImportEndsWithItsContext(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, big)
	island := o.newIsland(nil)
	ctx, cancel := context.WithCancel(t.Context())
	i := export.Import{Store: island.s, Now: func() time.Time { return o.at }, Progress: func(trust.Release, int64) { cancel() }}
	_, err := i.Read(ctx, bytes.NewReader(o.export(export.Since{})))
	wantErr(t, err, context.Canceled)
	island.mustRead(o.export(export.Since{}))
}

// TestRepair: what was damaged is right again, and only its damaged blocks were fetched.
func TestRepair(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, big)
	p := newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{p.url}})
	m.sync()
	p.taken()
	damage(t, m.s, o.rel(big), update.BlockSize+1)
	lose(t, m, one)
	read := 0
	pieces := map[update.Digest]int{}
	got, err := m.Repair(t.Context(), store.Check{
		Checked: func(trust.Release) { read++ },
		Read:    func(d update.Digest, n int) { pieces[d] += n },
	})
	must(t, err)
	if len(got.Problems) != 2 || got.Archives != 2 || read != 2 {
		t.Errorf("expected two problems and two archives, got %+v after %d", got, read)
	}
	if want := update.BlockSize + o.rel(one).Length(); got.Bytes != want {
		t.Errorf("expected %d bytes fetched, got %d", want, got.Bytes)
	}
	if len(pieces) != 1 || int64(pieces[o.rel(big).Digest()]) != o.rel(big).Length() {
		t.Errorf("expected all of one archive read, got %v", pieces)
	}
	m.whole()
	var spans []string
	for _, a := range p.taken() {
		if path, span, _ := strings.Cut(a, " "); path == "/sha256/"+o.rel(big).Digest().String() {
			spans = append(spans, span)
		}
	}
	if !slices.Equal(spans, []string{"bytes=4194304-8388607"}) {
		t.Errorf("expected block 1 alone fetched, got %q", spans)
	}
}

// TestRepairWithoutUpstream: what is damaged is not served, and the next repair goes on.
func TestRepairWithoutUpstream(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, two)
	p := newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{p.url}})
	m.sync()
	p.answers(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	damage(t, m.s, o.rel(one), 0)
	got, err := m.Repair(t.Context(), store.Check{})
	wantErr(t, err, fetch.ErrUnavailable)
	if len(got.Problems) != 1 || m.has(one) || !m.has(two) {
		t.Errorf("expected the damaged one gone alone, got %+v", got)
	}
	p.answers(nil)
	_, err = m.Repair(t.Context(), store.Check{})
	must(t, err)
	m.whole()
}

// TestSyncBringsBackWhatIsLost although there is nothing new.
func TestSyncBringsBackWhatIsLost(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	m := o.newMirror(setup{})
	m.sync()
	lose(t, m, one)
	if got := m.sync(); got.Archives != 1 || got.Changed {
		t.Errorf("expected one archive, got %+v", got)
	}
}
