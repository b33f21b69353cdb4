package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/durable"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
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
	made       []string             // base names of the keys that were written
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
	if err := vacant(f.repo); err != nil {
		return err
	}
	if _, err := os.Lstat(f.ring.path(trustedDir)); err == nil {
		return cli.WithHint(fmt.Errorf("%s: these keys have a repository already: %w", f.ring.dir, fs.ErrExist),
			"choose another directory with --keys: keys belong to one repository")
	}
	if !f.o.yes || f.o.dryRun {
		if err := f.announce(); err != nil || f.o.dryRun {
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
	if err := f.write(ctx, r); err != nil {
		return errors.Join(err, f.undo())
	}
	return f.result(r)
}

// announce says what will be made, on standard error unless it is the result.
func (f *founder) announce() error {
	out := f.s.Err
	if f.o.dryRun {
		out = f.s.Out
	}
	for _, p := range parts() {
		names, err := f.ring.names(p)
		if err != nil {
			return err
		}
		for _, n := range names {
			fmt.Fprintf(out, "uses: %s key %s\n", p, n)
		}
		if len(names) == 0 {
			fmt.Fprintf(out, "makes: %s key %s\n", p, f.ring.path(string(p)+privateSuffix))
		}
	}
	_, err := fmt.Fprintf(out, "makes: repository %s\n", f.repo)
	return err
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
			return nil, cli.WithHint(cli.Usagef("%s threshold %d: there are %d keys, expected 1 to as many", p, n, len(by[p])),
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
	if err := createDirectory(ctx, f.repo, r, f.s.Now); err != nil {
		return fmt.Errorf("repository: %w", err)
	}
	trusted, err := trust.Open(trust.Config{Dir: f.ring.path(trustedDir), Pinned: r.Raw(trust.RoleRoot)})
	if err != nil {
		return err
	}
	return trusted.Commit(r)
}

// writeKey writes a key that was made, or notes the name of one that an agent keeps. The public file
// of a key that came from elsewhere is made too.
func (f *founder) writeKey(ctx context.Context, p part) error {
	if key := f.fresh[p]; key != nil {
		if err := f.ring.create(ctx, string(p), key, ""); err != nil {
			return err
		}
		f.made = append(f.made, string(p))
		return nil
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
		if err := f.ring.create(ctx, string(p), key, names[0]); err != nil {
			return err
		}
		f.made = append(f.made, string(p))
		return nil
	}
	if err := f.ring.disk.MkdirAll(f.ring.dir, 0o700); err != nil {
		return err
	}
	return f.ring.disk.CreateFile(f.ring.path(string(p)+publicSuffix), key.Public().PEM(), 0o644)
}

// undo removes what write made: nobody has seen it.
func (f *founder) undo() error {
	var errs []error
	for _, base := range f.made {
		errs = append(errs, f.ring.remove(base))
	}
	if metadata := filepath.Join(f.repo, metadataDir); vacant(f.repo) == nil {
		for _, dir := range []string{metadata, filepath.Join(f.repo, "sha256"), filepath.Join(f.repo, "targets"), filepath.Join(f.repo, "staging")} {
			os.Remove(dir) // only where it is empty
		}
		errs = append(errs, durable.FS{}.Remove(filepath.Join(f.repo, "lock")))
		os.Remove(f.repo) // only where it is empty
	}
	os.Remove(f.ring.dir) // only where it is empty
	return errors.Join(errs...)
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
