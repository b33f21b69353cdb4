package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	maxRoleKeys = 32
	ed25519Name = "ed25519" // of key type and scheme
)

// Root is a root file: which keys each role has, and how many of them must sign. Only this package
// makes one, and each is signed by the threshold of its own root keys.
type Root struct {
	*file
	roles map[Role]Holder
}

// rootContent is the signed part of a root file.
type rootContent struct {
	header
	ConsistentSnapshot bool                        `json:"consistent_snapshot"`
	Keys               map[keys.ID]json.RawMessage `json:"keys"`
	Roles              map[Role]roleContent        `json:"roles"`
}

type roleContent struct {
	KeyIDs    []keys.ID `json:"keyids"`
	Threshold int       `json:"threshold"`
}

// keyContent is a key in a root file. The ID of the key is the SHA-256 of its canonical JSON.
type keyContent struct {
	Type  string `json:"keytype"`
	Value struct {
		Public string `json:"public"`
	} `json:"keyval"`
	Scheme string `json:"scheme"`
}

// Holder says which keys hold a role, and how many of them must sign.
type Holder struct {
	Keys      []keys.Public // in the order in which they were added; at least Threshold of them
	Threshold int           // 0 in a Setup means 1
}

func (h Holder) has(k keys.Public) bool { return slices.Contains(h.Keys, k) }

// ParseRoot parses a root file and verifies that the threshold of its own root keys signed it. The caller must make
// sure that they are the right keys: a person compares the Digest.
func ParseRoot(raw []byte) (*Root, error) {
	r, err := parseRoot(nil, raw)
	if err != nil {
		return nil, err
	}
	if err := r.verify(r.file); err != nil {
		return nil, err
	}
	return r, nil
}

// parseRoot parses a root file without judging thresholds. Unless by is nil, at least one root key of by must have
// signed the file, or nothing but its signatures is read and the error is ErrThreshold.
func parseRoot(by *Root, raw []byte) (*Root, error) {
	f, err := parseFile(RoleRoot, raw)
	if err != nil {
		return nil, err
	}
	if by != nil {
		if err := f.requireSigners(by, 1); err != nil {
			return nil, err
		}
	}
	r := &Root{file: f, roles: map[Role]Holder{}}
	if err := r.readContent(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", r.name(), ErrMalformed, err)
	}
	return r, nil
}

func (r *Root) readContent() error {
	var c rootContent
	if err := r.read(&c, &c.header); err != nil {
		return err
	}
	if !c.ConsistentSnapshot {
		return errors.New("expected consistent_snapshot to be true")
	}
	known := map[keys.ID]keys.Public{}
	for id, raw := range c.Keys {
		k, err := readKey(id, raw)
		if err != nil {
			return fmt.Errorf("key %.16s: %w", id, err)
		}
		known[id] = k
	}
	if len(c.Roles) != len(Roles()) {
		return fmt.Errorf("expected the %d top-level roles, got %d", len(Roles()), len(c.Roles))
	}
	for _, role := range Roles() {
		held, ok := c.Roles[role]
		if !ok {
			return fmt.Errorf("role %s is missing", role)
		}
		h, err := held.open(known)
		if err != nil {
			return fmt.Errorf("role %s: %w", role, err)
		}
		r.roles[role] = h
	}
	return nil
}

func readKey(id keys.ID, raw json.RawMessage) (keys.Public, error) {
	var c keyContent
	if err := json.Unmarshal(raw, &c); err != nil {
		return keys.Public{}, explain.JSON(raw, err)
	}
	if c.Type != ed25519Name || c.Scheme != ed25519Name {
		return keys.Public{}, fmt.Errorf("expected keytype and scheme ed25519, got %.40q and %.40q", c.Type, c.Scheme)
	}
	d, err := update.ParseDigest(c.Value.Public) // 32 bytes have the same one spelling as a digest
	if err != nil {
		return keys.Public{}, err
	}
	k, err := keys.New(d[:])
	if err != nil {
		return keys.Public{}, err
	}
	if k.ID() != id {
		return keys.Public{}, fmt.Errorf("expected the ID %s", k.ID())
	}
	// Other clients may compute the ID over the whole object and refuse a root whose keys have more fields.
	if update.Sum(raw).String() != string(id) {
		return keys.Public{}, errors.New("expected the fields keytype, keyval.public and scheme alone")
	}
	return k, nil
}

func (c roleContent) open(known map[keys.ID]keys.Public) (Holder, error) {
	if n := len(c.KeyIDs); n > maxRoleKeys || c.Threshold < 1 || c.Threshold > n {
		return Holder{}, fmt.Errorf("expected a threshold from 1 to its number of keys, and at most %d keys, got %d of %d", maxRoleKeys, c.Threshold, n)
	}
	h := Holder{Threshold: c.Threshold}
	for _, id := range c.KeyIDs {
		k, ok := known[id]
		if !ok {
			return Holder{}, fmt.Errorf("key %.16s is not listed", id)
		}
		if slices.Contains(h.Keys, k) {
			return Holder{}, fmt.Errorf("key %s stands twice", k)
		}
		h.Keys = append(h.Keys, k)
	}
	return h, nil
}

// newRoot returns a root with those roles that nobody has signed yet. It follows base and keeps its unknown fields;
// nil: it is root 1.
func newRoot(base *Root, at time.Time, roles map[Role]Holder) (*Root, error) {
	version := int64(1)
	old, err := encode(RoleRoot, version, at, map[string]any{"consistent_snapshot": true, "roles": map[Role]any{}})
	if base != nil {
		version, old, err = base.version+1, base.signed, nil
	}
	if err != nil {
		return nil, err
	}
	var before struct {
		Roles map[Role]json.RawMessage `json:"roles"`
	}
	if err := json.Unmarshal(old, &before); err != nil {
		return nil, err
	}
	listed, held := map[keys.ID]keyContent{}, map[Role]json.RawMessage{}
	for role, h := range roles {
		ids := make([]keys.ID, len(h.Keys))
		for i, k := range h.Keys {
			c := keyContent{Type: ed25519Name, Scheme: ed25519Name}
			c.Value.Public = k.Hex()
			ids[i] = k.ID()
			listed[ids[i]] = c
		}
		old := before.Roles[role]
		if old == nil {
			old = json.RawMessage("{}")
		}
		if held[role], err = mergeInto(old, struct{}{}, roleContent{ids, h.Threshold}); err != nil {
			return nil, err
		}
	}
	signed, err := mergeInto(old, struct{}{}, map[string]any{
		"expires": formatTime(RoleRoot.expiry(at)), "issued": formatTime(at), "keys": listed, "roles": held, "version": version,
	})
	if err != nil {
		return nil, err
	}
	raw, err := join([]fileSignature{}, signed)
	if err != nil {
		return nil, err
	}
	return parseRoot(nil, raw)
}

// ranks gives the keys of a role ascending negative numbers in their order, so that a key that is not in the map,
// which reads as 0, sorts last.
func (r *Root) ranks(role Role) map[keys.ID]int {
	held := r.roles[role].Keys
	out := make(map[keys.ID]int, len(held))
	for i, k := range held {
		out[k.ID()] = i - len(held)
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
func (r *Root) Keys(role Role) []keys.Public { return slices.Clone(r.roles[role].Keys) }

// Threshold returns how many keys of a role must sign.
func (r *Root) Threshold(role Role) int { return r.roles[role].Threshold }

// Raw returns the file as signed. The caller must not change it.
func (r *Root) Raw() []byte { return r.raw }

// Digest returns the SHA-256 of the file as signed, the root's fingerprint.
func (r *Root) Digest() update.Digest { return r.digest() }

// requireSigners checks that at least least of the keys that r has for f's role signed f. The error is ErrThreshold.
func (f *file) requireSigners(r *Root, least int) error {
	if len(signers(r, f)) >= least {
		return nil
	}
	name := f.name()
	var claimed header // for the message alone: the content may not be read yet
	if f.version == 0 && json.Unmarshal(f.signed, &claimed) == nil {
		// A genuine file in the place of another is refused for its role, not for its signatures.
		if err := f.checkRole(claimed); err != nil {
			return fmt.Errorf("%s: %w: %w", name, ErrMalformed, err)
		}
		if claimed.Version > 0 {
			name = link{role: f.role, version: claimed.Version}.name()
		}
	}
	return fmt.Errorf("%s: %w: %s", name, ErrThreshold, describeSigners(r, f))
}

// verify checks that enough keys that r has for f's role signed f. The error is ErrThreshold.
func (r *Root) verify(f *file) error { return f.requireSigners(r, r.Threshold(f.role)) }

// signers returns the keys of f's role in r that signed f, in the order of the root.
func signers(r *Root, f *file) []keys.Public {
	var out []keys.Public
	for _, k := range r.roles[f.role].Keys {
		if f.signedBy(k) {
			out = append(out, k)
		}
	}
	return out
}

// describeSigners says, for people, which keys signed f and which could have.
func describeSigners(r *Root, f *file) string {
	good := signers(r, f)
	text := fmt.Sprintf("root %d wants %d of the keys %s, got %d", r.version, r.Threshold(f.role), fingerprints(r.roles[f.role].Keys), len(good))
	for _, s := range f.signatures {
		signedBy := func(k keys.Public) bool { return k.ID() == s.Key }
		if !slices.ContainsFunc(r.roles[f.role].Keys, signedBy) {
			text += fmt.Sprintf("; key %s is not among them", s.Key.Fingerprint())
		} else if !slices.ContainsFunc(good, signedBy) {
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

// openNext reads a root that must follow r; see checkNext.
func (r *Root) openNext(raw []byte) (*Root, error) {
	next, err := parseRoot(r, raw)
	if err != nil {
		return nil, err
	}
	if err := r.checkNext(next); err != nil {
		return nil, err
	}
	return next, nil
}

// checkNext checks that next follows r: its version is one higher, else the error is ErrFork, and the thresholds of
// both signed it, else ErrThreshold (TUF 1.0, 5.3.4 and 5.3.5).
func (r *Root) checkNext(next *Root) error {
	if next.version != r.version+1 {
		return fmt.Errorf("%s: %w: expected root %d", next.name(), ErrFork, r.version+1)
	}
	if err := r.verify(next.file); err != nil {
		return err
	}
	return next.verify(next.file)
}
