package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/internal/verified"
	"github.com/openpowerquality/box-update-server/update"
)

// maxUnpacked bounds the unpacked size of an update in bytes, 16 TiB.
const maxUnpacked = 16 << 40

// KeySignature is a detached signature and the ID of the key that claims to have made it. Readers of a repository
// don't verify it, since metadata signatures cover it; publishing servers do.
type KeySignature struct {
	Key       keys.ID
	Signature signing.Signature
}

// Release is an update as verified metadata list it. Only this package makes one; the zero Release is none.
type Release struct {
	verified   signing.Verified
	published  time.Time
	unpacked   int64
	conditions Conditions
	sigs       []KeySignature
	cosigned   bool            // some of sigs are in signature entries, not in custom
	custom     json.RawMessage // as in the list; only set during an edit; never changed
}

// IsZero reports whether r is the zero Release.
func (r Release) IsZero() bool { return r.verified.IsZero() }

// Verified returns what the metadata vouch for: name, digest, length and digest of the block list.
func (r Release) Verified() signing.Verified { return r.verified }

// Name returns the name of the update.
func (r Release) Name() update.Name { return r.verified.Name() }

// Digest returns the digest of the archive.
func (r Release) Digest() update.Digest { return r.verified.Digest() }

// Length returns the length of the archive in bytes.
func (r Release) Length() int64 { return r.verified.Length() }

// Blocks returns the SHA-256 of the block list.
func (r Release) Blocks() update.Digest { return r.verified.Blocks() }

// Update returns the release as a catalog has it.
func (r Release) Update() update.Update {
	u := update.Update{Name: r.Name(), Digest: r.Digest(), Length: r.Length(), Time: r.published}
	c := r.conditions
	u.Limited = !c.Equal(Conditions{})
	if u.Limited && c.Equal(Conditions{Rollout: c.Rollout}) { // a rollout ends by itself, and nothing else does
		last := c.Rollout.Steps[len(c.Rollout.Steps)-1]
		if last.Percent == 100 && (!c.Rollout.Paused || last.After <= c.Rollout.PausedAt) {
			u.Until = r.published.Add(last.After)
		}
	}
	return u
}

// Published returns the signed time of publishing, from which a rollout counts.
func (r Release) Published() time.Time { return r.published }

// Unpacked returns the size in bytes of the unpacked archive, 0 where the signer didn't say.
func (r Release) Unpacked() int64 { return r.unpacked }

// Conditions returns which boxes the release is for. The caller must not change what it points to.
func (r Release) Conditions() Conditions { return r.conditions }

// ForEveryBox reports whether, at that time, every box may install the release over any version.
func (r Release) ForEveryBox(at time.Time) bool {
	return r.Update().ForEveryBox(at)
}

// Signatures returns the detached signatures. Those by present keys of the root come first, in its order. The first
// one is served as .sig.
func (r Release) Signatures() []KeySignature { return slices.Clone(r.sigs) }

// Signature returns the detached signature by that key, if there is one.
func (r Release) Signature(id keys.ID) (signing.Signature, bool) {
	i := slices.IndexFunc(r.sigs, func(s KeySignature) bool { return s.Key == id })
	if i < 0 {
		return signing.Signature{}, false
	}
	return r.sigs[i].Signature, true
}

// custom holds the fields that this package reads in the custom field of a target. Other fields are ignored, and an
// edit keeps them.
type custom struct {
	Blocks update.Digest `json:"blocks"`
	wireConditions
	Sigs     detached `json:"sigs"`
	Time     string   `json:"time"`
	Unpacked int64    `json:"unpacked"`
	Version  string   `json:"version"`
}

// entry is a target in a targets file. Other fields are ignored.
type entry struct {
	Custom *custom `json:"custom"`
	Hashes oneHash `json:"hashes"`
	Length *int64  `json:"length"`
}

// oneHash is the hashes of a target, which has exactly one, SHA-256. It and detached are not maps, because maps of
// one entry made up two fifths of the cost of reading a full list.
type oneHash update.Digest

// UnmarshalJSON reads canonical JSON.
func (h *oneHash) UnmarshalJSON(b []byte) error {
	hex, named := bytes.CutPrefix(b, []byte(`{"sha256":"`))
	hex, ended := bytes.CutSuffix(hex, []byte(`"}`))
	if !named || !ended {
		return fmt.Errorf("hashes: expected one hash, sha256, got %.100q", b)
	}
	return (*update.Digest)(h).UnmarshalText(hex)
}

// MarshalJSON writes canonical JSON.
func (h oneHash) MarshalJSON() ([]byte, error) {
	return []byte(`{"sha256":"` + update.Digest(h).String() + `"}`), nil
}

// detached holds the detached signatures of a custom field in the order of their key IDs.
type detached []KeySignature

// UnmarshalJSON reads canonical JSON.
func (d *detached) UnmarshalJSON(b []byte) error {
	*d = nil
	inner, begun := bytes.CutPrefix(b, []byte("{"))
	inner, ended := bytes.CutSuffix(inner, []byte("}"))
	if !begun || !ended {
		return fmt.Errorf("sigs: expected an object, got %.100q", b)
	}
	if len(inner) == 0 {
		return nil
	}
	for member := range bytes.SplitSeq(inner, []byte(",")) { // neither key nor value has a comma
		if len(*d) == maxRoleKeys {
			return fmt.Errorf("expected at most %d sigs", maxRoleKeys)
		}
		key, text, _ := bytes.Cut(member, []byte(`":"`))
		id, err := keys.ParseID(strings.TrimPrefix(string(key), `"`))
		if err != nil {
			return err
		}
		sig := KeySignature{Key: id}
		if err := sig.Signature.UnmarshalText(bytes.TrimSuffix(text, []byte(`"`))); err != nil {
			return err
		}
		*d = append(*d, sig)
	}
	return nil
}

// MarshalJSON writes canonical JSON.
func (d detached) MarshalJSON() ([]byte, error) {
	m := make(map[keys.ID]signing.Signature, len(d))
	for _, s := range d {
		m[s.Key] = s.Signature
	}
	return json.Marshal(m)
}

// release reads an entry, without the signatures of cosigners. The error is errImpossible for an entry that no
// archive can match.
func (e entry) release(path string) (Release, error) {
	name, err := update.ParseName(path)
	if err != nil {
		return Release{}, err
	}
	digest := update.Digest(e.Hashes)
	if digest.IsZero() || e.Length == nil || e.Custom == nil {
		return Release{}, fmt.Errorf("%v: expected length, one hash, sha256, and custom", name)
	}
	if *e.Length < 0 || *e.Length > update.MaxLength {
		return Release{}, fmt.Errorf("%v: expected a length from 0 to %d, got %d", name, int64(update.MaxLength), *e.Length)
	}
	r, err := e.Custom.open(name)
	if err != nil {
		return Release{}, fmt.Errorf("%v: custom: %w", name, err)
	}
	claim := verified.Claim{Name: name, Digest: digest, Length: *e.Length, Blocks: e.Custom.Blocks}
	if err := checkPossible(claim); err != nil {
		return Release{}, err
	}
	r.verified, err = verified.New(claim)
	return r, err
}

// errImpossible says that a list has an entry that no archive can match.
var errImpossible = errors.New("no archive can be this")

// checkPossible refuses, with errImpossible, a claim that contradicts itself, as far as that shows without the
// archive: an archive without bytes has one digest, and the digest of an archive of at most one block determines its
// block list.
func checkPossible(c verified.Claim) error {
	if empty := update.Sum(nil); (c.Length == 0) != (c.Digest == empty) {
		return fmt.Errorf("%v: %w: an archive of 0 bytes has digest %v and no other has, got length %d and digest %v", c.Name, errImpossible, empty, c.Length, c.Digest)
	}
	if c.Length > update.BlockSize {
		return nil
	}
	var blocks update.Blocks
	if c.Length > 0 {
		blocks = update.Blocks{c.Digest}
	}
	if want := update.Sum(blocks.Bytes()); c.Blocks != want {
		return fmt.Errorf("%v: %w: the block list of %d bytes with digest %v has digest %v, got %v", c.Name, errImpossible, c.Length, c.Digest, want, c.Blocks)
	}
	return nil
}

// newRelease makes a release for an edit.
func newRelease(name update.Name, digest update.Digest, length int64, raw json.RawMessage) (Release, error) {
	var c custom
	if err := json.Unmarshal(raw, &c); err != nil {
		return Release{}, fmt.Errorf("%v: custom: %w", name, err)
	}
	r, err := entry{&c, oneHash(digest), &length}.release(name.String())
	r.custom = raw
	return r, err
}

func (c custom) open(name update.Name) (r Release, err error) {
	if c.Version != name.Version().String() {
		return Release{}, fmt.Errorf("expected version %q, that of the name, got %.40q", name.Version(), c.Version)
	}
	if c.Blocks.IsZero() {
		return Release{}, errors.New("expected blocks, the digest of the block list")
	}
	if c.Unpacked < 0 || c.Unpacked > maxUnpacked {
		return Release{}, fmt.Errorf("expected unpacked from 0 to %d, got %d", int64(maxUnpacked), c.Unpacked)
	}
	if r.published, err = parseTime(c.Time); err != nil {
		return Release{}, fmt.Errorf("time: %w", err)
	}
	if r.conditions, err = c.wireConditions.open(); err != nil {
		return Release{}, err
	}
	r.sigs = c.Sigs
	r.unpacked = c.Unpacked
	return r, nil
}

// edited returns the release with its custom field changed. Fields of custom that this package doesn't know stay.
func (r Release) edited(change func(*custom)) (Release, error) {
	var c custom
	if err := json.Unmarshal(r.custom, &c); err != nil {
		return Release{}, err
	}
	was := c
	change(&c)
	raw, err := mergeInto(r.custom, was, c)
	if err != nil {
		return Release{}, err
	}
	return newRelease(r.Name(), r.Digest(), r.Length(), raw)
}
