package trust

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// MaxUpdates bounds how many updates one repository lists.
const MaxUpdates = 2000

// targets is a targets file and the releases that it lists, in the order of the catalog.
type targets struct {
	*file
	releases   []Release
	impossible []error // why entries were left out of releases
}

// listContent is the signed part of a targets file.
type listContent struct {
	header
	Delegations json.RawMessage  `json:"delegations"`
	Targets     map[string]entry `json:"targets"`
}

// parseTargets reads a targets file that at least least release keys of root signed, else the error is ErrThreshold.
// It puts the detached signatures in the order of root.
func parseTargets(root *Root, raw []byte, least int) (*targets, error) {
	f, err := openFile(RoleTargets, raw)
	if err != nil {
		return nil, err
	}
	if len(signers(root, f)) < least {
		return nil, fmt.Errorf("targets: %w: %s", ErrThreshold, describeSigners(root, f))
	}
	t := &targets{file: f}
	if err := t.readContent(root); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", t.name(), ErrMalformed, err)
	}
	return t, nil
}

func (t *targets) readContent(root *Root) error {
	var c listContent
	if err := t.read(&c, &c.header); err != nil {
		return err
	}
	if c.Delegations != nil {
		return errors.New("expected no delegations")
	}
	if c.Targets == nil {
		return errors.New("expected targets")
	}
	return t.readReleases(root, c.Targets)
}

// openTargets reads the targets file that a snapshot names and that root accepts.
func openTargets(root *Root, named link, raw []byte) (*targets, error) {
	if err := named.checkBytes(raw); err != nil {
		return nil, err
	}
	tg, err := parseTargets(root, raw, root.Threshold(RoleTargets))
	if err != nil {
		return nil, err
	}
	if err := named.checkVersion(tg.file); err != nil {
		return nil, err
	}
	return tg, nil
}

func (t *targets) readReleases(root *Root, entries map[string]entry) error {
	cosigned, err := readCosigned(t.signatures)
	if err != nil {
		return err
	}
	rank := root.ranks(RoleTargets)
	t.releases = make([]Release, 0, len(entries))
	for path, e := range entries {
		r, err := e.release(path)
		if errors.Is(err, errImpossible) {
			// Only this entry is left out, which is safe because no archive can match it. Refusing the whole list
			// would keep every box that meets it from later updates too, and its signer from signing a better list.
			t.impossible = append(t.impossible, err)
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
		t.releases = append(t.releases, r)
	}
	for path := range cosigned {
		return fmt.Errorf("%s: has a detached signature and is not listed", path)
	}
	slices.SortFunc(t.releases, compareReleases)
	return nil
}

// forEdit returns the releases by name, with their custom fields exactly as they are in the file.
func (t *targets) forEdit() (map[update.Name]Release, error) {
	var l struct {
		Targets map[string]struct {
			Custom json.RawMessage `json:"custom"`
		} `json:"targets"`
	}
	if err := json.Unmarshal(t.signed, &l); err != nil {
		return nil, err
	}
	out := byName(t.releases)
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
	return encode(RoleTargets, version, at, TargetsLife, map[string]any{"targets": entries})
}

func compareReleases(a, b Release) int {
	return cmp.Or(a.Name().Version().Compare(b.Name().Version()), a.Name().Compare(b.Name()))
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

// verifyDetached verifies the detached signatures by keys that root still has and ignores the others.
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

// catalog returns the list as a catalog. An empty list of version 1 means that there never was an update: the first
// targets file of a repository is empty.
func (t *targets) catalog() (*update.Catalog, error) {
	updates := make([]update.Update, len(t.releases))
	for i, r := range t.releases {
		updates[i] = r.Update()
	}
	return update.NewCatalog(updates, t.version > 1)
}
