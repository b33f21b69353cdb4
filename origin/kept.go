package origin

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// blocksSuffix ends the name of a block list.
const blocksSuffix = ".blocks"

// proposal is a proposal that is kept. It is immutable.
type proposal struct {
	*trust.Proposal
	id       update.Digest
	since    time.Time                       // when its first signature came, or a server first saw it
	local    bool                            // the signer of the directory keeps it; see Config.Local
	complete bool                            // it has enough signatures
	archives map[update.Digest]trust.Release // of a staged list
}

func newProposal(p *trust.Proposal, since time.Time, local bool) *proposal {
	out := &proposal{Proposal: p, id: update.Sum(p.Raw()), since: since.UTC().Truncate(time.Second), local: local, complete: p.Complete()}
	if out.complete {
		out.archives = map[update.Digest]trust.Release{}
		for _, r := range p.Releases() {
			out.archives[r.Digest()] = r
		}
	}
	return out
}

func (p *proposal) fileName() string {
	return fileName{p.Version(), p.Role(), p.id, p.since, p.local}.String()
}

// staged reports whether p is a list that waits for its archives.
func (p *proposal) staged() bool { return p.complete && p.Role() == trust.RoleTargets }

// signers returns the keys that signed.
func (p *proposal) signers() map[keys.ID]bool {
	out := map[keys.ID]bool{}
	for _, n := range p.Needs() {
		for _, k := range n.Have {
			out[k.ID()] = true
		}
	}
	return out
}

// check checks a proposal against what is published.
func (o *Origin) check(role trust.Role, reserved int64, raw []byte, at time.Time) (*trust.Proposal, error) {
	return o.repository().Check(role, o.c.Store.Ledger(), reserved, raw, at)
}

// notBefore returns the time, or since if the clock is behind that. A computer whose clock has no battery is behind until
// the network is up, and must not refuse what it accepted earlier.
func (o *Origin) notBefore(since time.Time) time.Time {
	if now := o.c.Now(); now.After(since) {
		return now
	}
	return since
}

// write writes a proposal, durably, and adds it.
func (o *Origin) write(p *proposal) error {
	if err := o.c.FS.WriteFile(filepath.Join(o.dir, p.fileName()), p.Raw(), 0o644); err != nil {
		return err
	}
	o.mu.Lock()
	o.kept[p.id] = p
	o.mu.Unlock()
	return nil
}

// recheck drops proposals that do not follow what is published now.
func (o *Origin) recheck() {
	for _, p := range o.proposals() {
		again, err := o.check(p.Role(), p.Version(), p.Raw(), o.notBefore(p.since))
		if err != nil {
			// publish has logged what it published.
			if !bytes.Equal(p.Raw(), o.repository().Raw(p.Role())) {
				o.c.Logger.Info("proposal dropped", "role", p.Role(), "version", p.Version(), "err", err)
			}
			o.drop(p)
			continue
		}
		o.mu.Lock()
		o.kept[p.id] = newProposal(again, p.since, p.local)
		o.mu.Unlock()
	}
	o.tidy()
}

// tidy drops proposals that were kept for too long or have a newer one in their place, and unused block lists. The next
// call tries again what can't be removed now.
func (o *Origin) tidy() {
	all := o.proposals()
	for _, p := range all {
		if why := o.whySuperfluous(p, all); why != "" {
			o.c.Logger.Info("proposal dropped", "role", p.Role(), "version", p.Version(), "reason", why)
			o.drop(p)
		}
	}
	o.removeUnused()
}

// whySuperfluous returns why a proposal need not be kept, "" if it must.
func (o *Origin) whySuperfluous(p *proposal, all []*proposal) string {
	if !o.c.Now().Before(p.since.Add(o.c.Keep)) {
		return "it was kept for too long"
	}
	newer := slices.DeleteFunc(slices.Clone(all), func(q *proposal) bool { return q.Role() != p.Role() || compare(q, p) <= 0 })
	if p.staged() {
		newer = slices.DeleteFunc(newer, func(q *proposal) bool { return !q.staged() })
		if slices.ContainsFunc(newer, func(q *proposal) bool { return sameContent(p.Raw(), q.Raw()) }) {
			return "more have signed"
		}
		if len(newer) >= o.c.MaxStaged {
			return "too many are staged"
		}
		return ""
	}
	mine := p.signers()
	for _, q := range newer {
		if sameContent(p.Raw(), q.Raw()) {
			return "more have signed"
		}
		maps.DeleteFunc(mine, func(k keys.ID, _ bool) bool { return q.signers()[k] })
	}
	if len(mine) == 0 {
		return "its signers signed a newer one"
	}
	return ""
}

// compare orders proposals of one role; a newer one is greater. It goes by when they were signed, not by when they came,
// so that sending an old one again does not bring it back.
func compare(a, b *proposal) int {
	return cmp.Or(
		cmp.Compare(a.Version(), b.Version()),
		a.Plan().ToExpires.Compare(b.Plan().ToExpires),
		bytes.Compare(signedPart(a.Raw()), signedPart(b.Raw())),
		cmp.Compare(len(a.signers()), len(b.signers())),
		bytes.Compare(a.id[:], b.id[:]),
	)
}

// drop removes a proposal and its file.
func (o *Origin) drop(p *proposal) {
	o.forget(p)
	o.removeFile(p.fileName())
}

// forget removes a proposal, but not its file.
func (o *Origin) forget(p *proposal) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.kept, p.id)
}

func (o *Origin) removeFile(name string) {
	if err := o.c.FS.Remove(filepath.Join(o.dir, name)); err != nil {
		o.c.Logger.Warn("file not removed", "file", name, "err", err)
	}
}

// used returns the files of staging/publish and the archives that proposals need.
func (o *Origin) used() (files map[string]bool, archives map[update.Digest]bool) {
	files, archives = map[string]bool{}, map[update.Digest]bool{}
	for _, p := range o.proposals() {
		files[p.fileName()] = true
		for d, r := range p.archives {
			archives[d] = true
			files[r.Blocks().String()+blocksSuffix] = true
		}
	}
	return files, archives
}

// proposals returns what is kept, the oldest first.
func (o *Origin) proposals() []*proposal {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.SortedFunc(maps.Values(o.kept), func(a, b *proposal) int {
		return cmp.Or(strings.Compare(string(b.Role()), string(a.Role())), compare(a, b))
	})
}

// find returns a proposal by its ID.
func (o *Origin) find(id update.Digest) (*proposal, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.kept[id]
	if p == nil || o.closed {
		return nil, fmt.Errorf("proposal %v: %w", id, ErrNotFound)
	}
	return p, nil
}
