package signer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// What a signer downloads only to see what changed.
const (
	maxDownload  = 256 << 20 // bytes of an archive
	downloadTime = time.Minute
)

// localArchives are the archives whose paths are on the command line.
type localArchives struct {
	files    publish.Files
	contents map[update.Digest]contents
}

// showContents adds to c what the updates that a plan adds change in the files of the version before. If a
// comparison fails, it adds a note instead. The only error is that of ctx. It does nothing if c is not shown to anyone.
func (x *session) showContents(ctx context.Context, c *Change, p trust.Plan, local localArchives) error {
	if x.Confirm == nil && !x.DryRun {
		return nil
	}
	after := slices.Concat(x.base.Releases(), p.Added)
	for _, r := range p.Added {
		before, ok := versionBefore(r, after)
		if !ok {
			continue
		}
		compared, err := x.compareWithBefore(ctx, r, before, local)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			c.Notes = append(c.Notes, fmt.Sprintf("%v was not compared with %v: %v; to compare them, run boxsign diff OLD NEW", r.Name(), before.Name(), err))
			continue
		}
		c.Compared = append(c.Compared, compared)
	}
	return nil
}

// versionBefore returns the update of a list with the highest version below that of r, of the same product and, if there is
// a choice, of the same format.
func versionBefore(r trust.Release, list []trust.Release) (before trust.Release, ok bool) {
	n := r.Name()
	for _, o := range list {
		m := o.Name()
		if m.Product() != n.Product() || m.Version().Compare(n.Version()) >= 0 {
			continue
		}
		d := 1
		if ok {
			d = m.Version().Compare(before.Name().Version())
		}
		if d > 0 || d == 0 && m.Format() == n.Format() {
			before, ok = o, true
		}
	}
	return before, ok
}

// compareWithBefore compares the archives of an update and of the version before it.
func (x *session) compareWithBefore(ctx context.Context, r, before trust.Release, local localArchives) (Comparison, error) {
	now, path, err := x.contentsOf(ctx, r, local, "")
	if err != nil {
		return Comparison{}, err
	}
	beside := ""
	if f, ok := local.files[r.Digest()]; ok {
		beside = filepath.Dir(f.Path)
	}
	had, hadPath, err := x.contentsOf(ctx, before, local, beside)
	if err != nil {
		return Comparison{}, err
	}
	c := compareContents(had, now)
	c.Name, c.Before, c.files = r.Name(), before.Name(), [2]string{hadPath, path}
	return c, nil
}

// contentsOf returns the contents of the archive of an update, and where it is. It looks among the local archives, then in
// the directory beside, if that is not "", then in the repository.
func (x *session) contentsOf(ctx context.Context, r trust.Release, local localArchives, beside string) (contents, string, error) {
	if c, ok := local.contents[r.Digest()]; ok {
		return c, local.files[r.Digest()].Path, nil
	}
	if beside != "" {
		path := filepath.Join(beside, r.Name().String())
		if c, err := readFileOf(ctx, r, path); err == nil {
			return c, path, nil
		}
	}
	if d, ok := x.place.(*directory); ok {
		c, err := x.readStored(ctx, r)
		return c, filepath.Join(d.path, "targets", r.Digest().String()+"."+r.Name().String()), err
	}
	if r.Length() > maxDownload {
		return nil, "", fmt.Errorf("it has %d bytes, and boxsign downloads at most %d to compare", r.Length(), maxDownload)
	}
	ctx, cancel := context.WithTimeout(ctx, downloadTime)
	defer cancel()
	c, err := x.readStored(ctx, r)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%v did not arrive within %v", r.Name(), downloadTime)
	}
	return c, x.remote.URL() + "update/" + r.Name().String(), err
}

// readFileOf reads the contents of a file that may be the archive of an update.
func readFileOf(ctx context.Context, r trust.Release, path string) (contents, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() != r.Length() {
		return nil, trust.ErrMismatch
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	return verifiedContents(ctx, r, f)
}

// readStored reads the contents of an archive from the repository.
func (x *session) readStored(ctx context.Context, r trust.Release) (_ contents, err error) {
	body, err := x.place.Archive(ctx, r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s lacks the archive", x.Repository)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	shown := &shownReader{r: body, show: x.Sending, p: publish.Progress{Name: r.Name(), Total: r.Length()}}
	defer shown.end()
	return verifiedContents(ctx, r, shown)
}

// verifiedContents reads the contents of the archive of an update, and returns them only if the digest is right.
func verifiedContents(ctx context.Context, r trust.Release, src io.Reader) (contents, error) {
	found := contents{}
	what, report, err := examineArchive(ctx, io.LimitReader(src, r.Length()+1), r.Name(), found.inspectOptions(r.Name()))
	if err != nil {
		return nil, err
	}
	if what.Digest != r.Digest() {
		return nil, fmt.Errorf("%w: expected digest %v, got %v", trust.ErrMismatch, r.Digest(), what.Digest)
	}
	return found, checkComplete(r.Name(), report)
}

// shownReader shows the progress of reading.
type shownReader struct {
	r    io.Reader
	show func(publish.Progress) // may be nil
	p    publish.Progress
}

func (s *shownReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.p.Done += int64(n)
	if s.show != nil && s.p.Done < s.p.Total {
		s.show(s.p)
	}
	return n, err
}

// end ends the display, however much was read.
func (s *shownReader) end() {
	if s.p.Done = s.p.Total; s.show != nil {
		s.show(s.p)
	}
}
