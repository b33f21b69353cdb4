package trust

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// MaxUpdates bounds how many updates one repository lists.
const MaxUpdates = 2000

// targets is a targets file and what it lists, ascending as a catalog.
type targets struct {
	*file[metadata.TargetsType]
	releases []Release
}

// parseTargets reads a targets file. The order of detached signatures is that of root.
func parseTargets(root *Root, raw []byte) (*targets, error) {
	f, err := parse[metadata.TargetsType](RoleTargets, raw)
	if err != nil {
		return nil, err
	}
	t := &targets{file: f}
	if err := t.read(root); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", f.name(), ErrMalformed, err)
	}
	return t, nil
}

func (t *targets) read(root *Root) error {
	s := t.meta.Signed
	if s.Delegations != nil {
		return errors.New("expected no delegations")
	}
	if len(s.Targets) > MaxUpdates {
		return fmt.Errorf("%w: expected at most %d, got %d", ErrTooMany, MaxUpdates, len(s.Targets))
	}
	cosigned, err := readCosigned(t.meta.Signatures)
	if err != nil {
		return err
	}
	rank := root.ranks(RoleTargets)
	for path, entry := range s.Targets {
		r, err := readRelease(path, entry)
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

// entries returns the releases in the form that stands in metadata.
func entries(releases map[update.Name]Release) map[string]*metadata.TargetFiles {
	out := make(map[string]*metadata.TargetFiles, len(releases))
	for name, r := range releases {
		out[name.String()] = r.entry
	}
	return out
}
