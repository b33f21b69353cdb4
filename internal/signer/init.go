package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// Founding describes a new repository.
type Founding struct {
	Repository string        `json:"repository"`
	Root       string        `json:"root"`
	Digest     update.Digest `json:"digest"` // of the root, by which people compare it
	Expires    time.Time     `json:"expires"`
	Keys       []KeyFacts    `json:"keys"`

	next []string // what is to be done, with the commands, for people
}

// founder makes a new repository.
type founder struct {
	Signer
	ring       *keyring
	thresholds map[part]int
	fresh      map[part]*secret.Key // keys that were made, and that are still to be written
	undo       undo                 // removes what was written
}

// Init makes an empty repository in a directory, and the keys that the directory of keys lacks. It returns a Founding,
// or an Intent for a dry run.
func (s *Signer) Init(ctx context.Context, rootThreshold, releaseThreshold int) (Result, error) {
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	if err := checkPlace(s.Repository); err != nil {
		return nil, err
	}
	if IsURL(s.Repository) {
		return nil, status.WithHint(status.Usagef("init makes a repository in a directory, not at %s", s.Repository), "make it with --repo DIR and start a server on it: box-update-server serve --data-dir DIR --online-key FILE")
	}
	f := founder{Signer: *s, ring: ring, fresh: map[part]*secret.Key{},
		thresholds: map[part]int{rootPart: rootThreshold, releasePart: releaseThreshold, onlinePart: 1}}
	r, err := f.run(ctx)
	return r, withHint(err)
}

func (f *founder) run(ctx context.Context) (Result, error) {
	if r := f.findUnfinished(); r != nil && !f.DryRun {
		// An earlier init made the repository, and may have been interrupted before its last files were written.
		if err := createDirectory(ctx, f.Disk, f.Repository, r, f.Now); err != nil {
			return nil, fmt.Errorf("repository: %w", err)
		}
		return f.storeTrusted(r)
	}
	if err := checkVacant(f.Repository); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(f.ring.path(trustedDir)); err == nil {
		return nil, status.WithHint(fmt.Errorf("%s: these keys have a repository already: %w", f.ring.dir, fs.ErrExist),
			"choose another directory with --keys, because keys belong to one repository")
	}
	what, err := f.intent()
	if err != nil || f.DryRun {
		return what, err
	}
	if err := f.confirm(ctx, what, "Make them?"); err != nil {
		return nil, err
	}
	r, err := f.sign(ctx)
	if err != nil {
		return nil, err
	}
	lock, unmake, err := f.ring.lockNew()
	if err != nil {
		return nil, err
	}
	f.undo.add(unmake)
	if err := errors.Join(f.write(ctx, r), lock.Unlock()); err != nil {
		return nil, errors.Join(err, f.undo.run()) // while the repository can't be removed, its keys stay too
	}
	return f.storeTrusted(r)
}

// findUnfinished returns the repository that an interrupted init made with these keys, and that the keys don't trust yet.
// It returns nil if there is none.
func (f *founder) findUnfinished() *trust.Repository {
	if s, err := trust.Open(trust.Config{Dir: f.ring.path(trustedDir), DeferRoots: true}); err == nil {
		if _, err := s.Current(); err == nil {
			return nil
		}
	}
	s, err := trust.Open(trust.Config{Dir: filepath.Join(f.Repository, metadataDir), DeferRoots: true})
	if err != nil {
		return nil
	}
	r, err := s.Current()
	if err != nil || r.Root().Version() != 1 {
		return nil
	}
	for _, p := range parts() {
		mine, err := f.ring.public(string(p))
		if err != nil || !slices.Contains(r.Root().Keys(p.role()), mine) {
			return nil
		}
	}
	return r
}

// storeTrusted stores a new repository as the trusted state of the keys.
func (f *founder) storeTrusted(r *trust.Repository) (Result, error) {
	root := filepath.Join(f.Repository, metadataDir, trust.FileName(trust.RoleRoot, 1))
	trusted, err := trust.Open(trust.Config{FS: f.Disk, Dir: f.ring.path(trustedDir), Pinned: r.Raw(trust.RoleRoot)})
	if err == nil {
		err = trusted.Commit(r)
	}
	if err != nil {
		return nil, status.WithHint(fmt.Errorf("the repository is complete, but your keys could not store its root: %w", err), "run the next command with --root "+root)
	}
	out := Founding{Repository: f.Repository, Root: root, Digest: r.Root().Digest(), Expires: r.Root().Expires().UTC()}
	for _, p := range parts() {
		for _, k := range r.Root().Keys(p.role()) {
			out.Keys = append(out.Keys, keyFacts(string(p), k, ""))
		}
	}
	online, err := f.ring.names(onlinePart)
	if err != nil {
		return nil, err
	}
	out.next = []string{
		"back up the keys: boxsign backup --keys " + word(f.ring.dir) + " -o boxsign-keys.backup",
		fmt.Sprintf("give %s and %s to the origin, which serves them: box-update-server serve --data-dir %s --online-key %s --listen :8151",
			f.Repository, strings.Join(online, ", "), word(f.Repository), word(strings.Join(online, ":"))),
		"hand out " + root + " with its root fingerprint; a box needs both: boxup init --root 1.root.json URL",
		"boxes without boxup need " + f.ring.path(string(releasePart)+publicSuffix) + " instead",
	}
	return out, nil
}

// Text returns the description for people.
func (f Founding) Text() string {
	text := lines("repository", f.Repository, "root", f.Root, "root fingerprint", f.Digest, "root expires", stamp(f.Expires))
	for _, k := range f.Keys {
		text += lines(k.Key+" key", k.Fingerprint)
	}
	return text + each("next", f.next)
}

// Intent is what Init is about to do.
type Intent struct {
	Repository string   `json:"repository"`
	Uses       []string `json:"uses"`  // keys that are there
	Makes      []string `json:"makes"` // key files
	State      string   `json:"state"`
}

// Text returns the description for people.
func (i Intent) Text() string {
	return each("uses key", i.Uses) + each("makes key", i.Makes) + lines("makes repository", i.Repository)
}

func (f *founder) intent() (Result, error) {
	what := Intent{Repository: f.Repository, Uses: []string{}, Makes: []string{}, State: stateDryRun}
	for _, p := range parts() {
		names, err := f.ring.names(p)
		if err != nil {
			return nil, err
		}
		what.Uses = append(what.Uses, names...)
		if len(names) == 0 {
			what.Makes = append(what.Makes, f.ring.path(string(p)+privateSuffix))
		}
	}
	return what, nil
}

// sign signs an empty repository with the keys that exist and new ones, which it makes in memory.
func (f *founder) sign(ctx context.Context) (*trust.Repository, error) {
	var all []signing.Signer
	held := map[part]trust.Holder{}
	for _, p := range parts() {
		by, err := f.signers(ctx, p)
		if err != nil {
			return nil, err
		}
		h := trust.Holder{Threshold: f.thresholds[p]}
		for _, s := range by {
			all = append(all, s)
			h.Keys = append(h.Keys, s.Public())
		}
		if n := h.Threshold; n < 1 || n > len(by) {
			return nil, status.WithHint(status.Usagef("%s threshold %d: expected 1 to %d, the number of keys", p, n, len(by)),
				"name the keys with --"+string(p)+"-key, or add signers later: boxsign root add-key, then boxsign root threshold")
		}
		held[p] = h
	}
	online := held[onlinePart].Keys
	if len(online) != 1 {
		return nil, status.Usagef("online key: expected one, got %d", len(online))
	}
	return trust.Init(ctx, f.Now(), trust.Setup{Root: held[rootPart], Release: held[releasePart], Online: online[0]}, all...)
}

// signers returns the private keys of a part. If there are none it makes one, in memory.
func (f *founder) signers(ctx context.Context, p part) ([]signing.Signer, error) {
	names, err := f.ring.names(p)
	if err != nil {
		return nil, err
	}
	if len(names) > 0 {
		return f.ring.signers(ctx, p)
	}
	key, err := secret.Generate()
	if err != nil {
		return nil, err
	}
	f.fresh[p] = key
	return []signing.Signer{key}, nil
}

func (f *founder) write(ctx context.Context, r *trust.Repository) error {
	for _, p := range parts() {
		if err := f.writeKey(ctx, p); err != nil {
			return err
		}
	}
	dir := func(name string) string { return filepath.Join(f.Repository, name) }
	f.undo.addMissing(f.Repository, func() error { return removeEmpty(dir("sha256"), dir("targets"), dir("staging"), f.Repository) })
	if err := prepareDirectory(f.Disk, f.Repository); err != nil {
		return err
	}
	f.undo.add(func() error {
		return errors.Join(prepareDirectory(f.Disk, f.Repository), removeEmpty(dir(metadataDir)), f.Disk.Remove(dir(lockFile)))
	})
	if err := createDirectory(ctx, f.Disk, f.Repository, r, f.Now); err != nil {
		return fmt.Errorf("repository: %w", err)
	}
	return nil
}

// writeKey writes the files of a key: a key that was made, or the name of one that an agent keeps. For a key
// from elsewhere it writes the public file alone.
func (f *founder) writeKey(ctx context.Context, p part) error {
	if key := f.fresh[p]; key != nil {
		return f.createKey(ctx, p, key, "")
	}
	if had, err := f.ring.public(string(p)); err != nil || !had.IsZero() {
		return err
	}
	names, err := f.ring.names(p)
	if err != nil || len(names) > 1 {
		return err
	}
	key, err := f.ring.load(ctx, p, names[0])
	if err != nil {
		return err
	}
	if names[0] == secret.AgentName(key.Public()) {
		return f.createKey(ctx, p, key, names[0])
	}
	path := f.ring.path(string(p) + publicSuffix)
	f.undo.add(func() error { return f.Disk.Remove(path) })
	return f.Disk.CreateFile(path, key.Public().PEM(), 0o644)
}

func (f *founder) createKey(ctx context.Context, p part, key *secret.Key, agent string) error {
	if err := f.ring.create(ctx, string(p), key, agent); err != nil {
		return err
	}
	f.undo.add(func() error { return f.ring.remove(string(p)) })
	return nil
}

// createDirectory writes a new repository into a directory.
func createDirectory(ctx context.Context, fsys disk.FS, path string, r *trust.Repository, now func() time.Time) (err error) {
	s, err := store.Open(ctx, store.Config{Dir: path, FS: fsys, Root: r.Raw(trust.RoleRoot), Now: now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.Commit(ctx, r)
}

// checkVacant refuses a directory that has a repository. Metadata of version 1 without a timestamp don't count: an
// interrupted init leaves them, and nobody can have read them.
func checkVacant(path string) error {
	versions, err := metadataVersions(path)
	if err != nil {
		return err
	}
	for _, v := range versions {
		if v != 1 {
			return status.WithHint(fmt.Errorf("%s: has a repository already: %w", path, fs.ErrExist), "choose another directory with --repo")
		}
	}
	return nil
}

// metadataVersions returns the version of each metadata file, keyed by its path. A missing directory has none.
func metadataVersions(path string) (map[string]int64, error) {
	dir := filepath.Join(path, metadataDir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out := map[string]int64{}
	for _, e := range entries {
		// Copies count too: a copy may outlive its file, and an init that was killed wrote the copies first.
		if _, version, ok := trust.ParseFileName(strings.TrimSuffix(e.Name(), disk.CopyPath(""))); ok {
			out[filepath.Join(dir, e.Name())] = version
		}
	}
	return out, nil
}

// prepareDirectory makes a directory ready for a new repository: it makes the directory if it is missing, and
// removes what an interrupted init left. The error is disk.ErrLocked if another program works there.
func prepareDirectory(fsys disk.FS, path string) (err error) {
	if err := fsys.MkdirAll(path, 0o755); err != nil {
		return err
	}
	lock, err := disk.TryLock(filepath.Join(path, lockFile))
	if errors.Is(err, disk.ErrLocked) {
		return err
	}
	if err != nil {
		return errors.Join(err, fsys.Remove(filepath.Join(path, lockFile)))
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if err := checkVacant(path); err != nil {
		return err
	}
	found, err := metadataVersions(path)
	if err != nil {
		return err
	}
	for file := range found {
		if err := fsys.Remove(file); err != nil {
			return err
		}
	}
	return nil
}
