package trust

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/update"
)

const maxRoleKeys = 32

// Root is a root file: which keys each role has, and how many of them must sign. Only this package
// makes one, and each is signed by the threshold of its own root keys.
type Root struct {
	*file
	signedRoot *metadata.RootType
	roles      map[Role]holders
}

// holders are the keys of a role.
type holders struct {
	keys      []keys.Public // in the order in which they were added
	threshold int
}

func (h holders) find(id keys.ID) (keys.Public, bool) {
	i := slices.IndexFunc(h.keys, func(k keys.Public) bool { return k.ID() == id })
	if i < 0 {
		return keys.Public{}, false
	}
	return h.keys[i], true
}

// ParseRoot parses a root file and verifies that the threshold of its own root keys signed it. Whether
// those keys are the right ones is for the caller to know: a person compares the Digest.
func ParseRoot(raw []byte) (*Root, error) {
	r, err := parseRoot(nil, raw)
	if err != nil {
		return nil, err
	}
	if err := verify(r, r.file); err != nil {
		return nil, err
	}
	return r, nil
}

// parseRoot leaves thresholds unjudged, but reads no more than the signatures of a file that no root key
// of by signed, unless by is nil.
func parseRoot(by *Root, raw []byte) (*Root, error) {
	f, err := openFile(RoleRoot, raw)
	if err != nil {
		return nil, err
	}
	if by != nil && len(signers(by, f)) == 0 {
		return nil, fmt.Errorf("root: %w: %s", ErrThreshold, describeSigners(by, f))
	}
	signed, err := parse[metadata.RootType](f)
	if err != nil {
		return nil, err
	}
	r := &Root{file: f, signedRoot: signed, roles: map[Role]holders{}}
	if err := r.readRoles(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", r.name(), ErrMalformed, err)
	}
	return r, nil
}

func (r *Root) readRoles() error {
	s := r.signedRoot
	if !s.ConsistentSnapshot {
		return errors.New("expected consistent_snapshot to be true")
	}
	known := map[string]keys.Public{}
	for id, k := range s.Keys {
		p, err := readKey(id, k)
		if err != nil {
			return err
		}
		known[id] = p
	}
	if len(s.Roles) != len(Roles()) {
		return fmt.Errorf("expected the %d top-level roles, got %d", len(Roles()), len(s.Roles))
	}
	for _, role := range Roles() {
		h, err := readHolders(s.Roles[string(role)], known)
		if err != nil {
			return fmt.Errorf("role %s: %w", role, err)
		}
		r.roles[role] = h
	}
	return nil
}

func readKey(id string, k *metadata.Key) (keys.Public, error) {
	if k.Type != metadata.KeyTypeEd25519 || k.Scheme != metadata.KeySchemeEd25519 {
		return keys.Public{}, fmt.Errorf("key %.16s: expected keytype and scheme ed25519, got %.40q and %.40q", id, k.Type, k.Scheme)
	}
	if len(k.UnrecognizedFields)+len(k.Value.UnrecognizedFields) > 0 {
		return keys.Public{}, fmt.Errorf("key %.16s: expected the fields keytype, keyval.public and scheme alone", id)
	}
	d, err := update.ParseDigest(k.Value.PublicKey) // 32 bytes in the one spelling, as a digest is
	if err != nil {
		return keys.Public{}, fmt.Errorf("key %.16s: %w", id, err)
	}
	p, err := keys.New(d[:])
	if err != nil {
		return keys.Public{}, fmt.Errorf("key %.16s: %w", id, err)
	}
	if string(p.ID()) != id {
		return keys.Public{}, fmt.Errorf("key %.16s: expected the ID %s", id, p.ID())
	}
	return p, nil
}

func readHolders(role *metadata.Role, known map[string]keys.Public) (holders, error) {
	if role == nil {
		return holders{}, errors.New("is missing")
	}
	if n := len(role.KeyIDs); n > maxRoleKeys || role.Threshold < 1 || role.Threshold > n {
		return holders{}, fmt.Errorf("expected a threshold from 1 to its number of keys, and at most %d keys, got %d of %d", maxRoleKeys, role.Threshold, n)
	}
	h := holders{threshold: role.Threshold}
	for _, id := range role.KeyIDs {
		k, ok := known[id]
		if !ok {
			return holders{}, fmt.Errorf("key %.16s is not listed", id)
		}
		if slices.Contains(h.keys, k) {
			return holders{}, fmt.Errorf("key %s stands twice", k)
		}
		h.keys = append(h.keys, k)
	}
	return h, nil
}

// ranks numbers the keys of a role so that the first has the lowest number and all are below 0, the
// number of keys that are not in it.
func (r *Root) ranks(role Role) map[keys.ID]int {
	ks := r.roles[role].keys
	out := make(map[keys.ID]int, len(ks))
	for i, k := range ks {
		out[k.ID()] = i - len(ks)
	}
	return out
}

// Version returns the number of the root.
func (r *Root) Version() int64 { return r.version }

// Expires returns when the root expires.
func (r *Root) Expires() time.Time { return r.expires }

// Issued returns when the root was signed, by the signer's clock.
func (r *Root) Issued() time.Time { return r.issued }

// Keys returns the keys of a role in the order in which they were added.
func (r *Root) Keys(role Role) []keys.Public { return slices.Clone(r.roles[role].keys) }

// Threshold returns how many keys of a role must sign.
func (r *Root) Threshold(role Role) int { return r.roles[role].threshold }

// Raw returns the file as signed. The caller must not change it.
func (r *Root) Raw() []byte { return r.raw }

// Digest returns the SHA-256 of the file as signed, the root's fingerprint.
func (r *Root) Digest() update.Digest { return r.digest() }

// verify checks that the threshold of the keys that r has for f's role signed f.
func verify(r *Root, f *file) error {
	if len(signers(r, f)) < r.Threshold(f.role) {
		return fmt.Errorf("%s: %w: %s", f.name(), ErrThreshold, describeSigners(r, f))
	}
	if f.meta == nil {
		return nil
	}
	root, ok := r.meta.(*metadata.Metadata[metadata.RootType])
	if !ok {
		return fmt.Errorf("%s: %w: no root", f.name(), ErrThreshold)
	}
	if err := root.VerifyDelegate(string(f.role), f.meta); err != nil {
		return fmt.Errorf("%s: %w: %w", f.name(), ErrThreshold, err)
	}
	return nil
}

// signers returns the keys of f's role in r that signed f, in the order of the root.
func signers(r *Root, f *file) []keys.Public {
	var out []keys.Public
	for _, k := range r.roles[f.role].keys {
		i := slices.IndexFunc(f.signatures, func(s fileSignature) bool { return s.Key == k.ID() })
		if i >= 0 && k.Verify(f.signed(), f.signatures[i].Sig[:]) {
			out = append(out, k)
		}
	}
	return out
}

// describeSigners says for people which keys signed and which could have.
func describeSigners(r *Root, f *file) string {
	good := signers(r, f)
	text := fmt.Sprintf("root %d wants %d of the keys %s, got %d", r.version, r.Threshold(f.role), fingerprints(r.roles[f.role].keys), len(good))
	for _, s := range f.signatures {
		if _, ok := r.roles[f.role].find(s.Key); !ok {
			text += fmt.Sprintf("; key %s is not among them", s.Key.Fingerprint())
		} else if !slices.ContainsFunc(good, func(k keys.Public) bool { return k.ID() == s.Key }) {
			text += fmt.Sprintf("; the signature by key %s does not fit", s.Key.Fingerprint())
		}
	}
	return text
}

func fingerprints(ks []keys.Public) string {
	names := make([]string, len(ks))
	for i, k := range ks {
		names[i] = k.Fingerprint()
	}
	return strings.Join(names, ", ")
}

// verifyRootChain checks that next follows r: one version on, signed by the thresholds of both.
func verifyRootChain(r, next *Root) error {
	if next.version != r.version+1 {
		return fmt.Errorf("%s: %w: expected root %d", next.name(), ErrFork, r.version+1)
	}
	if err := verify(r, next.file); err != nil {
		return err
	}
	return verify(next, next.file)
}
