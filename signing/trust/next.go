package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
)

// Setup says which keys a new repository starts with.
type Setup struct {
	Root, Release Holder

	// Online is the key of the snapshot and timestamp roles, which the origin holds.
	Online keys.Public
}

// Init makes a new repository: root 1, an empty targets 1, snapshot 1 and timestamp 1. The signers
// must meet every threshold.
func Init(ctx context.Context, at time.Time, setup Setup, by ...signing.Signer) (*Repository, error) {
	r, err := initial(ctx, at, setup, by)
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	return r, nil
}

func initial(ctx context.Context, at time.Time, setup Setup, by []signing.Signer) (*Repository, error) {
	root, err := firstRoot(ctx, at, setup, by)
	if err != nil {
		return nil, err
	}
	signed, err := encodeList(1, at, nil)
	if err != nil {
		return nil, err
	}
	raw, err := signFile(ctx, root, RoleTargets, signed, by)
	if err != nil {
		return nil, err
	}
	list, err := link{role: RoleTargets}.open(root, raw)
	if err != nil {
		return nil, err
	}
	return seal(ctx, []*Root{root}, list, renewal{at: at, by: by, snapshot: 1, timestamp: 1})
}

func firstRoot(ctx context.Context, at time.Time, setup Setup, by []signing.Signer) (*Root, error) {
	online := Holder{Keys: []keys.Public{setup.Online}}
	roles := map[Role]Holder{RoleRoot: setup.Root, RoleTargets: setup.Release, RoleSnapshot: online, RoleTimestamp: online}
	for role, h := range roles {
		if slices.ContainsFunc(h.Keys, keys.Public.IsZero) {
			return nil, fmt.Errorf("role %s: no key", role)
		}
		h.Threshold = max(h.Threshold, 1)
		roles[role] = h
	}
	unsigned, err := newRoot(nil, at, roles)
	if err != nil {
		return nil, err
	}
	raw, err := signFile(ctx, unsigned, RoleRoot, unsigned.signed, by)
	if err != nil {
		return nil, err
	}
	return ParseRoot(raw)
}

// Change says what is new in the next repository. With the zero Change, only snapshot and timestamp are renewed.
type Change struct {
	Root    *Proposal // complete, or nil
	Targets *Proposal // complete, or nil
}

// Next makes the repository that follows r. It applies the change, signs a timestamp issued at at and, if needed, a
// new snapshot. by are signers of the online key, of both keys while it is being replaced; signers whose key does not
// have these roles are ignored. The result is verified like anything that comes from outside. The error is ErrAhead
// if the same keys signed a later time before.
func (r *Repository) Next(ctx context.Context, at time.Time, c Change, by ...signing.Signer) (*Repository, error) {
	chain, list := r.chain, r.list()
	if c.Root != nil {
		if err := c.Root.ready(r, RoleRoot); err != nil {
			return nil, err
		}
		chain = append(slices.Clone(chain), c.Root.root)
	}
	if c.Targets != nil {
		if err := c.Targets.ready(r, RoleTargets); err != nil {
			return nil, err
		}
		list = c.Targets.file
	}
	ts, sn := r.files[RoleTimestamp], r.files[RoleSnapshot]
	if ts.version >= maxVersion || sn.version >= maxVersion {
		return nil, errors.New("timestamp or snapshot: no version is left; replace the online key and restore the repository from before the theft")
	}
	at, err := r.issueAt(at, newest(chain), list, by)
	if err != nil {
		return nil, err
	}
	n := renewal{at: at, by: by, snapshot: sn.version + 1, timestamp: ts.version + 1}
	if c == (Change{}) && !sn.halfOver(at) && n.signed(newest(chain), sn) {
		n.keep = sn
	}
	return seal(ctx, chain, list, n)
}

// renewal holds what is needed to sign snapshot and timestamp.
type renewal struct {
	at                  time.Time
	by                  []signing.Signer
	snapshot, timestamp int64 // versions
	keep                *file // the snapshot that stays; nil: a new one is made
}

// signed reports whether sn has enough signatures under root, among them those of all signers whose key root has for
// snapshots.
func (n renewal) signed(root *Root, sn *file) bool {
	good := signers(root, sn)
	for _, s := range n.by {
		if root.roles[RoleSnapshot].has(s.Public().ID()) && !slices.Contains(good, s.Public()) {
			return false
		}
	}
	return len(good) >= root.Threshold(RoleSnapshot)
}

// seal signs a snapshot, unless n.keep is set, and a timestamp over a list, and assembles the repository.
func seal(ctx context.Context, chain []*Root, list *file, n renewal) (*Repository, error) {
	root := newest(chain)
	if err := root.verify(list); err != nil {
		return nil, err
	}
	sn, err := n.keep, error(nil)
	if sn == nil {
		if sn, err = signMeta(ctx, root, RoleSnapshot, n.snapshot, n.at, list, n.by); err != nil {
			return nil, err
		}
	}
	ts, err := signMeta(ctx, root, RoleTimestamp, n.timestamp, n.at, sn, n.by)
	if err != nil {
		return nil, err
	}
	return assemble(chain, files{RoleTimestamp: ts, RoleSnapshot: sn, RoleTargets: list})
}
