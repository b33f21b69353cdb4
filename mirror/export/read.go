package export

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// ErrExport says that a file is no export, or was cut. The blocks before that are kept, and the next import continues with
// them.
var ErrExport error = status.BrokenExport

// maxCarried bounds the metadata of an export, in bytes: many roots, one list.
const maxCarried = 16 << 20

// Import says where to import to.
type Import struct {
	// Mirror, if not nil, is the mirror of the store. The import interrupts its sync. The fields up to MaxBytes are then
	// taken from its Config.
	Mirror *mirror.Mirror

	// Store is open for writing, with the pinned root.
	Store *store.Store

	FS          disk.FS
	Now         func() time.Time // nil: time.Now
	Built       time.Time        // see trust.Clock
	AcceptStale time.Duration    // see trust.Clock
	MaxBytes    int64            // as in mirror.Config

	// Planned, if not nil, is called before archives are read, with all that are missing; Progress, if not nil, with how
	// many bytes of an archive are in place.
	Planned  func([]trust.Release)
	Progress func(rel trust.Release, done int64)
}

// Read reads an export from r, front to back, verifies it like metadata and archives of an upstream, and makes its
// repository the current one. It skips archives that are in place or not kept.
//
// The errors are ErrExport; store.ErrIncomplete if an archive is neither in the export nor in the store; and those of
// Mirror.Sync: trust.ErrRollback for an export that is older than the store's repository, and trust.ErrExpired for one
// that is too old for a box.
func (i Import) Read(ctx context.Context, r io.Reader) (mirror.Result, error) {
	if i.Planned == nil {
		i.Planned = func([]trust.Release) {}
	}
	if i.Progress == nil {
		i.Progress = func(trust.Release, int64) {}
	}
	if i.Mirror == nil {
		if i.Now == nil {
			i.Now = time.Now
		}
		x := importer{i: i, tar: tar.NewReader(r)}
		err := x.read(ctx)
		if err == nil {
			err = mirror.NoteImport(i.FS, i.Store.Dir(), x.repo, i.Now())
		}
		return x.result, end(r, err)
	}
	c := i.Mirror.Config()
	i.Store, i.FS, i.Now, i.Built, i.AcceptStale, i.MaxBytes = c.Store, c.FS, c.Now, c.Built, c.AcceptStale, c.MaxBytes
	x := importer{i: i, tar: tar.NewReader(r)}
	err := i.Mirror.RunImport(ctx, func() (*trust.Repository, error) {
		err := x.read(ctx)
		return x.repo, err
	})
	return x.result, end(r, err)
}

// end reads the rest of a pipe after a success, so that its writer succeeds too.
func end(r io.Reader, err error) error {
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
	}
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return nil
}

// importer reads one export.
type importer struct {
	i      Import
	tar    *tar.Reader
	head   *tar.Header // of the current entry
	repo   *trust.Repository
	wanted map[update.Digest]trust.Release // what is missing
	listed map[update.Digest]bool
	buf    []byte
	result mirror.Result
}

func (x *importer) read(ctx context.Context) error {
	carried, err := x.metadata()
	if err != nil {
		return err
	}
	clock := trust.Clock{Now: x.i.Now(), Built: x.i.Built, AcceptStale: x.i.AcceptStale}
	if x.repo, err = x.i.Store.Refresh(ctx, carried, clock); err != nil {
		return err
	}
	if err := x.plan(ctx); err != nil {
		return err
	}
	for x.head.Name != endName {
		if err := x.archive(ctx); err != nil {
			return err
		}
	}
	if _, err := x.tar.Next(); !errors.Is(err, io.EOF) {
		return x.malformed("expected nothing after %q", endName)
	}
	return x.commit(ctx)
}

// next goes to the next entry.
func (x *importer) next() (err error) {
	x.head, err = x.tar.Next()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it was cut", ErrExport)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrExport, err)
	}
	if x.head.Typeflag != tar.TypeReg {
		return x.malformed("expected only regular files, got type %q for %.80q", x.head.Typeflag, x.head.Name)
	}
	return nil
}

func (x *importer) malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrExport, fmt.Errorf(format, args...))
}

// content returns the content of the current entry, at most limit bytes.
func (x *importer) content(limit int64) ([]byte, error) {
	if x.head.Size < 0 || x.head.Size > limit {
		return nil, x.malformed("%.80q: expected at most %d bytes, got %d", x.head.Name, limit, x.head.Size)
	}
	raw := make([]byte, x.head.Size)
	if _, err := io.ReadFull(x.tar, raw); err != nil {
		return nil, fmt.Errorf("%w: %.80q: %w", ErrExport, x.head.Name, err)
	}
	return raw, nil
}

// metadata reads all entries before the archives, and goes to the one after them.
func (x *importer) metadata() (carried, error) {
	if err := x.next(); err != nil {
		return nil, err
	}
	if x.head.Name != exportName {
		return nil, x.malformed("expected %q first, got %.80q", exportName, x.head.Name)
	}
	if text, err := x.content(int64(len(exportText))); err != nil || string(text) != exportText {
		return nil, errors.Join(x.malformed("expected the text %q, got %.80q", exportText, text), err)
	}
	files, total, last := carried{}, 0, 0
	for {
		if err := x.next(); err != nil {
			return nil, err
		}
		name, ok := strings.CutPrefix(x.head.Name, metadataPrefix)
		if !ok {
			return files, nil
		}
		role, _, _ := trust.ParseFileName(name)
		place := slices.Index(trust.Roles(), role)
		if place < last || place == last && role != trust.RoleRoot || files[name] != nil {
			return nil, x.malformed("expected roots, targets, snapshot and timestamp in this order, got %.80q", x.head.Name)
		}
		raw, err := x.content(trust.MaxLength(role))
		if err != nil {
			return nil, err
		}
		if total += len(raw); total > maxCarried {
			return nil, x.malformed("expected at most %d bytes of metadata", maxCarried)
		}
		files[name], last = raw, place
	}
}

// plan finds out which archives are missing, and whether they fit. Damaged archives, and those on demand, make room for
// what an operator brings.
func (x *importer) plan(ctx context.Context) error {
	s := x.i.Store
	missing := s.Missing(x.repo)
	if _, err := s.MakeRoom(ctx, missing, x.i.MaxBytes, store.Eviction{Keep: s.Kept(x.repo), Damaged: true}); err != nil {
		return err
	}
	x.wanted, x.listed = map[update.Digest]trust.Release{}, map[update.Digest]bool{}
	for _, rel := range missing {
		x.wanted[rel.Digest()] = rel
	}
	for _, rel := range x.repo.Releases() {
		x.listed[rel.Digest()] = true
	}
	x.i.Planned(missing)
	return nil
}

// archive reads a block list and an archive, and goes to the entry after them.
func (x *importer) archive(ctx context.Context) error {
	d, err := x.digest(blocksSuffix)
	if err != nil {
		return err
	}
	rel, wanted := x.wanted[d]
	var blocks update.Blocks
	if wanted {
		if blocks, err = x.blocks(rel); err != nil {
			return err
		}
	}
	if err := x.next(); err != nil {
		return err
	}
	if got, err := x.digest(""); err != nil || got != d {
		return errors.Join(x.malformed("expected archive %v after its block list, got %.80q", d, x.head.Name), err)
	}
	if wanted {
		if err := x.ingest(ctx, rel, blocks); err != nil {
			return fmt.Errorf("%v: %w", rel.Name(), err)
		}
	}
	return x.next()
}

// digest returns the digest in the name of the current entry. The metadata must list it.
func (x *importer) digest(suffix string) (update.Digest, error) {
	text, ok := strings.CutPrefix(x.head.Name, archivePrefix)
	text, has := strings.CutSuffix(text, suffix)
	d, err := update.ParseDigest(text)
	if !ok || !has || err != nil {
		return update.Digest{}, x.malformed("expected %s<digest>%s, got %.80q", archivePrefix, suffix, x.head.Name)
	}
	if !x.listed[d] {
		return update.Digest{}, x.malformed("%v is not listed in its metadata", d)
	}
	return d, nil
}

func (x *importer) blocks(rel trust.Release) (update.Blocks, error) {
	raw, err := x.content(int64(update.BlockCount(rel.Length())) * int64(len(update.Digest{})))
	if err != nil {
		return nil, err
	}
	return update.ParseBlocks(raw, rel.Length())
}

// ingest reads the archive of the current entry, and writes the blocks that are missing.
func (x *importer) ingest(ctx context.Context, rel trust.Release, blocks update.Blocks) (err error) {
	if x.head.Size != rel.Length() {
		return x.malformed("expected %d bytes, got %d", rel.Length(), x.head.Size)
	}
	in, err := x.i.Store.Ingest(ctx, rel, blocks)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	missing, bytes := map[int]bool{}, fetch.LengthOf(rel, in.Missing())
	for _, n := range in.Missing() {
		missing[n] = true
	}
	for n := range blocks {
		if err := x.block(ctx, in, rel, n, missing[n]); err != nil {
			return err
		}
	}
	if err := in.Commit(ctx); err != nil {
		return err
	}
	delete(x.wanted, rel.Digest())
	x.result.Archives++
	x.result.Bytes += bytes
	return nil
}

func (x *importer) block(ctx context.Context, in *store.Ingest, rel trust.Release, n int, missing bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if x.buf == nil {
		x.buf = make([]byte, update.BlockSize)
	}
	p := x.buf[:update.BlockLength(rel.Length(), n)]
	if _, err := io.ReadFull(x.tar, p); err != nil {
		return fmt.Errorf("%w: block %d: %w", ErrExport, n, err)
	}
	if missing {
		if err := in.WriteBlock(n, p); err != nil {
			return err
		}
	}
	x.i.Progress(rel, int64(n)*update.BlockSize+int64(len(p)))
	return nil
}

func (x *importer) commit(ctx context.Context) error {
	s := x.i.Store
	if missing := s.Missing(x.repo); len(missing) > 0 {
		return fmt.Errorf("%w: %d archives are neither in the export nor here, the first is %v: import an earlier export first, or a complete one",
			store.ErrIncomplete, len(missing), missing[0].Name())
	}
	if !x.repo.Same(s.Repository()) {
		if err := s.Commit(ctx, x.repo); err != nil {
			return err
		}
		x.result.Changed = true
	}
	return nil
}
