package trust

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// MaxUpdates bounds how many updates one repository lists.
const MaxUpdates = 2000

// targets is a targets file and what it lists, ascending as a catalog.
type targets struct {
	*file
	releases []Release
}

// wireTargets is the form of a targets file. It is read and written here and not by go-tuf, which takes ten
// times as long and as much memory for a full one: a box reads it at every start. The strictness of
// each field, on top of checkCanonical, leaves no second spelling.
type wireTargets struct {
	Signatures []metadata.Signature `json:"signatures"`
	Signed     struct {
		Delegations json.RawMessage  `json:"delegations"`
		Expires     string           `json:"expires"`
		Issued      string           `json:"issued"`
		Spec        string           `json:"spec_version"`
		Targets     map[string]entry `json:"targets"`
		Type        string           `json:"_type"`
		Version     int64            `json:"version"`
	} `json:"signed"`
}

// parseTargets reads a targets file. The order of detached signatures is that of root.
func parseTargets(root *Root, raw []byte) (*targets, error) {
	if err := checkRaw(RoleTargets, raw); err != nil {
		return nil, err
	}
	t := &targets{file: &file{role: RoleTargets, raw: raw}}
	if err := t.read(root); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", t.name(), ErrMalformed, err)
	}
	return t, nil
}

func (t *targets) read(root *Root) error {
	var l wireTargets
	if err := json.Unmarshal(t.raw, &l); err != nil {
		return err
	}
	if again, err := join(l.Signatures, t.signed()); err != nil || !bytes.Equal(again, t.raw) {
		return errors.New("expected signatures in their one spelling, then signed, and nothing else")
	}
	s := l.Signed
	expires, err := parseTime(s.Expires)
	if err != nil {
		return fmt.Errorf("expires: %w", err)
	}
	t.signatures = l.Signatures
	if err := t.check(header{s.Type, s.Spec, s.Version, expires, s.Issued}); err != nil {
		return err
	}
	if s.Delegations != nil {
		return errors.New("expected no delegations")
	}
	if s.Targets == nil || len(s.Targets) > MaxUpdates {
		return fmt.Errorf("%w: expected targets, at most %d, got %d", ErrTooMany, MaxUpdates, len(s.Targets))
	}
	return t.readReleases(root, s.Targets)
}

func (t *targets) readReleases(root *Root, entries map[string]entry) error {
	cosigned, err := readCosigned(t.signatures)
	if err != nil {
		return err
	}
	rank := root.ranks(RoleTargets)
	t.releases = make([]Release, 0, len(entries))
	for path, e := range entries {
		r, err := readRelease(path, e)
		if err != nil {
			return err
		}
		r.sigs, r.cosigned = append(r.sigs, cosigned[path]...), len(cosigned[path]) > 0
		delete(cosigned, path)
		if err := sortSignatures(rank, r.sigs); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		t.releases = append(t.releases, r)
	}
	for path := range cosigned {
		return fmt.Errorf("%s: has a detached signature and is not listed", path)
	}
	slices.SortFunc(t.releases, compareReleases)
	return nil
}

// encodeList returns the signed part of a targets file.
func encodeList(version int64, at time.Time, releases map[update.Name]Release) ([]byte, error) {
	entries := make(map[string]entry, len(releases))
	for name, r := range releases {
		length := r.Length()
		entries[name.String()] = entry{r.custom, map[string]update.Digest{"sha256": r.Digest()}, &length}
	}
	return cjson.EncodeCanonical(map[string]any{
		"_type": RoleTargets, "expires": formatTime(expiry(at, TargetsLife)), issuedField: formatTime(at),
		"spec_version": metadata.SPECIFICATION_VERSION, "targets": entries, "version": version,
	})
}

func compareReleases(a, b Release) int {
	return cmp.Or(a.Name().Version().Compare(b.Name().Version()), a.Name().Compare(b.Name()))
}

// readCosigned collects the detached signatures that cosigners carry in their own signature entries,
// by path.
func readCosigned(sigs []metadata.Signature) (map[string][]KeySignature, error) {
	out := map[string][]KeySignature{}
	for _, s := range sigs {
		field, there := s.UnrecognizedFields[updatesField]
		if !there {
			continue
		}
		updates, ok := field.(map[string]any)
		if !ok || len(updates) == 0 {
			return nil, fmt.Errorf("signature by key %s: updates: expected a detached signature for each name", keys.ID(s.KeyID).Fingerprint())
		}
		for path, value := range updates {
			text, _ := value.(string)
			var sig signing.Signature
			if err := sig.UnmarshalText([]byte(text)); err != nil {
				return nil, fmt.Errorf("signature by key %s: %.150s: %w", keys.ID(s.KeyID).Fingerprint(), path, err)
			}
			out[path] = append(out[path], KeySignature{keys.ID(s.KeyID), sig})
		}
	}
	return out, nil
}

// sortSignatures puts keys of a lower rank first and refuses two by one key.
func sortSignatures(rank map[keys.ID]int, sigs []KeySignature) error {
	slices.SortFunc(sigs, func(a, b KeySignature) int {
		return cmp.Or(cmp.Compare(rank[a.Key], rank[b.Key]), cmp.Compare(a.Key, b.Key))
	})
	for i := 1; i < len(sigs); i++ {
		if sigs[i].Key == sigs[i-1].Key {
			return fmt.Errorf("two detached signatures by key %s", sigs[i].Key.Fingerprint())
		}
	}
	return nil
}

// verifyDetached verifies the detached signatures of those keys that root still has.
func verifyDetached(root *Root, releases []Release) error {
	for _, r := range releases {
		for _, s := range r.sigs {
			k, ok := root.roles[RoleTargets].find(s.Key)
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

// catalog says of an empty list whether there ever was an update: the first targets file of a
// repository is empty.
func (t *targets) catalog() (*update.Catalog, error) {
	updates := make([]update.Update, len(t.releases))
	for i, r := range t.releases {
		updates[i] = r.Update()
	}
	return update.NewCatalog(updates, t.version > 1)
}
