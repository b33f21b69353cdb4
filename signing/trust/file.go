package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// Role is one of the four top-level roles.
type Role string

// The roles.
const (
	RoleRoot      Role = metadata.ROOT
	RoleTargets   Role = metadata.TARGETS
	RoleSnapshot  Role = metadata.SNAPSHOT
	RoleTimestamp Role = metadata.TIMESTAMP
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

// MaxLength returns the length in bytes up to which a metadata file of that role is read: the limits
// that other clients have too. It is 0 for what is no role.
func MaxLength(role Role) int64 {
	switch role {
	case RoleRoot:
		return 512_000
	case RoleTargets:
		return 5_000_000
	case RoleSnapshot, RoleTimestamp:
		return 16_384
	}
	return 0
}

const (
	maxVersion  = 1<<31 - 1
	timeLayout  = "2006-01-02T15:04:05Z"
	issuedField = "issued"
)

// file is one metadata file that was parsed; who signed it is another question.
type file struct {
	role       Role
	raw        []byte // as signed, never re-encoded
	signatures []fileSignature
	version    int64 // 0 while only the signatures have been read
	expires    time.Time
	issued     time.Time

	// meta is what go-tuf reads in the file, a *metadata.Metadata; nil for targets, see parseTargets.
	meta any
}

// fileSignature is an entry of the signatures of a file.
type fileSignature struct {
	Key keys.ID           `json:"keyid"`
	Sig signing.Signature `json:"sig"` // over the signed part

	// Updates are the detached signatures of a cosigner by name, for a list alone.
	Updates json.RawMessage `json:"updates,omitempty"`
}

// name returns how messages call the file: "targets 5".
func (f *file) name() string {
	if f.version == 0 {
		return string(f.role)
	}
	return fmt.Sprintf("%s %d", f.role, f.version)
}

func (f *file) digest() update.Digest { return update.Sum(f.raw) }

const beforeSigned = `,"signed":`

// signed returns the bytes that the signatures are over. It relies on the file being canonical and on
// its signatures having no array inside.
func (f *file) signed() []byte {
	_, signed, _ := bytes.Cut(f.raw, []byte("]"+beforeSigned))
	return signed[:max(len(signed)-1, 0)]
}

// join returns the file that has those signatures over those bytes.
func join(signatures []fileSignature, signed []byte) ([]byte, error) {
	before, err := beforeBytes(signatures)
	return slices.Concat(before, signed, []byte("}")), err
}

// beforeBytes returns what stands before the signed bytes in a file with those signatures.
func beforeBytes(signatures []fileSignature) ([]byte, error) {
	list, err := json.Marshal(signatures)
	return slices.Concat([]byte(`{"signatures":`), list, []byte(beforeSigned)), err
}

// openFile bounds a file, checks its spelling, and reads its signatures alone: what nobody signed is
// read no further.
func openFile(role Role, raw []byte) (*file, error) {
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

func (f *file) readSignatures() error {
	signed := f.signed()
	head := bytes.TrimPrefix(f.raw[:max(len(f.raw)-len(signed)-len(beforeSigned)-1, 0)], []byte(`{"signatures":`))
	if err := json.Unmarshal(head, &f.signatures); err != nil {
		return explain.JSON(head, err)
	}
	before, err := beforeBytes(f.signatures)
	if err != nil || len(before)+len(signed)+len("}") != len(f.raw) || !bytes.HasPrefix(f.raw, before) {
		return errors.New("expected them in their one spelling, then signed, and nothing else")
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

// parse reads the rest of a file of a role other than targets. go-tuf's parser panics on inputs that
// checkCanonical refuses; should it panic on another, that is a refusal too.
func parse[T metadata.Roles](f *file) (signed *T, err error) {
	defer func() {
		if p := recover(); p != nil {
			signed, err = nil, fmt.Errorf("%s: %w: %v", f.role, ErrMalformed, p)
		}
	}()
	meta, err := new(metadata.Metadata[T]).FromBytes(f.raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", f.role, ErrMalformed, f.explain(err))
	}
	if again, err := cjson.EncodeCanonical(meta); err != nil || !bytes.Equal(again, f.raw) {
		return nil, fmt.Errorf("%s: %w: expected the one spelling of its content", f.role, ErrMalformed)
	}
	if err := f.take(headerOf(meta.Signed)); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", f.role, ErrMalformed, err)
	}
	f.meta = meta
	return &meta.Signed, nil
}

// explain says what go-tuf's error about the file means.
func (f *file) explain(err error) error {
	var head struct {
		Type string `json:"_type"`
	}
	if json.Unmarshal(f.signed(), &head) == nil && head.Type != "" && head.Type != string(f.role) {
		return fmt.Errorf("expected a file of the role %s, got one of %.40q", f.role, head.Type)
	}
	return explain.JSON(f.raw, err)
}

// take checks what all roles have in common and takes it over.
func (f *file) take(h header) error {
	issued, err := h.check(f.role)
	if err == nil {
		f.version, f.expires, f.issued = h.version, h.expires, issued
	}
	return err
}

// header is what the signed parts of all roles have in common.
type header struct {
	kind, spec string
	version    int64
	expires    time.Time
	issued     any
}

func headerOf(signed any) header {
	switch s := signed.(type) {
	case metadata.RootType:
		return header{s.Type, s.SpecVersion, s.Version, s.Expires, s.UnrecognizedFields[issuedField]}
	case metadata.SnapshotType:
		return header{s.Type, s.SpecVersion, s.Version, s.Expires, s.UnrecognizedFields[issuedField]}
	case metadata.TimestampType:
		return header{s.Type, s.SpecVersion, s.Version, s.Expires, s.UnrecognizedFields[issuedField]}
	}
	return header{}
}

// check returns the time of issue.
func (h header) check(role Role) (issued time.Time, err error) {
	if h.kind != string(role) {
		return time.Time{}, fmt.Errorf("expected _type %q, got %q", role, h.kind)
	}
	if h.spec != "1.0" && !strings.HasPrefix(h.spec, "1.0.") {
		return time.Time{}, fmt.Errorf("expected spec_version 1.0, got %q", h.spec)
	}
	if h.version < 1 || h.version > maxVersion {
		return time.Time{}, fmt.Errorf("expected a version from 1 to %d, got %d", maxVersion, h.version)
	}
	if _, offset := h.expires.Zone(); offset != 0 || h.expires.Nanosecond() != 0 {
		return time.Time{}, fmt.Errorf("expires: expected a time as %s", timeLayout)
	}
	text, _ := h.issued.(string)
	if issued, err = parseTime(text); err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", issuedField, err)
	}
	if issued.After(h.expires) {
		return time.Time{}, fmt.Errorf("issued %s, after it expires", text)
	}
	return issued, nil
}

// parseTime parses UTC in whole seconds, 2026-01-31T12:00:00Z.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeLayout, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("expected a time as %s, got %q", timeLayout, s)
	}
	if formatTime(t) != s {
		return time.Time{}, fmt.Errorf("expected whole seconds, got %q", s)
	}
	return t, nil
}

func formatTime(t time.Time) string { return t.UTC().Format(timeLayout) }
