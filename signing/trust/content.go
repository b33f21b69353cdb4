package trust

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
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

// MaxUpdates bounds how many updates one repository lists.
const MaxUpdates = 2000

// listContent is the signed part of a targets file.
type listContent struct {
	header
	Delegations json.RawMessage  `json:"delegations"`
	Targets     map[string]entry `json:"targets"`
}

// readTargets reads the content of a list. It puts the detached signatures in the order of root.
func (f *file) readTargets(root *Root) error {
	var c listContent
	if err := f.read(&c, &c.header); err != nil {
		return err
	}
	if c.Delegations != nil {
		return errors.New("expected no delegations")
	}
	if c.Targets == nil {
		return errors.New("expected targets")
	}
	cosigned, err := readCosigned(f.signatures)
	if err != nil {
		return err
	}
	rank := root.ranks(RoleTargets)
	f.releases = make([]Release, 0, len(c.Targets))
	for path, e := range c.Targets {
		r, err := e.release(path)
		if errors.Is(err, errImpossible) {
			// Only this entry is left out, which is safe because no archive can match it. Refusing the whole list
			// would keep every box that meets it from later updates too, and its signer from signing a better list.
			f.impossible = append(f.impossible, err)
			delete(cosigned, path)
			continue
		}
		if err != nil {
			return err
		}
		r.sigs, r.cosigned = append(r.sigs, cosigned[path]...), len(cosigned[path]) > 0
		delete(cosigned, path)
		if err := sortSignatures(rank, r.sigs); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		f.releases = append(f.releases, r)
	}
	for path := range cosigned {
		return fmt.Errorf("%s: has a detached signature and is not listed", path)
	}
	// They are nearly in order. slices.SortFunc would make boxup 15 kB larger.
	sort.Slice(f.releases, func(i, j int) bool { return compareReleases(f.releases[i], f.releases[j]) < 0 })
	return nil
}

// releasesToEdit returns the releases of a list by name, with their custom fields exactly as they are in the file.
func (f *file) releasesToEdit() (map[update.Name]Release, error) {
	var l struct {
		Targets map[string]struct {
			Custom json.RawMessage `json:"custom"`
		} `json:"targets"`
	}
	if err := json.Unmarshal(f.signed, &l); err != nil {
		return nil, err
	}
	out := byName(f.releases)
	for name, r := range out {
		r.custom = l.Targets[name.String()].Custom
		out[name] = r
	}
	return out, nil
}

// encodeList returns the signed part of a targets file.
func encodeList(version int64, at time.Time, releases map[update.Name]Release) ([]byte, error) {
	entries := make(map[string]any, len(releases))
	for name, r := range releases {
		entries[name.String()] = map[string]any{"custom": r.custom, "hashes": oneHash(r.Digest()), "length": r.Length()}
	}
	return encode(RoleTargets, version, at, map[string]any{"targets": entries})
}

func compareReleases(a, b Release) int {
	return a.Name().CompareByVersion(b.Name())
}

// readCosigned collects the detached signatures that cosigners carry in their own signature entries,
// by path.
func readCosigned(sigs []fileSignature) (map[string][]KeySignature, error) {
	out := map[string][]KeySignature{}
	for _, s := range sigs {
		if s.Updates == nil {
			continue
		}
		updates := map[string]signing.Signature{}
		if err := json.Unmarshal(s.Updates, &updates); err != nil {
			return nil, fmt.Errorf("updates of key %s: %w", s.Key.Fingerprint(), err)
		}
		for path, sig := range updates {
			out[path] = append(out[path], KeySignature{s.Key, sig})
		}
	}
	return out, nil
}

// sortSignatures sorts by rank, then by key ID, and refuses two signatures by one key.
func sortSignatures(rank map[keys.ID]int, sigs []KeySignature) error {
	// There are only a few. slices.SortFunc would make boxup 15 kB larger.
	sort.Slice(sigs, func(i, j int) bool {
		a, b := sigs[i].Key, sigs[j].Key
		return cmp.Or(cmp.Compare(rank[a], rank[b]), cmp.Compare(a, b)) < 0
	})
	for i := 1; i < len(sigs); i++ {
		if sigs[i].Key == sigs[i-1].Key {
			return fmt.Errorf("two detached signatures by key %s", sigs[i].Key.Fingerprint())
		}
	}
	return nil
}

// verifyDetached verifies the detached signatures by keys that root still has and ignores the others.
func verifyDetached(root *Root, releases []Release) error {
	held := map[keys.ID]keys.Public{}
	for _, k := range root.roles[RoleTargets].Keys {
		held[k.ID()] = k
	}
	for _, r := range releases {
		for _, s := range r.sigs {
			k, ok := held[s.Key]
			if !ok {
				continue
			}
			if _, err := signing.Open(r.Digest(), r.Name(), s.Signature, k); err != nil {
				return fmt.Errorf("detached signature: %w", err)
			}
		}
	}
	return nil
}
