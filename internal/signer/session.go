package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// session is one run of a command on a repository: what the signer trusts, where the repository is,
// and which proposals wait there.
type session struct {
	Signer
	ring    *keyring
	lock    *disk.Lock // nil: the session only reads
	trusted *trust.State
	place   place
	remote  *publish.Remote // the place, if that is an origin

	// refresh sets these, also after each publish.
	base     *trust.Repository // what is published
	pending  []*trust.Proposal
	reserved int64     // the highest reserved version of the list, 0 for none
	at       time.Time // now
}

// openSession opens the keys and the repository. Without write, it locks and changes nothing. The caller closes the
// session.
func openSession(ctx context.Context, s *Signer, write bool) (_ *session, err error) {
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	if err := checkPlace(s.Repository); err != nil {
		return nil, err
	}
	x := &session{Signer: *s, ring: ring}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.close())
		}
	}()
	if write {
		if x.lock, err = ring.lock(); err != nil {
			return nil, err
		}
	}
	if x.place, err = openPlace(ctx, s, write, ring); err != nil {
		return nil, err
	}
	x.remote, _ = x.place.(*publish.Remote)
	if x.trusted, err = x.openTrusted(!write); err != nil {
		return nil, err
	}
	damage := x.trusted.Damage()
	if write {
		if err := x.trusted.RewriteDamaged(); err != nil {
			return nil, err
		}
	}
	err = x.refresh(ctx)
	if d, ok := x.place.(*directory); ok {
		damage = append(damage, d.Problems()...)
		if err == nil {
			err = d.checkNewestRoot(x.trusted.Root())
		}
	}
	for _, d := range damage {
		x.Warn(d.Error())
	}
	return x, err
}

// openTrusted opens the trusted state of the keys. If there is none yet, or a root of it is lost, the session must have a
// root to trust.
func (x *session) openTrusted(readOnly bool) (*trust.State, error) {
	dir := x.ring.path(trustedDir)
	c := trust.Config{FS: x.Disk, Dir: dir, DeferRoots: readOnly}
	if x.Root != "" {
		root, err := readRoot(x.Root)
		if err != nil {
			return nil, err
		}
		c.Pinned = root.Raw()
	}
	state, err := trust.Open(c)
	if err == nil || c.Pinned != nil {
		return state, err
	}
	if _, missing := os.Stat(x.ring.dir); errors.Is(missing, fs.ErrNotExist) {
		return nil, status.WithHint(fmt.Errorf("keys: %s: %w", x.ring.dir, fs.ErrNotExist),
			"name the directory of your keys with --keys DIR; to look at a repository without keys, name its root with --root FILE")
	}
	if left, noMatch := disk.Glob(dir, "*.json*"); noMatch == nil && len(left) == 0 {
		return nil, status.WithHint(fmt.Errorf("the keys in %s are used with this repository for the first time", x.ring.dir),
			"name the root to trust with --root FILE: the 1.root.json that you got from the person who made the repository, not from a server")
	}
	root := "FILE, the 1.root.json that you got from the person who made the repository"
	if roots, _ := trust.Roots(dir); len(roots) > 0 { // the first root, if it is intact
		root = filepath.Join(dir, trust.FileName(trust.RoleRoot, roots[0].Version()))
	}
	if errors.As(err, new(*fs.PathError)) || errors.Is(err, trust.ErrNotFound) { // a file is lost, or all roots are
		return nil, status.WithHint(err, "run the command again with --root "+root)
	}
	return nil, err
}

// refresh reads the published repository and the proposals that wait.
func (x *session) refresh(ctx context.Context) (err error) {
	x.at = x.Now()
	if err := x.refreshBase(ctx); err != nil {
		return fmt.Errorf("repository: %w", explain.At(x.Repository, err))
	}
	for _, b := range x.trusted.Ledger().Rebound(x.base) {
		x.Warn(b.String())
	}
	x.pending, x.reserved, err = x.place.Pending(ctx, x.base, x.trusted.Ledger(), x.at)
	return err
}

// refreshBase reads and verifies the published repository. If its timestamp differs from the one with the same
// version that the keys trust, the error is trust.ErrFork: a client keeps the first one that it accepted, but a signer
// must not sign on top of it. Since an origin may publish a newer timestamp between two reads, a difference counts
// only if the version stays.
func (x *session) refreshBase(ctx context.Context) error {
	var last *trust.Repository
	for {
		base, err := x.trusted.Refresh(ctx, x.place, trust.Clock{Now: x.at, AcceptExpired: true})
		if err != nil {
			return err
		}
		raw, err := x.place.Fetch(ctx, trust.TimestampName, trust.MaxLength(trust.RoleTimestamp), update.Digest{})
		if err != nil {
			return err
		}
		if bytes.Equal(raw, base.Raw(trust.RoleTimestamp)) {
			x.base = base
			return nil
		}
		version := base.Version(trust.RoleTimestamp)
		if last != nil && last.Version(trust.RoleTimestamp) >= version {
			return fmt.Errorf("timestamp %d: %w", version, trust.ErrFork)
		}
		last = base
	}
}

func (x *session) close() error {
	var errs []error
	if x.place != nil {
		errs = append(errs, x.place.Close())
	}
	if x.lock != nil {
		errs = append(errs, x.lock.Unlock())
	}
	return errors.Join(errs...)
}

// inSession runs a command in a session. With write, the command may change the keys and the repository, and both
// are locked.
func inSession[T any](ctx context.Context, s *Signer, write bool, run func(*session) (T, error)) (result T, err error) {
	x, err := openSession(ctx, s, write)
	if err != nil {
		return result, withHint(err)
	}
	result, err = run(x)
	return result, withHint(errors.Join(err, x.close()))
}

// signers returns the private keys of a part. It stores the base that they are about to sign on as trusted, so
// that no older one is accepted from now on.
func (x *session) signers(ctx context.Context, p part) ([]signing.Signer, error) {
	by, err := x.ring.signers(ctx, p)
	if err != nil {
		return nil, err
	}
	return by, x.trusted.Commit(x.base)
}

// approve shows a change and asks whether to sign it. For a dry run it returns false and sets the state of c instead.
func (x *session) approve(ctx context.Context, c *Change) (bool, error) {
	if x.DryRun {
		c.State = stateDryRun
		return false, nil
	}
	return true, x.confirm(ctx, *c, "Sign this?")
}

func (x *session) warnThreshold() {
	if n := x.base.Root().Threshold(trust.RoleTargets); n > 1 {
		x.Warn(fmt.Sprintf("lists need %d signatures, but boxes that check only .sig still trust a single key", n))
	}
}

// checkRootExpiry refuses a repository whose root is expired: no box would take what is published under it.
func (x *session) checkRootExpiry() error {
	root := x.base.Root()
	if x.at.After(root.Expires()) {
		return status.WithHint(fmt.Errorf("root %d: %w at %s, and it is %s on this computer", root.Version(), trust.ErrExpired, stamp(root.Expires()), stamp(x.at)),
			"if the clock of this computer is right, a root signer must run boxsign root renew; if not, set the clock")
	}
	return nil
}

// waiting returns the proposals of a role that wait for signatures.
func (x *session) waiting(role trust.Role) []*trust.Proposal {
	var out []*trust.Proposal
	for _, p := range x.pending {
		if p.Role() == role {
			out = append(out, p)
		}
	}
	return out
}
