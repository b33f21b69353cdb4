package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// Repository is one complete repository: a root, and the timestamp, snapshot and targets that it accepts and that fit
// together. It is immutable and safe for concurrent use. Only this package makes one; nil is none. It may be expired:
// see Fresh.
type Repository struct {
	chain   []*Root // the roots that a State may not have stored yet, ascending; the last is that of the repository
	files   files   // timestamp, snapshot and list
	catalog *update.Catalog
	byName  map[update.Name]Release
}

// assemble makes a Repository of parts that were verified against each other.
func assemble(chain []*Root, parts files) (*Repository, error) {
	list := parts[RoleTargets]
	updates := make([]update.Update, len(list.releases))
	for i, r := range list.releases {
		updates[i] = r.Update()
	}
	// The first list of a repository is empty; a later one that is empty had updates before.
	c, err := update.NewCatalog(updates, list.version > 1)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", list.name(), ErrMalformed, err)
	}
	return &Repository{chain, parts, c, byName(list.releases)}, nil
}

// Root returns the root.
func (r *Repository) Root() *Root { return newest(r.chain) }

// Catalog returns what the repository lists.
func (r *Repository) Catalog() *update.Catalog { return r.catalog }

// Releases returns what the repository lists, ascending as the catalog does.
func (r *Repository) Releases() []Release { return slices.Clone(r.list().releases) }

// LeftOut returns an error for each entry of the list that is not among Releases because no archive can match it.
// Every reader leaves these out, and so does the next list.
func (r *Repository) LeftOut() []error { return slices.Clone(r.list().impossible) }

// Release returns the release of that name.
func (r *Repository) Release(n update.Name) (Release, bool) {
	rel, ok := r.byName[n]
	return rel, ok
}

func (r *Repository) list() *file { return r.files[RoleTargets] }

// file returns the file of that role, an empty one for an unknown role.
func (r *Repository) file(role Role) *file {
	if role == RoleRoot {
		return r.Root().file
	}
	if f := r.files[role]; f != nil {
		return f
	}
	return &file{}
}

// Version returns the version of the file of that role, 0 for an unknown role.
func (r *Repository) Version(role Role) int64 { return r.file(role).version }

// Versions returns the versions of the four files, all 0 if r is nil.
func (r *Repository) Versions() status.Versions {
	if r == nil {
		return status.Versions{}
	}
	return status.Versions{Root: r.Version(RoleRoot), Targets: r.Version(RoleTargets), Snapshot: r.Version(RoleSnapshot), Timestamp: r.Version(RoleTimestamp)}
}

// Same reports whether both are the same repository. Each may be nil.
func (r *Repository) Same(other *Repository) bool {
	if r == nil || other == nil {
		return r == other
	}
	return bytes.Equal(r.Raw(RoleTimestamp), other.Raw(RoleTimestamp)) && bytes.Equal(r.Raw(RoleRoot), other.Raw(RoleRoot))
}

// Expires returns when the file of that role expires.
func (r *Repository) Expires(role Role) time.Time { return r.file(role).expires }

// Issued returns when the file of that role was signed, by the signer's clock.
func (r *Repository) Issued(role Role) time.Time { return r.file(role).issued }

// Raw returns the file of that role as signed. The caller must not change it.
func (r *Repository) Raw(role Role) []byte { return r.file(role).raw }

// Signers returns the keys that signed the file of that role and that the root has for it.
func (r *Repository) Signers(role Role) []keys.Public { return signers(r.Root(), r.file(role)) }

// Reference returns the reference time by that clock.
func (r *Repository) Reference(c Clock) time.Time { return c.reference(r.files[RoleTimestamp]) }

// Fresh refuses, with ErrExpired, a repository if one of its files expired before the reference time.
func (r *Repository) Fresh(c Clock) error {
	reference := r.Reference(c)
	for _, role := range Roles() {
		if err := c.judge(r.file(role), reference); err != nil {
			return err
		}
	}
	return nil
}

// StaleSince returns since when only Clock.AcceptStale makes the repository acceptable, and the zero time if it is
// not expired.
func (r *Repository) StaleSince(c Clock) time.Time {
	first := r.Expires(RoleTimestamp)
	if sn := r.Expires(RoleSnapshot); sn.Before(first) {
		first = sn
	}
	if r.Reference(c).After(first) {
		return first
	}
	return time.Time{}
}

// RenewalDue reports whether the timestamp or the snapshot has less than half of its life left. The holder of the
// online key must call Next then.
func (r *Repository) RenewalDue(at time.Time) bool {
	return r.files[RoleTimestamp].halfOver(at) || r.files[RoleSnapshot].halfOver(at)
}

// halfOver reports whether half of the life of the file is over.
func (f *file) halfOver(at time.Time) bool {
	return at.After(f.issued.Add(f.expires.Sub(f.issued) / 2))
}

// VerifyDetached verifies the detached signatures by keys that the root has. The error wraps that of signing.Open.
func (r *Repository) VerifyDetached() error { return verifyDetached(r.Root(), r.list().releases) }

// VerifyArchive reads src to its end, in constant memory, and returns its block list. The error is ErrMismatch if src is
// not the archive of the release. read, if not nil, is called after each piece, with its length.
func VerifyArchive(ctx context.Context, r Release, src io.Reader, read func(n int)) (update.Blocks, error) {
	if r.IsZero() {
		return nil, errors.New("verify: no release")
	}
	digest, blocks, length, err := update.Hash(ctx, io.LimitReader(src, r.Length()+1), read)
	if err != nil {
		return nil, err
	}
	if length > r.Length() {
		return nil, fmt.Errorf("%w: expected %d bytes, got more", ErrMismatch, r.Length())
	}
	if digest != r.Digest() || length != r.Length() {
		return nil, fmt.Errorf("%w: expected %d bytes with digest %v, got %d with %v", ErrMismatch, r.Length(), r.Digest(), length, digest)
	}
	if got := update.Sum(blocks.Bytes()); got != r.Blocks() {
		return nil, fmt.Errorf("%w: expected a block list with digest %v, got %v", ErrMismatch, r.Blocks(), got)
	}
	return blocks, nil
}

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
		if root.roles[RoleSnapshot].has(s.Public()) && !slices.Contains(good, s.Public()) {
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
