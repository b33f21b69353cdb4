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

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// founding is a new repository as JSON.
type founding struct {
	Repository string        `json:"repository"`
	Root       string        `json:"root"`
	Digest     update.Digest `json:"digest"` // of the root, by which people compare it
	Expires    time.Time     `json:"expires"`
	Keys       []keyFacts    `json:"keys"`
}

// founder makes a new repository.
type founder struct {
	s          cli.Streams
	o          options
	ring       *keyring
	repo       string
	thresholds map[part]int
	fresh      map[part]*secret.Key // to be written
	undo       []func() error       // removes what was written, the newest last
}

func newInit(s cli.Streams) *cobra.Command {
	var o options
	rootThreshold, releaseThreshold := 1, 1
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make keys and an empty repository",
		Long: `Make keys and an empty repository.

Keys that are in the directory of keys, or that flags name, are used; the missing ones of root, release
and online are made. What boxes need is release.pub of that directory, or metadata/1.root.json of the
repository. Other signers are added later: see boxsign root add-key.`,
		Example: `  boxsign init --keys K --repo R`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ring, err := o.ring(s)
			if err != nil {
				return err
			}
			repo, err := o.repository(s)
			if err != nil {
				return err
			}
			if isURL(repo) {
				return status.WithHint(cli.Usagef("init makes a repository in a directory, not at %s", repo), "make it with --repo DIR and start a server on it: box-update-server serve --data-dir DIR --online-key FILE")
			}
			f := founder{s: s, o: o, ring: ring, repo: repo, fresh: map[part]*secret.Key{},
				thresholds: map[part]int{rootPart: rootThreshold, releasePart: releaseThreshold, onlinePart: 1}}
			return withHint(f.run(cmd.Context()))
		},
	}
	o.repoFlags(cmd)
	cmd.Flags().IntVar(&rootThreshold, "root-threshold", 1, "`N` root keys must sign a root")
	cmd.Flags().IntVar(&releaseThreshold, "release-threshold", 1, "`N` release keys must sign a list")
	return cmd
}

func (f *founder) run(ctx context.Context) error {
	if r := f.begun(); r != nil && !f.o.dryRun {
		// The last files may have been cut, which nobody needs to read the repository.
		if err := createDirectory(ctx, f.s.Disk, f.repo, r, f.s.Now); err != nil {
			return fmt.Errorf("repository: %w", err)
		}
		return f.remember(r)
	}
	if err := vacant(f.repo); err != nil {
		return err
	}
	if _, err := os.Lstat(f.ring.path(trustedDir)); err == nil {
		return status.WithHint(fmt.Errorf("%s: these keys have a repository already: %w", f.ring.dir, fs.ErrExist),
			"choose another directory with --keys: keys belong to one repository")
	}
	if f.o.dryRun {
		return f.announce(f.s, f.o.json)
	}
	if !f.o.yes {
		shown := f.s
		shown.Out = f.s.Err
		if err := f.announce(shown, false); err != nil {
			return err
		}
		if err := f.s.Confirm(ctx, "Make them?"); err != nil {
			return err
		}
	}
	by, err := f.signers(ctx)
	if err != nil {
		return err
	}
	r, err := f.sign(ctx, by)
	if err != nil {
		return err
	}
	lock, unmake, err := f.ring.lockNew()
	if err != nil {
		return err
	}
	f.undo = append(f.undo, unmake)
	if err := errors.Join(f.write(ctx, r), lock.Unlock()); err != nil {
		for _, undo := range slices.Backward(f.undo) {
			if failed := undo(); failed != nil {
				return errors.Join(err, failed) // keys stay as long as there is a repository of theirs
			}
		}
		return err
	}
	return f.remember(r)
}

// begun returns the repository that these keys made just now and don't remember yet, because init was cut
// in between, and nil for none.
func (f *founder) begun() *trust.Repository {
	if s, err := trust.Open(trust.Config{Dir: f.ring.path(trustedDir), DeferRoots: true}); err == nil {
		if _, err := s.Current(); err == nil {
			return nil
		}
	}
	s, err := trust.Open(trust.Config{Dir: filepath.Join(f.repo, metadataDir), DeferRoots: true})
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

// remember makes a new repository the one that the keys trust.
func (f *founder) remember(r *trust.Repository) error {
	trusted, err := trust.Open(trust.Config{FS: f.s.Disk, Dir: f.ring.path(trustedDir), Pinned: r.Raw(trust.RoleRoot)})
	if err == nil {
		err = trusted.Commit(r)
	}
	if err != nil {
		return status.WithHint(fmt.Errorf("the repository is made, but your keys don't remember it: %w", err),
			"say --root "+filepath.Join(f.repo, metadataDir, trust.FileName(trust.RoleRoot, 1))+" with the next command")
	}
	return f.result(r)
}

// intent is what init is about to do, as JSON.
type intent struct {
	Repository string   `json:"repository"`
	Uses       []string `json:"uses"`  // keys that are there
	Makes      []string `json:"makes"` // key files
	State      string   `json:"state"`
}

func (f *founder) announce(s cli.Streams, asJSON bool) error {
	what := intent{Repository: f.repo, Uses: []string{}, Makes: []string{}, State: stateDryRun}
	for _, p := range parts() {
		names, err := f.ring.names(p)
		if err != nil {
			return err
		}
		what.Uses = append(what.Uses, names...)
		if len(names) == 0 {
			what.Makes = append(what.Makes, f.ring.path(string(p)+privateSuffix))
		}
	}
	if asJSON {
		return s.JSON(what)
	}
	var err error
	for _, n := range what.Uses {
		err = errors.Join(err, printAll(s, "uses key", n))
	}
	for _, n := range what.Makes {
		err = errors.Join(err, printAll(s, "makes key", n))
	}
	return errors.Join(err, printAll(s, "makes repository", what.Repository))
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
		return nil, cli.Usagef("online key: expected one, got %d", n)
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
			return nil, status.WithHint(cli.Usagef("%s threshold %d: there are %d keys, expected 1 to as many", p, n, len(by[p])),
				"name the keys with --"+string(p)+"-key, or add signers later: boxsign root add-key, then boxsign root threshold")
		}
	}
	return trust.Init(ctx, f.s.Now(), trust.Setup{
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
	f.later(f.repo, func() error {
		return removeEmpty(filepath.Join(f.repo, "sha256"), filepath.Join(f.repo, "targets"), filepath.Join(f.repo, "staging"), f.repo)
	})
	if err := clearBeginnings(f.s.Disk, f.repo); err != nil {
		return err
	}
	f.undo = append(f.undo, func() error {
		return errors.Join(clearBeginnings(f.s.Disk, f.repo), removeEmpty(filepath.Join(f.repo, metadataDir)), f.ring.disk.Remove(filepath.Join(f.repo, lockFile)))
	})
	if err := createDirectory(ctx, f.s.Disk, f.repo, r, f.s.Now); err != nil {
		return fmt.Errorf("repository: %w", err)
	}
	return nil
}

// later undoes what is done to a directory, unless it is there already.
func (f *founder) later(dir string, undo func() error) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		f.undo = append(f.undo, undo)
	}
}

// removeEmpty removes those of the directories that are empty.
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

// writeKey writes a key that was made, or notes the name of one that an agent keeps. The public file
// of a key that came from elsewhere is made too.
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

func (f *founder) result(r *trust.Repository) error {
	out := founding{Repository: f.repo, Root: filepath.Join(f.repo, metadataDir, trust.FileName(trust.RoleRoot, 1)), Digest: r.Root().Digest(), Expires: r.Root().Expires().UTC()}
	for _, p := range parts() {
		for _, role := range p.roles()[:1] {
			for _, k := range r.Root().Keys(role) {
				out.Keys = append(out.Keys, keyFacts{Key: string(p), ID: k.ID(), Fingerprint: k.Fingerprint(), SSH: secret.SSHFingerprint(k)})
			}
		}
	}
	if f.o.json {
		return f.s.JSON(out)
	}
	fmt.Fprintf(f.s.Out, "repository: %s\nroot: %s\nroot digest: %v\nroot expires: %s\n", out.Repository, out.Root, out.Digest, stamp(out.Expires))
	for _, k := range out.Keys {
		if _, err := fmt.Fprintf(f.s.Out, "%s key: %s\n", k.Key, k.ID); err != nil {
			return err
		}
	}
	return nil
}
