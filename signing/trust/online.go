package trust

import (
	"context"
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// link is how a timestamp names a snapshot, and a snapshot a targets file.
type link struct {
	role    Role // of the file that is named
	version int64
	length  int64
	digest  update.Digest
}

func (l link) name() string { return fmt.Sprintf("%s %d", l.role, l.version) }

// checkBytes refuses, with ErrMismatch, bytes other than the named ones. Their version is checked after they are
// parsed.
func (l link) checkBytes(raw []byte) error {
	if got := update.Sum(raw); int64(len(raw)) != l.length || got != l.digest {
		return fmt.Errorf("%s: %w: expected %d bytes with digest %v, got %d with %v", l.name(), ErrMismatch, l.length, l.digest, len(raw), got)
	}
	return nil
}

// checkVersion refuses, with ErrMismatch, a file of another version than the named one.
func (l link) checkVersion(f *file) error {
	if f.version != l.version {
		return fmt.Errorf("%s: %w: expected %s", f.name(), ErrMismatch, l.name())
	}
	return nil
}

func linkTo(f *file) link {
	return link{f.role, f.version, int64(len(f.raw)), f.digest()}
}

// online is a file that the online key signs: a timestamp, or a snapshot.
type online struct {
	*file
	next link // what it names: a snapshot, or a targets file
}

type onlineContent struct {
	header
	Meta map[string]linkContent `json:"meta"`
}

type linkContent struct {
	Hashes  oneHash `json:"hashes"`
	Length  int64   `json:"length"`
	Version int64   `json:"version"`
}

// namedBy returns the role of the file that a timestamp or a snapshot names.
func namedBy(role Role) Role {
	if role == RoleTimestamp {
		return RoleSnapshot
	}
	return RoleTargets
}

// openOnline reads a timestamp or a snapshot that root accepts.
func openOnline(root *Root, role Role, raw []byte) (*online, error) {
	f, err := openFile(role, raw)
	if err != nil {
		return nil, err
	}
	o := &online{file: f}
	if err := o.readContent(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", f.name(), ErrMalformed, err)
	}
	if err := verify(root, f); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *online) readContent() error {
	var c onlineContent
	if err := o.read(&c, &c.header); err != nil {
		return err
	}
	role := namedBy(o.role)
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
	o.next = link{role, l.Version, l.Length, update.Digest(l.Hashes)}
	return nil
}

// openSnapshot reads the snapshot that a timestamp names and that root accepts.
func openSnapshot(root *Root, named link, raw []byte) (*online, error) {
	if err := named.checkBytes(raw); err != nil {
		return nil, err
	}
	sn, err := openOnline(root, RoleSnapshot, raw)
	if err != nil {
		return nil, err
	}
	if err := named.checkVersion(sn.file); err != nil {
		return nil, err
	}
	return sn, nil
}

// signOnline makes and signs the timestamp or snapshot that names the file names.
func signOnline(ctx context.Context, root *Root, role Role, version int64, at time.Time, life time.Duration, names *file, by []signing.Signer) (*online, error) {
	l := linkTo(names)
	signed, err := encode(role, version, at, life, map[string]any{
		"meta": map[string]linkContent{string(l.role) + ".json": {oneHash(l.digest), l.length, l.version}},
	})
	if err != nil {
		return nil, err
	}
	raw, err := signFile(ctx, root, role, signed, by)
	if err != nil {
		return nil, err
	}
	return openOnline(root, role, raw)
}
