package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// Holder is who signs for a role.
type Holder struct {
	Keys      []keys.Public // at least Threshold of them
	Threshold int           // 0 means 1
}

// Setup says what a new repository starts with.
type Setup struct {
	Root, Release Holder

	// Online is the key of the snapshot and timestamp roles, which the origin holds.
	Online keys.Public
}

// Init makes a new repository: root 1, an empty targets 1, snapshot 1 and timestamp 1. The signers
// must meet every threshold.
func Init(ctx context.Context, at time.Time, setup Setup, by ...signing.Signer) (*Repository, error) {
	root, err := firstRoot(ctx, at, setup, by)
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	signed, err := encodeList(1, at, nil)
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	raw, err := encodeSigned(ctx, root, RoleTargets, signed, by)
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	tg, err := parseTargets(root, raw, root.Threshold(RoleTargets))
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	r, err := seal(ctx, []*Root{root}, tg, online{at: at, by: by, snapshot: 1, timestamp: 1})
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	return r, nil
}

func firstRoot(ctx context.Context, at time.Time, setup Setup, by []signing.Signer) (*Root, error) {
	meta := metadata.Root(expiry(at, RootLife))
	meta.Signed.UnrecognizedFields = issuedAt(at)
	online := Holder{Keys: []keys.Public{setup.Online}}
	for role, h := range map[Role]Holder{RoleRoot: setup.Root, RoleTargets: setup.Release, RoleSnapshot: online, RoleTimestamp: online} {
		for _, k := range h.Keys {
			if err := addKey(&meta.Signed, role, k); err != nil {
				return nil, err
			}
		}
		meta.Signed.Roles[string(role)].Threshold = max(h.Threshold, 1)
	}
	unsigned, err := rootOf(meta.Signed)
	if err != nil {
		return nil, err
	}
	raw, err := encode(ctx, unsigned, RoleRoot, meta.Signed, by)
	if err != nil {
		return nil, err
	}
	return ParseRoot(raw)
}

// rootOf reads the content of a root that this package made and that nobody has signed yet.
func rootOf(content metadata.RootType) (*Root, error) {
	raw, err := encode(context.Background(), nil, RoleRoot, content, nil)
	if err != nil {
		return nil, err
	}
	return parseRoot(nil, raw)
}

func addKey(s *metadata.RootType, role Role, k keys.Public) error {
	if k.IsZero() {
		return fmt.Errorf("role %s: no key", role)
	}
	key, err := metadata.KeyFromPublicKey(k.Ed25519())
	if err != nil {
		return fmt.Errorf("role %s: %w", role, err)
	}
	return s.AddKey(key, string(role))
}

// Change says what the next repository has that the one before hasn't. The zero Change has nothing
// new: snapshot and timestamp are renewed.
type Change struct {
	Root    *Proposal // complete, or nil
	Targets *Proposal // complete, or nil
}

// Next makes the repository that follows r: with the change, a timestamp of now and, where it is
// needed, a new snapshot. The signers are those of the online key, both where it is being replaced;
// signers without a part in these roles are ignored. What it returns is verified like anything that
// comes from outside. The error is ErrAhead where the same keys signed a later time before.
func (r *Repository) Next(ctx context.Context, at time.Time, c Change, by ...signing.Signer) (*Repository, error) {
	chain, tg := r.chain, r.targets
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
		tg = c.Targets.targets
	}
	if r.timestamp.version >= maxVersion || r.snapshot.version >= maxVersion {
		return nil, errors.New("timestamp or snapshot: no version is left; replace the online key and restore the repository from before the theft")
	}
	at, err := r.issueAt(at, chain[len(chain)-1], tg, by)
	if err != nil {
		return nil, err
	}
	o := online{at: at, by: by, snapshot: r.snapshot.version + 1, timestamp: r.timestamp.version + 1}
	if c == (Change{}) && !halfOver(r.snapshot.issued, r.snapshot.expires, at) && o.signed(chain[len(chain)-1], r.snapshot) {
		o.keep = r.snapshot
	}
	return seal(ctx, chain, tg, o)
}

// online is what it takes to sign snapshot and timestamp.
type online struct {
	at                  time.Time
	by                  []signing.Signer
	snapshot, timestamp int64     // versions
	keep                *snapshot // the one that stays; nil: a new one is made
}

// signed reports whether each of the signers that root has for snapshots signed sn.
func (o online) signed(root *Root, sn *snapshot) bool {
	good := signers(root, sn.file)
	for _, s := range o.by {
		if _, ok := root.roles[RoleSnapshot].find(s.Public().ID()); ok && !slices.Contains(good, s.Public()) {
			return false
		}
	}
	return len(good) >= root.Threshold(RoleSnapshot)
}

// seal signs snapshot and timestamp over targets.
func seal(ctx context.Context, chain []*Root, tg *targets, o online) (*Repository, error) {
	root := chain[len(chain)-1]
	if err := verify(root, tg.file); err != nil {
		return nil, err
	}
	sn := o.keep
	if sn == nil {
		var err error
		if sn, err = o.newSnapshot(ctx, root, linkTo(tg.file)); err != nil {
			return nil, err
		}
	}
	meta := metadata.Timestamp(expiry(o.at, TimestampLife))
	meta.Signed.UnrecognizedFields, meta.Signed.Version, meta.Signed.Meta = issuedAt(o.at), o.timestamp, linkTo(sn.file).meta()
	raw, err := encode(ctx, root, RoleTimestamp, meta.Signed, o.by)
	if err != nil {
		return nil, err
	}
	ts, err := verifyTimestamp(root, raw)
	if err != nil {
		return nil, err
	}
	return assemble(chain, ts, sn, tg)
}

func (o online) newSnapshot(ctx context.Context, root *Root, named link) (*snapshot, error) {
	meta := metadata.Snapshot(expiry(o.at, SnapshotLife))
	meta.Signed.UnrecognizedFields, meta.Signed.Version, meta.Signed.Meta = issuedAt(o.at), o.snapshot, named.meta()
	raw, err := encode(ctx, root, RoleSnapshot, meta.Signed, o.by)
	if err != nil {
		return nil, err
	}
	return verifySnapshot(root, link{RoleSnapshot, o.snapshot, int64(len(raw)), update.Sum(raw)}, raw)
}
