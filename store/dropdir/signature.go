package dropdir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// signatureSuffix ends the name of a signature file: U.sig lies beside the archive U.
const signatureSuffix = ".sig"

// signatureFile is a signature as a listing showed it.
type signatureFile struct {
	stamp stamp
	sig   signing.Signature
}

// Signature returns the detached signature that lies beside an update of the catalog. Nobody has
// verified it.
func (d *Dir) Signature(u update.Update) (signing.Signature, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	f, ok := d.state.signatures[u.Name]
	return f.sig, ok
}

// OpenDigest opens an archive of the directory by its digest, as Open does.
func (d *Dir) OpenDigest(digest update.Digest) (*os.File, bool) {
	u, ok := d.Catalog().ByDigest(digest)
	if !ok {
		return nil, false
	}
	f, err := d.Open(u)
	return f, err == nil
}

// lookSignature adds a directory entry to the listing where it is a signature file of the product, and
// reports whether it is.
func (d *Dir) lookSignature(l *listing, e fs.DirEntry) bool {
	stem, ok := strings.CutSuffix(e.Name(), signatureSuffix)
	if !ok || !e.Type().IsRegular() {
		return false
	}
	n, err := update.ParseName(stem)
	if err != nil || n.Product() != d.c.Product {
		return false
	}
	f, err := d.readSignature(n, e)
	switch {
	case err == nil:
		l.signatures[n] = f
	case !errors.Is(err, fs.ErrNotExist):
		l.odd[quote(e.Name())] = "ignored: " + clip(err.Error())
	}
	return true
}

// readSignature reads a signature file, unless it is the one that was read before.
func (d *Dir) readSignature(n update.Name, e fs.DirEntry) (signatureFile, error) {
	info, err := e.Info()
	if err != nil {
		return signatureFile{}, err
	}
	s, ok := stampOf(info)
	if !ok {
		return signatureFile{}, fmt.Errorf("%w: no regular file", fs.ErrInvalid)
	}
	d.mu.RLock()
	known, ok := d.state.signatures[n]
	d.mu.RUnlock()
	if ok && known.stamp == s {
		return known, nil
	}
	f, err := os.OpenFile(filepath.Join(d.c.Dir, e.Name()), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return signatureFile{}, err
	}
	defer f.Close() // opened for reading
	raw, err := io.ReadAll(io.LimitReader(f, int64(len(signing.Signature{}))+1))
	if err != nil {
		return signatureFile{}, err
	}
	sig, err := signing.ParseSignature(raw)
	if err != nil {
		return signatureFile{}, err
	}
	return signatureFile{s, sig}, nil
}

// sign takes over the signatures of a listing.
func (s *state) sign(found map[update.Name]signatureFile) {
	same := maps.EqualFunc(s.signatures, found, func(a, b signatureFile) bool { return a.sig == b.sig })
	s.signatures = found
	if !same {
		s.changed, s.resigned = true, true
	}
}
