package signer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// verdict is what verify-repo found, as JSON.
type verdict struct {
	Root      int64         `json:"root"`
	Digest    update.Digest `json:"digest"` // of the newest root
	Targets   int64         `json:"targets"`
	Snapshot  int64         `json:"snapshot"`
	Timestamp int64         `json:"timestamp"`
	Expires   time.Time     `json:"expires"` // the first that does
	Updates   int           `json:"updates"`
	Archives  int           `json:"archives"` // that were read and are right
	Problems  []string      `json:"problems"`
}

func newVerifyRepo(s cli.Streams) *cobra.Command {
	asJSON, pinned, metadataOnly := false, "", false
	cmd := &cobra.Command{
		Use:   "verify-repo DIR|URL",
		Short: "Verify a whole repository from a root",
		Long: `Verify a repository as a box does, from a root that you trust: every root since, signatures, expiry, every
detached signature, and every archive. Exit code 1 says that something is wrong.`,
		Example: `  boxsign verify-repo --root 1.root.json R
  boxsign verify-repo --root 1.root.json http://127.0.0.1:8151`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withHint(verifyRepo(cmd.Context(), s, args[0], pinned, !metadataOnly, asJSON))
		},
	}
	cmd.Flags().StringVar(&pinned, "root", "", "`FILE` with the root to trust, such as the 1.root.json that boxes have")
	cmd.Flags().BoolVar(&metadataOnly, "metadata-only", false, "don't read the archives")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func verifyRepo(ctx context.Context, s cli.Streams, repo, pinned string, archives, asJSON bool) (err error) {
	if pinned == "" {
		return status.WithHint(cli.Usagef("which root?"), "name the root that you trust with --root FILE, not one that came with the repository")
	}
	root, err := readRoot(pinned)
	if err != nil {
		return err
	}
	p, err := openPlace(ctx, s, repo, false, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	r, err := readFrom(ctx, p, root, trust.Clock{Now: s.Now()})
	if err != nil {
		return err
	}
	if d, ok := p.(*directory); ok && len(d.store.Damage()) > 0 {
		// A server of static files sends what is damaged.
		return status.WithHint(fmt.Errorf("the disk damaged %w", errors.Join(d.store.Damage()...)), "boxsign renew, or the server of the repository once it is started again, writes it again")
	}
	if err := r.VerifyDetached(); err != nil {
		return err
	}
	v := verdictOn(r)
	if archives {
		if err := v.read(ctx, p, r); err != nil {
			return err
		}
	}
	return v.show(s, asJSON)
}

// readFrom reads the repository of a place as somebody does who trusts a root and knows nothing else.
func readFrom(ctx context.Context, p place, root []byte, c trust.Clock) (r *trust.Repository, err error) {
	dir, err := os.MkdirTemp("", "boxsign-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fresh, err := trust.Open(trust.Config{Dir: dir, Pinned: root, DeferRoots: true}) // stores nothing
	if err != nil {
		return nil, err
	}
	return fresh.Refresh(ctx, p, c)
}

func verdictOn(r *trust.Repository) verdict {
	v := verdict{
		Root: r.Root().Version(), Digest: r.Root().Digest(), Targets: r.Version(trust.RoleTargets),
		Snapshot: r.Version(trust.RoleSnapshot), Timestamp: r.Version(trust.RoleTimestamp),
		Expires: r.Root().Expires().UTC(), Updates: len(r.Releases()), Problems: []string{},
	}
	for _, role := range trust.Roles() {
		if e := r.Expires(role).UTC(); e.Before(v.Expires) {
			v.Expires = e
		}
	}
	return v
}

// read reads every archive and notes what is wrong.
func (v *verdict) read(ctx context.Context, p place, r *trust.Repository) error {
	for _, rel := range r.Releases() {
		err := verifyArchive(ctx, p, rel)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			v.Problems = append(v.Problems, fmt.Sprintf("%v: %v", rel.Name(), err))
			continue
		}
		v.Archives++
	}
	return nil
}

func verifyArchive(ctx context.Context, p place, rel trust.Release) (err error) {
	f, err := p.Archive(ctx, rel)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return trust.VerifyArchive(ctx, rel, f)
}

func (v verdict) show(s cli.Streams, asJSON bool) error {
	if asJSON {
		if err := s.JSON(v); err != nil {
			return err
		}
	} else if err := v.print(s); err != nil {
		return err
	}
	if len(v.Problems) > 0 {
		return status.WithHint(fmt.Errorf("%d of %d archives are not as the list says", len(v.Problems), v.Updates),
			"take the right files from a mirror or a backup; boxes refuse these")
	}
	return nil
}

func (v verdict) print(s cli.Streams) error {
	for _, p := range v.Problems {
		fmt.Fprintf(s.Out, "problem: %s\n", cli.Printable(p)) // the next one reports the error
	}
	_, err := fmt.Fprintf(s.Out, "root: %d\nroot digest: %v\ntargets: %d\nsnapshot: %d\ntimestamp: %d\nexpires: %s\nupdates: %d\narchives verified: %d\n",
		v.Root, v.Digest, v.Targets, v.Snapshot, v.Timestamp, stamp(v.Expires), v.Updates, v.Archives)
	return err
}
