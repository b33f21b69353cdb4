package trust

import (
	"context"
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// link is how a timestamp names a snapshot, and a snapshot a list: its meta in TUF. A link with the role alone names
// any file of that role.
type link struct {
	role    Role // of the file that is named
	version int64
	length  int64
	digest  update.Digest
}

func (l link) name() string { return fmt.Sprintf("%s %d", l.role, l.version) }

func linkTo(f *file) link {
	return link{f.role, f.version, int64(len(f.raw)), f.digest()}
}

// open reads the file that l names and that root accepts. The error is ErrMismatch for another file.
func (l link) open(root *Root, raw []byte) (*file, error) {
	anyFile := l == link{role: l.role}
	if got := update.Sum(raw); !anyFile && (int64(len(raw)) != l.length || got != l.digest) {
		return nil, fmt.Errorf("%s: %w: expected %d bytes with digest %v, got %d with %v", l.name(), ErrMismatch, l.length, l.digest, len(raw), got)
	}
	f, err := openFile(root, l.role, raw, root.Threshold(l.role))
	if err != nil {
		return nil, err
	}
	if !anyFile && f.version != l.version {
		return nil, fmt.Errorf("%s: %w: expected %s", f.name(), ErrMismatch, l.name())
	}
	return f, nil
}

// metaContent is the signed part of a timestamp or a snapshot.
type metaContent struct {
	header
	Meta map[string]linkContent `json:"meta"`
}

type linkContent struct {
	Hashes  oneHash `json:"hashes"`
	Length  int64   `json:"length"`
	Version int64   `json:"version"`
}

// readMeta reads the content of a timestamp or a snapshot.
func (f *file) readMeta() error {
	var c metaContent
	if err := f.read(&c, &c.header); err != nil {
		return err
	}
	role := f.role.traits().names
	l, ok := c.Meta[string(role)+".json"]
	if len(c.Meta) != 1 || !ok {
		return fmt.Errorf("meta: expected %s.json alone", role)
	}
	if update.Digest(l.Hashes).IsZero() {
		return fmt.Errorf("meta: %s.json: expected one hash, sha256", role)
	}
	if l.Version < 1 || l.Version > maxVersion || l.Length < 1 || l.Length > MaxLength(role) {
		return fmt.Errorf("meta: %s.json: expected a version from 1 to %d and a length from 1 to %d, got %d and %d", role, maxVersion, MaxLength(role), l.Version, l.Length)
	}
	f.names = link{role, l.Version, l.Length, update.Digest(l.Hashes)}
	return nil
}

// signMeta makes and signs the timestamp or snapshot that names a file.
func signMeta(ctx context.Context, root *Root, role Role, version int64, at time.Time, named *file, by []signing.Signer) (*file, error) {
	l := linkTo(named)
	signed, err := encode(role, version, at, map[string]any{
		"meta": map[string]linkContent{string(l.role) + ".json": {oneHash(l.digest), l.length, l.version}},
	})
	if err != nil {
		return nil, err
	}
	raw, err := signFile(ctx, root, role, signed, by)
	if err != nil {
		return nil, err
	}
	return link{role: role}.open(root, raw)
}
