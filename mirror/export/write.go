package export

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// The names of entries, and their parts.
const (
	exportName = "export"
	exportText = "box-update-export 1\n"
	endName    = "end"

	metadataPrefix = "metadata/"
	archivePrefix  = "sha256/"
	blocksSuffix   = ".blocks"
)

// Since says which archives an export leaves out, because the importer has them. The zero Since leaves out none.
type Since struct {
	Version update.Version // this one and older ones; zero: no such limit
	Time    time.Time      // those that were published before; zero: no such limit
}

func (s Since) leavesOut(rel trust.Release) bool {
	return !s.Version.IsZero() && rel.Name().Version().Compare(s.Version) <= 0 ||
		!s.Time.IsZero() && rel.Published().Before(s.Time)
}

// Export says what to export.
type Export struct {
	// Store may be open only for reading, beside the process that writes to it.
	Store *store.Store
	Since Since

	// Planned, if not nil, is called before archives are written, with all of them; Progress, if not nil, with how many
	// bytes of an archive are written.
	Planned  func([]trust.Release)
	Progress func(rel trust.Release, done int64)
}

// Write writes the current repository to w, front to back. It leaves out archives that are not kept. The error is
// trust.ErrNone if there is no repository, and store.ErrCorrupt if an archive is damaged. After an error, w has a cut
// export, which importers refuse.
func (e Export) Write(ctx context.Context, w io.Writer) (mirror.Result, error) {
	repo := e.Store.Repository()
	if repo == nil {
		return mirror.Result{}, fmt.Errorf("export: %s: %w", e.Store.Dir(), trust.ErrNone)
	}
	if e.Planned == nil {
		e.Planned = func([]trust.Release) {}
	}
	if e.Progress == nil {
		e.Progress = func(trust.Release, int64) {}
	}
	x := exporter{e: e, tar: tar.NewWriter(w), at: repo.Issued(trust.RoleTimestamp)}
	if err := x.write(ctx, repo); err != nil {
		return x.result, fmt.Errorf("export: %w", err)
	}
	return x.result, nil
}

// exporter writes one export.
type exporter struct {
	e      Export
	tar    *tar.Writer
	at     time.Time // of all entries, so that two exports of a repository are equal
	result mirror.Result
}

func (x *exporter) write(ctx context.Context, repo *trust.Repository) error {
	if err := x.file(exportName, []byte(exportText)); err != nil {
		return err
	}
	if err := x.metadata(repo); err != nil {
		return err
	}
	archives := x.archives(repo)
	x.e.Planned(archives)
	for _, rel := range archives {
		if err := x.archive(ctx, rel); err != nil {
			return err
		}
		x.result.Archives++
		x.result.Bytes += rel.Length()
	}
	if err := x.file(endName, nil); err != nil {
		return err
	}
	return x.tar.Close()
}

// metadata writes all roots that the store has, and the current metadata.
func (x *exporter) metadata(repo *trust.Repository) error {
	newest := repo.Version(trust.RoleRoot)
	first := newest
	for first > 1 {
		if _, err := x.e.Store.Metadata(trust.FileName(trust.RoleRoot, first-1)); err != nil {
			break // a store whose pinned root is a later one
		}
		first--
	}
	for version := first; version < newest; version++ {
		name := trust.FileName(trust.RoleRoot, version)
		raw, err := x.e.Store.Metadata(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := x.file(metadataPrefix+name, raw); err != nil {
			return err
		}
	}
	for _, role := range trust.Roles() {
		if err := x.file(metadataPrefix+trust.FileName(role, repo.Version(role)), repo.Raw(role)); err != nil {
			return err
		}
	}
	return nil
}

// archives returns the archives to export, one of each digest.
func (x *exporter) archives(repo *trust.Repository) (out []trust.Release) {
	seen := map[update.Digest]bool{}
	for _, rel := range x.e.Store.Kept(repo) {
		if !seen[rel.Digest()] && !x.e.Since.leavesOut(rel) {
			out = append(out, rel)
		}
		seen[rel.Digest()] = true
	}
	return out
}

func (x *exporter) file(name string, data []byte) error {
	if err := x.begin(name, int64(len(data))); err != nil {
		return err
	}
	_, err := x.tar.Write(data)
	return err
}

func (x *exporter) begin(name string, length int64) error {
	return x.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: length, Mode: 0o444, ModTime: x.at})
}

// archive writes an archive. It verifies each block before it writes it.
func (x *exporter) archive(ctx context.Context, rel trust.Release) error {
	blocks, err := x.e.Store.Blocks(rel.Update())
	if err != nil {
		return fmt.Errorf("block list of %v: %w", rel.Name(), err)
	}
	f, err := x.e.Store.Open(rel.Update())
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	name := archivePrefix + rel.Digest().String()
	if err := x.file(name+blocksSuffix, blocks.Bytes()); err != nil {
		return err
	}
	if err := x.begin(name, rel.Length()); err != nil {
		return err
	}
	buf := make([]byte, min(update.BlockSize, rel.Length()))
	done := int64(0)
	for i, want := range blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:update.BlockLength(rel.Length(), i)]
		if _, err := io.ReadFull(f, p); err != nil {
			return fmt.Errorf("%v: block %d: %w", rel.Name(), i, err)
		}
		if got := update.Sum(p); got != want {
			return fmt.Errorf("%v: block %d: %w: expected digest %v, got %v", rel.Name(), i, store.ErrCorrupt, want, got)
		}
		if _, err := x.tar.Write(p); err != nil {
			return err
		}
		done += int64(len(p))
		x.e.Progress(rel, done)
	}
	return nil
}

// carried is the metadata of an export, as a trust.Fetcher.
type carried map[string][]byte

// Fetch returns a file of the export.
func (c carried) Fetch(ctx context.Context, name string, limit int64, _ update.Digest) ([]byte, error) {
	raw, ok := c[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w in the export", name, trust.ErrNotFound)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s: %w: expected at most %d bytes, got %d", name, trust.ErrMalformed, limit, len(raw))
	}
	return raw, ctx.Err()
}
