package origin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimEnv) != "" {
		victim()
		return
	}
	goleak.VerifyTestMain(m)
}

// What the world of all tests is called here.
var (
	day     = testworld.Start
	must    = testworld.Must
	wantErr = testworld.WantErr
	name    = testworld.Name
)

var addition = testworld.Addition

const days = 24 * time.Hour

// The updates of these stories.
const (
	one   = "opq-box-update-1.tar.gz"
	two   = "opq-box-update-2.tar.gz"
	three = "opq-box-update-3.tar.gz"
	big   = "opq-box-update-9.tar.gz" // of three blocks
)

// content is the archive of a name.
func content(name string) []byte {
	text := []byte("archive of " + name + "\n")
	if name != big {
		return text
	}
	return bytes.Repeat(text, 2*update.BlockSize/len(text)+1)
}

// world is an origin, and who holds which keys.
type world struct {
	t               testing.TB
	dir             string
	roots, releases []*testworld.Signer
	online          []*testworld.Signer
	now             func() time.Time
	fs              disk.FS
	grace           time.Duration        // of GC
	store           func(*store.Config)  // nil: no change
	change          func(*origin.Config) // of the configuration, nil: none

	s *store.Store
	*origin.Origin
}

// newWorld makes an empty repository with one key for each role.
func newWorld(t testing.TB) *world { return newWorldOf(t, 1, 1) }

// newWorldOf makes one with n root and release keys, of which need must sign.
func newWorldOf(t testing.TB, n, need int) *world {
	t.Helper()
	at := day
	w := &world{t: t, dir: testworld.TempDir(t), online: []*testworld.Signer{testworld.NewSigner("online")}, now: func() time.Time { return at }}
	w.begin(n, need)
	return w
}

func (w *world) begin(n, need int) {
	w.t.Helper()
	for i := range n {
		w.roots = append(w.roots, testworld.NewSigner(fmt.Sprintf("root %d", i)))
		w.releases = append(w.releases, testworld.NewSigner(fmt.Sprintf("release %d", i)))
	}
	repo := testworld.Keyring{Roots: w.roots, Releases: w.releases, Online: w.online[0]}.Init(w.t, w.now(), need)
	s, err := store.Open(w.t.Context(), store.Config{Dir: w.dir, Root: repo.Root().Raw(), Now: w.now})
	must(w.t, err)
	must(w.t, s.Commit(w.t.Context(), repo))
	must(w.t, s.Close())
	w.open()
	w.t.Cleanup(w.close)
}

// at sets the clock.
func (w *world) at(t time.Time) { w.now = func() time.Time { return t } }

// open opens store and origin.
func (w *world) open() {
	w.t.Helper()
	must(w.t, w.tryOpen())
}

func (w *world) tryOpen() error {
	now := func() time.Time { return w.now() }
	sc := store.Config{Dir: w.dir, FS: w.fs, Now: now, Grace: w.grace, Superseded: w.grace}
	if w.store != nil {
		w.store(&sc)
	}
	s, err := store.Open(context.Background(), sc)
	if err != nil {
		return err
	}
	c := origin.Config{Store: s, Online: testworld.Signers(w.online...), FS: w.fs, Now: now}
	if w.change != nil {
		w.change(&c)
	}
	o, err := origin.Open(context.Background(), c)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	w.s, w.Origin = s, o
	return nil
}

// close closes what is open. Errors are those of a disk that a test made fail.
func (w *world) close() {
	if w.Origin == nil {
		return
	}
	w.Origin.Close()
	w.s.Close()
	w.s, w.Origin = nil, nil
}

// restart is what a restart of the server does.
func (w *world) restart() {
	w.t.Helper()
	w.close()
	w.open()
}

// copied returns another world with the same keys and a copy of the directory.
func (w *world) copied() *world {
	w.t.Helper()
	other := *w
	other.dir, other.s, other.Origin = filepath.Join(testworld.TempDir(w.t), "copy"), nil, nil
	must(w.t, os.CopyFS(other.dir, os.DirFS(w.dir)))
	other.open()
	w.t.Cleanup(other.close)
	return &other
}

func (w *world) edit() *trust.TargetsEdit {
	w.t.Helper()
	e, err := w.s.Repository().EditTargets(w.s.Ledger(), w.State().Reserved, w.now())
	must(w.t, err)
	return e
}

// list signs a list that has those updates too.
func (w *world) list(by []*testworld.Signer, names ...string) *trust.Proposal {
	w.t.Helper()
	e := w.edit()
	for _, n := range names {
		must(w.t, e.Add(addition(n, content(n))))
	}
	p, err := e.Sign(w.t.Context(), testworld.Signers(by...)...)
	must(w.t, err)
	return p
}

// root signs a next root.
func (w *world) root(by []*testworld.Signer, change func(*trust.RootEdit) error) *trust.Proposal {
	w.t.Helper()
	return testworld.SignRoot(w.t, w.s.Repository(), w.now(), by, change)
}

// send proposes, and wants that outcome.
func (w *world) send(p *trust.Proposal, want origin.Status) origin.Outcome {
	w.t.Helper()
	out, err := w.Propose(w.t.Context(), p.Role(), p.Raw())
	must(w.t, err)
	if out.Status != want {
		w.t.Fatalf("%s %d: expected it %s, got %+v", p.Role(), p.Version(), want, out)
	}
	return out
}

// refuse proposes what must be refused, and leave nothing.
func (w *world) refuse(p *trust.Proposal, want error) error {
	w.t.Helper()
	before := w.files()
	_, err := w.Propose(w.t.Context(), p.Role(), p.Raw())
	wantErr(w.t, err, want)
	if after := w.files(); !slices.Equal(before, after) {
		w.t.Fatalf("expected the files %v, got %v", before, after)
	}
	return err
}

// files lists all files of the directory.
func (w *world) files() []string {
	w.t.Helper()
	var out []string
	must(w.t, filepath.WalkDir(w.dir, func(path string, e os.DirEntry, err error) error {
		// When it collected last, an origin notes whatever comes of it.
		if err == nil && !e.IsDir() && !strings.HasPrefix(e.Name(), "gc.json") {
			out = append(out, strings.TrimPrefix(path, w.dir))
		}
		return err
	}))
	return out
}

// upload brings what a staged list lacks.
func (w *world) upload(out origin.Outcome) error {
	for _, a := range out.Archives {
		data := content(a.Name.String())
		if !a.Blocks {
			if err := w.PutBlocks(context.Background(), out.ID, a.Digest, testworld.Blocks(data).Bytes()); err != nil {
				return err
			}
		}
		for _, r := range a.Missing {
			for i := r[0]; i < r[1]; i++ {
				if err := w.PutBlock(context.Background(), out.ID, a.Digest, i, block(data, i)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func block(data []byte, i int) []byte {
	data = data[i*update.BlockSize:]
	return data[:min(len(data), update.BlockSize)]
}

// finish brings what a staged list lacks and commits it.
func (w *world) finish(out origin.Outcome) status.Versions {
	w.t.Helper()
	must(w.t, w.upload(out))
	v, err := w.Commit(w.t.Context(), out.ID)
	must(w.t, err)
	w.whole()
	return v
}

// publish signs with all release keys, sends and commits.
func (w *world) publish(names ...string) *trust.Proposal {
	w.t.Helper()
	p := w.list(w.releases, names...)
	w.finish(w.send(p, origin.StatusStaged))
	return p
}

// whole checks what lies on the disk, as another process and a box see it, and returns it.
func (w *world) whole() *trust.Repository {
	w.t.Helper()
	s, err := store.OpenReadOnly(context.Background(), store.Config{Dir: w.dir, Now: w.now})
	must(w.t, err)
	problems, err := s.Check(context.Background(), store.Check{Hash: true})
	must(w.t, err)
	if len(problems) > 0 {
		w.t.Fatalf("not whole: %v", problems)
	}
	must(w.t, s.Repository().VerifyDetached())
	return s.Repository()
}

func (w *world) wantListed(names ...string) {
	w.t.Helper()
	if got := testworld.Listed(w.whole()); !slices.Equal(got, names) {
		w.t.Fatalf("expected %v listed, got %v", names, got)
	}
}

// wantKept wants those versions staged and pending.
func (w *world) wantKept(staged, pending []int64) {
	w.t.Helper()
	s := w.State()
	var got []int64
	for _, p := range s.Pending {
		got = append(got, p.Version)
	}
	if !slices.Equal(s.Staged, staged) || !slices.Equal(got, pending) {
		w.t.Fatalf("expected %v staged and %v pending, got %v and %v", staged, pending, s.Staged, got)
	}
}
