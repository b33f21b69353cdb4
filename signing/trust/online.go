package trust

import (
	"fmt"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/openpowerquality/box-update-server/update"
)

// link is what a timestamp says of a snapshot, and a snapshot of a targets file.
type link struct {
	role    Role // of the file that is named
	version int64
	length  int64
	digest  update.Digest
}

func (l link) name() string { return fmt.Sprintf("%s %d", l.role, l.version) }

// fits checks the bytes alone; the version is checked where they are parsed.
func (l link) fits(raw []byte) error {
	if got := update.Sum(raw); int64(len(raw)) != l.length || got != l.digest {
		return fmt.Errorf("%s: %w: expected %d bytes with digest %v, got %d with %v", l.name(), ErrMismatch, l.length, l.digest, len(raw), got)
	}
	return nil
}

// meta returns the link in the form that stands in metadata.
func (l link) meta() map[string]*metadata.MetaFiles {
	m := metadata.MetaFile(l.version)
	m.Length, m.Hashes = l.length, hashes(l.digest)
	return map[string]*metadata.MetaFiles{string(l.role) + ".json": m}
}

func linkTo(f *file) link {
	return link{f.role, f.version, int64(len(f.raw)), f.digest()}
}

func hashes(d update.Digest) metadata.Hashes { return metadata.Hashes{"sha256": d[:]} }

// readHashes wants exactly one SHA-256.
func readHashes(h metadata.Hashes) (update.Digest, error) {
	var d update.Digest
	if len(h) != 1 || len(h["sha256"]) != len(d) {
		return d, fmt.Errorf("expected one hash, sha256")
	}
	return update.Digest(h["sha256"]), nil
}

// timestamp is a timestamp file; next is the snapshot that it names.
type timestamp struct {
	*file
	next link
}

// snapshot is a snapshot file; next is the targets file that it names.
type snapshot struct {
	*file
	next link
}

func parseTimestamp(raw []byte) (*timestamp, error) {
	f, err := openFile(RoleTimestamp, raw)
	if err != nil {
		return nil, err
	}
	signed, err := parse[metadata.TimestampType](f)
	if err != nil {
		return nil, err
	}
	next, err := readLink(RoleSnapshot, signed.Meta)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", f.name(), ErrMalformed, err)
	}
	return &timestamp{f, next}, nil
}

func parseSnapshot(raw []byte) (*snapshot, error) {
	f, err := openFile(RoleSnapshot, raw)
	if err != nil {
		return nil, err
	}
	signed, err := parse[metadata.SnapshotType](f)
	if err != nil {
		return nil, err
	}
	next, err := readLink(RoleTargets, signed.Meta)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", f.name(), ErrMalformed, err)
	}
	return &snapshot{f, next}, nil
}

func readLink(role Role, meta map[string]*metadata.MetaFiles) (link, error) {
	m := meta[string(role)+".json"]
	if len(meta) != 1 || m == nil {
		return link{}, fmt.Errorf("meta: expected %s.json alone", role)
	}
	d, err := readHashes(m.Hashes)
	if err != nil {
		return link{}, fmt.Errorf("meta: %s.json: %w", role, err)
	}
	if m.Version < 1 || m.Version > maxVersion || m.Length < 1 || m.Length > MaxLength(role) {
		return link{}, fmt.Errorf("meta: %s.json: expected a version from 1 to %d and a length from 1 to %d, got %d and %d", role, maxVersion, MaxLength(role), m.Version, m.Length)
	}
	return link{role, m.Version, m.Length, d}, nil
}
