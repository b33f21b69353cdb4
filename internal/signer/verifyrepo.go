package signer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// Verdict is what VerifyRepository found.
type Verdict struct {
	status.Versions
	Digest   update.Digest `json:"digest"`  // digest of the newest root
	Expires  time.Time     `json:"expires"` // the earliest expiry of all roles
	Updates  int           `json:"updates"`
	Archives int           `json:"archives"` // how many were read and are intact
	Problems []string      `json:"problems"`
}

// VerifyRepository verifies a repository as a box does, from the root in s.Root: every later root, signatures, expiry, every
// detached signature and, if archives is set, every archive. If archives are missing or damaged, it returns an error and
// a Verdict that names them.
func (s *Signer) VerifyRepository(ctx context.Context, archives bool) (_ Verdict, err error) {
	defer func() { err = withHint(err) }()
	if s.Root == "" {
		return Verdict{}, status.WithHint(status.Usagef("no root to trust"), "name it with --root FILE; do not use one that came with the repository")
	}
	root, err := readRoot(s.Root)
	if err != nil {
		return Verdict{}, err
	}
	p, err := openPlace(ctx, s, false, nil)
	if err != nil {
		return Verdict{}, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	r, err := readFrom(ctx, p, root.Raw(), trust.Clock{Now: s.Now()})
	if err != nil {
		return Verdict{}, err
	}
	if d, ok := p.(*directory); ok && len(d.store.Damage()) > 0 {
		// The store reads the intact copies instead, but a server of static files sends the damaged files.
		return Verdict{}, status.WithHint(fmt.Errorf("the disk damaged %w", errors.Join(d.store.Damage()...)), "run boxsign renew, or restart the server of the repository: both write it again")
	}
	if err := r.VerifyDetached(); err != nil {
		return Verdict{}, err
	}
	v := verdictOn(r)
	if archives {
		if err := v.readArchives(ctx, p, r); err != nil {
			return Verdict{}, err
		}
	}
	if len(v.Problems) > 0 {
		err = status.WithHint(fmt.Errorf("%d of %d archives differ from the list or are missing", len(v.Problems), v.Updates),
			"copy the right files from a mirror or a backup; boxes refuse these")
	}
	return v, err
}

// readFrom reads and verifies the repository of a place, as a client that trusts root and has no other state.
func readFrom(ctx context.Context, p place, root []byte, c trust.Clock) (r *trust.Repository, err error) {
	err = inTempDir(func(dir string) error {
		fresh, err := trust.Open(trust.Config{Dir: dir, Pinned: root, DeferRoots: true}) // nothing is stored before a Commit
		if err != nil {
			return err
		}
		r, err = fresh.Refresh(ctx, p, c)
		return err
	})
	return r, err
}

func verdictOn(r *trust.Repository) Verdict {
	v := Verdict{
		Versions: r.Versions(), Digest: r.Root().Digest(),
		Expires: r.Root().Expires().UTC(), Updates: len(r.Releases()), Problems: []string{},
	}
	for _, role := range trust.Roles() {
		if e := r.Expires(role).UTC(); e.Before(v.Expires) {
			v.Expires = e
		}
	}
	return v
}

// readArchives verifies every archive, and counts the intact ones and adds the others to Problems.
func (v *Verdict) readArchives(ctx context.Context, p place, r *trust.Repository) error {
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
	defer pace.Waiting(ctx, "verifying "+rel.Name().String())()
	_, err = trust.VerifyArchive(ctx, rel, f, nil)
	return err
}

// Text returns the verdict for people.
func (v Verdict) Text() string {
	return each("problem", v.Problems) + lines("root", v.Root, "root digest", v.Digest, "targets", v.Targets, "snapshot", v.Snapshot, "timestamp", v.Timestamp,
		"expires", stamp(v.Expires), "updates", v.Updates, "archives verified", v.Archives)
}
