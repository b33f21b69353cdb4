package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// Founding describes a new repository.
type Founding struct {
	Repository string        `json:"repository"`
	Root       string        `json:"root"`
	Digest     update.Digest `json:"digest"` // of the root, by which people compare it
	Expires    time.Time     `json:"expires"`
	Keys       []KeyFacts    `json:"keys"`
}

// founder makes a new repository.
type founder struct {
	Signer
	ring       *keyring
	thresholds map[part]int
	fresh      map[part]*secret.Key // keys that were made, and that are still to be written
	undo       []func() error       // removes what was written, the newest last
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
	if r := f.begun(); r != nil && !f.DryRun {
		// An earlier init made the repository, and may have been interrupted before its last files were written.
		if err := createDirectory(ctx, f.Disk, f.Repository, r, f.Now); err != nil {
			return nil, fmt.Errorf("repository: %w", err)
		}
		return f.remember(r)
	}
	if err := vacant(f.Repository); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(f.ring.path(trustedDir)); err == nil {
		return nil, status.WithHint(fmt.Errorf("%s: these keys have a repository already: %w", f.ring.dir, fs.ErrExist),
			"choose another directory with --keys: keys belong to one repository")
	}
	what, err := f.intent()
	if err != nil || f.DryRun {
		return what, err
	}
	if err := f.confirm(ctx, what, "Make them?"); err != nil {
		return nil, err
	}
	by, err := f.signers(ctx)
	if err != nil {
		return nil, err
	}
	r, err := f.sign(ctx, by)
	if err != nil {
		return nil, err
	}
	lock, unmake, err := f.ring.lockNew()
	if err != nil {
		return nil, err
	}
	f.undo = append(f.undo, unmake)
	if err := errors.Join(f.write(ctx, r), lock.Unlock()); err != nil {
		for _, undo := range slices.Backward(f.undo) {
			if failed := undo(); failed != nil {
				return nil, errors.Join(err, failed) // the repository could not be removed, so its keys stay too
			}
		}
		return nil, err
	}
	return f.remember(r)
}

// begun returns the repository that an interrupted init made with these keys, and that the keys don't trust yet.
// It returns nil if there is none.
func (f *founder) begun() *trust.Repository {
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
		if err != nil || !slices.Contains(r.Root().Keys(p.roles()[0]), mine) {
			return nil
		}
	}
	return r
}

// remember stores a new repository as the trusted state of the keys.
func (f *founder) remember(r *trust.Repository) (Result, error) {
	root := filepath.Join(f.Repository, metadataDir, trust.FileName(trust.RoleRoot, 1))
	trusted, err := trust.Open(trust.Config{FS: f.Disk, Dir: f.ring.path(trustedDir), Pinned: r.Raw(trust.RoleRoot)})
	if err == nil {
		err = trusted.Commit(r)
	}
	if err != nil {
		return nil, status.WithHint(fmt.Errorf("the repository is made, but your keys don't remember it: %w", err), "say --root "+root+" with the next command")
	}
	out := Founding{Repository: f.Repository, Root: root, Digest: r.Root().Digest(), Expires: r.Root().Expires().UTC()}
	for _, p := range parts() {
		for _, k := range r.Root().Keys(p.roles()[0]) {
			out.Keys = append(out.Keys, KeyFacts{Key: string(p), ID: k.ID(), Fingerprint: k.Fingerprint(), SSH: secret.SSHFingerprint(k)})
		}
	}
	return out, nil
}

// Text returns the description for people.
func (f Founding) Text() string {
	text := lines("repository", f.Repository, "root", f.Root, "root digest", f.Digest, "root expires", stamp(f.Expires))
	for _, k := range f.Keys {
		text += lines(k.Key+" key", k.ID)
	}
	return text
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
	text := ""
	for _, n := range i.Uses {
		text += lines("uses key", n)
	}
	for _, n := range i.Makes {
		text += lines("makes key", n)
	}
	return text + lines("makes repository", i.Repository)
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

// signers loads the keys that are there and makes the others, in memory.
func (f *founder) signers(ctx context.Context) (map[part][]signing.Signer, error) {
	out := map[part][]signing.Signer{}
	for _, p := range parts() {
		names, err := f.ring.names(p)
		if err != nil {
			return nil, err
		}
		if len(names) > 0 {
			if out[p], err = f.ring.signers(ctx, p); err != nil {
				return nil, err
			}
			continue
		}
		key, err := secret.Generate()
		if err != nil {
			return nil, err
		}
		f.fresh[p], out[p] = key, []signing.Signer{key}
	}
	if n := len(out[onlinePart]); n != 1 {
		return nil, status.Usagef("online key: expected one, got %d", n)
	}
	return out, nil
}

func (f *founder) sign(ctx context.Context, by map[part][]signing.Signer) (*trust.Repository, error) {
	var all []signing.Signer
	held := map[part][]keys.Public{}
	for _, p := range parts() {
		for _, s := range by[p] {
			all = append(all, s)
			held[p] = append(held[p], s.Public())
		}
		if n := f.thresholds[p]; n < 1 || n > len(by[p]) {
			return nil, status.WithHint(status.Usagef("%s threshold %d: there are %d keys, expected 1 to as many", p, n, len(by[p])),
				"name the keys with --"+string(p)+"-key, or add signers later: boxsign root add-key, then boxsign root threshold")
		}
	}
	return trust.Init(ctx, f.Now(), trust.Setup{
		Root:    trust.Holder{Keys: held[rootPart], Threshold: f.thresholds[rootPart]},
		Release: trust.Holder{Keys: held[releasePart], Threshold: f.thresholds[releasePart]},
		Online:  held[onlinePart][0],
	}, all...)
}

func (f *founder) write(ctx context.Context, r *trust.Repository) error {
	for _, p := range parts() {
		if err := f.writeKey(ctx, p); err != nil {
			return err
		}
	}
	f.later(f.Repository, func() error {
		return removeEmpty(filepath.Join(f.Repository, "sha256"), filepath.Join(f.Repository, "targets"), filepath.Join(f.Repository, "staging"), f.Repository)
	})
	if err := clearBeginnings(f.Disk, f.Repository); err != nil {
		return err
	}
	f.undo = append(f.undo, func() error {
		return errors.Join(clearBeginnings(f.Disk, f.Repository), removeEmpty(filepath.Join(f.Repository, metadataDir)), f.ring.disk.Remove(filepath.Join(f.Repository, lockFile)))
	})
	if err := createDirectory(ctx, f.Disk, f.Repository, r, f.Now); err != nil {
		return fmt.Errorf("repository: %w", err)
	}
	return nil
}

// later records undo, to be run if init fails, unless dir exists already.
func (f *founder) later(dir string, undo func() error) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		f.undo = append(f.undo, undo)
	}
}

// removeEmpty removes those directories that are empty.
func removeEmpty(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		err := os.Remove(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
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
	key, err := f.ring.load(ctx, names[0])
	if err != nil {
		return err
	}
	if names[0] == secret.AgentName(key.Public()) {
		return f.createKey(ctx, p, key, names[0])
	}
	path := f.ring.path(string(p) + publicSuffix)
	f.undo = append(f.undo, func() error { return f.ring.disk.Remove(path) })
	return f.ring.disk.CreateFile(path, key.Public().PEM(), 0o644)
}

func (f *founder) createKey(ctx context.Context, p part, key *secret.Key, agent string) error {
	if err := f.ring.create(ctx, string(p), key, agent); err != nil {
		return err
	}
	f.undo = append(f.undo, func() error { return f.ring.remove(string(p)) })
	return nil
}
