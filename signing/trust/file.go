package trust

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// Role is one of the four top-level roles.
type Role string

// The roles.
const (
	RoleRoot      Role = "root"
	RoleTargets   Role = "targets"
	RoleSnapshot  Role = "snapshot"
	RoleTimestamp Role = "timestamp"
)

// Roles returns the four roles, root first.
func Roles() []Role { return []Role{RoleRoot, RoleTargets, RoleSnapshot, RoleTimestamp} }

// TimestampName is the one metadata file whose name has no version.
const TimestampName = "timestamp.json"

// FileName returns the name of a metadata file: N.root.json, N.targets.json, N.snapshot.json or
// timestamp.json.
func FileName(role Role, version int64) string {
	if role == RoleTimestamp {
		return TimestampName
	}
	return fmt.Sprintf("%d.%s.json", version, role)
}

// ParseFileName parses what FileName returns; the version of timestamp.json is 0.
func ParseFileName(name string) (role Role, version int64, ok bool) {
	if name == TimestampName {
		return RoleTimestamp, 0, true
	}
	number, rest, _ := strings.Cut(name, ".")
	version, err := strconv.ParseInt(number, 10, 32)
	role = Role(strings.TrimSuffix(rest, ".json"))
	if err != nil || version < 1 || MaxLength(role) == 0 || FileName(role, version) != name {
		return "", 0, false
	}
	return role, version, true
}

// The lifetimes of signed metadata.
const (
	RootLife      = 365 * 24 * time.Hour
	TargetsLife   = 365 * 24 * time.Hour
	SnapshotLife  = 30 * 24 * time.Hour
	TimestampLife = 7 * 24 * time.Hour
)

// traits is what differs between the roles; the zero traits are those of an unknown role.
type traits struct {
	maxLength int64 // of a file in bytes; other TUF clients have the same limits
	life      time.Duration
	names     Role // the role of the file that a file of this one names in its meta
}

func (r Role) traits() traits {
	switch r {
	case RoleRoot:
		return traits{512_000, RootLife, ""}
	case RoleTargets:
		return traits{5_000_000, TargetsLife, ""}
	case RoleSnapshot:
		return traits{16_384, SnapshotLife, RoleTargets}
	case RoleTimestamp:
		return traits{16_384, TimestampLife, RoleSnapshot}
	}
	return traits{}
}

// MaxLength returns the maximum length in bytes of a metadata file of that role, 0 for an unknown role.
func MaxLength(role Role) int64 { return role.traits().maxLength }

const (
	maxVersion  = 1<<31 - 1
	specVersion = "1.0.31" // of The Update Framework; any 1.0 is read
	timeLayout  = "2006-01-02T15:04:05Z"
)

// file is a metadata file whose signatures were read; see openFile and Root.
type file struct {
	role       Role
	raw        []byte // as signed, never re-encoded
	signed     []byte // the part of raw that the signatures are over
	signatures []fileSignature

	// The content, zero until it is read.
	version         int64
	expires, issued time.Time
	names           link      // the file that a timestamp or a snapshot names
	releases        []Release // of a list, in the order of the catalog
	impossible      []error   // why entries of a list were left out of releases

	verified sync.Map // from keys.Public to bool: whether that key signed the file; filled by signedBy
}

// fileSignature is an entry of the signatures of a file.
type fileSignature struct {
	Key keys.ID           `json:"keyid"`
	Sig signing.Signature `json:"sig"` // over the signed part

	// Updates holds a cosigner's detached signatures by name. Only a list has it.
	Updates json.RawMessage `json:"updates,omitempty"`
}

// header holds the fields that the signed parts of all roles have in common.
type header struct {
	Type    Role   `json:"_type"`
	Expires string `json:"expires"`
	Issued  string `json:"issued"`
	Spec    string `json:"spec_version"`
	Version int64  `json:"version"`
}

// name returns the name of the file for messages, such as "targets 5".
func (f *file) name() string {
	if f.version == 0 {
		return string(f.role)
	}
	return fmt.Sprintf("%s %d", f.role, f.version)
}

func (f *file) digest() update.Digest { return update.Sum(f.raw) }

// signedBy reports whether k signed the file. Each signature is verified once, however many roots judge the file: the
// root decides which keys count, but not whether a signature is valid.
func (f *file) signedBy(k keys.Public) bool {
	if valid, ok := f.verified.Load(k); ok {
		return valid == true
	}
	id := k.ID()
	i := slices.IndexFunc(f.signatures, func(s fileSignature) bool { return s.Key == id })
	valid := i >= 0 && k.Verify(f.signed, f.signatures[i].Sig[:])
	f.verified.Store(k, valid)
	return valid
}

// parseFile checks length and spelling of a file and reads its signatures, but not yet its content.
func parseFile(role Role, raw []byte) (*file, error) {
	if limit := MaxLength(role); int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", role, ErrMalformed, limit)
	}
	if err := checkCanonical(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	f := &file{role: role, raw: raw}
	if err := f.readSignatures(); err != nil {
		return nil, fmt.Errorf("%s: %w: signatures: %w", role, ErrMalformed, err)
	}
	return f, nil
}

// openFile reads a timestamp, a snapshot or a list. If fewer than least of the keys that root has for its role signed
// it, nothing but the signatures is read, and the error is ErrThreshold.
func openFile(root *Root, role Role, raw []byte, least int) (*file, error) {
	f, err := parseFile(role, raw)
	if err != nil {
		return nil, err
	}
	if err := f.requireSigners(root, least); err != nil {
		return nil, err
	}
	read := f.readMeta
	if role == RoleTargets {
		read = func() error { return f.readTargets(root) }
	}
	if err := read(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", f.name(), ErrMalformed, err)
	}
	return f, nil
}

// The bytes around the signatures and the signed part of a file.
const (
	beforeSignatures = `{"signatures":`
	beforeSigned     = `,"signed":`
	afterSigned      = `}`
)

// readSignatures splits f.raw, which must be canonical, into its signatures and its signed part.
func (f *file) readSignatures() error {
	// No signature contains an array, so the first array that ends is that of the signatures.
	end := bytes.Index(f.raw, []byte("]"+beforeSigned)) + len("]")
	if end < len(beforeSignatures) || !bytes.HasPrefix(f.raw, []byte(beforeSignatures)) {
		return errors.New("expected them first, and then what is signed")
	}
	list := f.raw[len(beforeSignatures):end]
	f.signed = f.raw[end+len(beforeSigned) : len(f.raw)-len(afterSigned)]
	if err := json.Unmarshal(list, &f.signatures); err != nil {
		return explain.JSON(list, err)
	}
	if again, err := json.Marshal(f.signatures); err != nil || !bytes.Equal(again, list) {
		return errors.New("expected them in their one spelling")
	}
	seen := map[keys.ID]bool{}
	for _, s := range f.signatures {
		if s.Key == "" || s.Sig.IsZero() || seen[s.Key] {
			return fmt.Errorf("expected each key once, with its signature, got %.16q", s.Key)
		}
		if s.Updates != nil && f.role != RoleTargets {
			return errors.New("expected no updates, which belong in a list")
		}
		seen[s.Key] = true
	}
	return nil
}

// join returns the file with those signatures over signed.
func join(signatures []fileSignature, signed []byte) ([]byte, error) {
	list, err := json.Marshal(signatures)
	return slices.Concat([]byte(beforeSignatures), list, []byte(beforeSigned), signed, []byte(afterSigned)), err
}

// read reads the signed part into content, a pointer to a struct that holds h, checks the fields that all roles have
// in common, and copies them to f. Each field is parsed strictly, so that with checkCanonical no second spelling is
// left.
func (f *file) read(content any, h *header) error {
	err := json.Unmarshal(f.signed, content)
	if err := f.checkRole(*h); err != nil {
		return err // whatever else does not fit
	}
	if err != nil {
		return explain.JSON(f.signed, err)
	}
	if h.Spec != "1.0" && !strings.HasPrefix(h.Spec, "1.0.") {
		return fmt.Errorf("expected spec_version 1.0, got %.40q", h.Spec)
	}
	if h.Version < 1 || h.Version > maxVersion {
		return fmt.Errorf("expected a version from 1 to %d, got %d", maxVersion, h.Version)
	}
	expires, err := parseTime(h.Expires)
	if err != nil {
		return fmt.Errorf("expires: %w", err)
	}
	issued, err := parseTime(h.Issued)
	if err != nil {
		return fmt.Errorf("issued: %w", err)
	}
	if issued.After(expires) {
		return fmt.Errorf("issued %s, after it expires", h.Issued)
	}
	f.version, f.expires, f.issued = h.Version, expires, issued
	return nil
}

// checkRole refuses a file whose signed part is one of another role.
func (f *file) checkRole(h header) error {
	if h.Type != f.role {
		return fmt.Errorf("expected a file of the role %s, got one of %.40q", f.role, h.Type)
	}
	return nil
}

// parseTime parses UTC in whole seconds, 2026-01-31T12:00:00Z.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeLayout, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("expected a time as %s, got %.40q", timeLayout, s)
	}
	if formatTime(t) != s {
		return time.Time{}, fmt.Errorf("expected whole seconds, got %.40q", s)
	}
	return t, nil
}

func formatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// expiry returns when a file of the role expires that is signed at that time.
func (r Role) expiry(at time.Time) time.Time {
	return at.UTC().Truncate(time.Second).Add(r.traits().life)
}

// encode returns the signed part of a new file in canonical JSON: the fields that all roles have in common, and those
// in more.
func encode(role Role, version int64, at time.Time, more map[string]any) ([]byte, error) {
	content := map[string]any{
		"_type": role, "expires": formatTime(role.expiry(at)), "issued": formatTime(at), "spec_version": specVersion, "version": version,
	}
	maps.Copy(content, more)
	return canonical(content)
}

// sign signs with those signers whose key root has for the role, and returns old with their signatures
// in place of those by the same keys. updates goes into the new entries.
func sign(ctx context.Context, root *Root, role Role, signed []byte, old []fileSignature, by []signing.Signer, updates json.RawMessage) ([]fileSignature, error) {
	out := slices.Clone(old)
	for _, s := range by {
		if !root.roles[role].has(s.Public()) {
			continue
		}
		id := s.Public().ID()
		sig, err := s.Sign(ctx, signed)
		if err != nil {
			return nil, fmt.Errorf("sign %s with key %s: %w", role, id.Fingerprint(), err)
		}
		if !s.Public().Verify(signed, sig[:]) {
			return nil, fmt.Errorf("sign %s with key %s: the signer returned what its key does not verify", role, id.Fingerprint())
		}
		out = slices.DeleteFunc(out, func(s fileSignature) bool { return s.Key == id })
		out = append(out, fileSignature{id, sig, updates})
	}
	return out, nil
}

// signFile returns the file with that signed part, signed by the signers that sign chooses.
func signFile(ctx context.Context, root *Root, role Role, signed []byte, by []signing.Signer) ([]byte, error) {
	sigs, err := sign(ctx, root, role, signed, []fileSignature{}, by, nil)
	if err != nil {
		return nil, err
	}
	return join(sigs, signed)
}
