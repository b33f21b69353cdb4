package server

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store/dropdir"
	"github.com/openpowerquality/box-update-server/update"
)

// plainDir is a directory that is served as it is. Nobody knows which key made the signatures beside its archives.
type plainDir struct{ *dropdir.Dir }

// Signatures returns what lies beside an update.
func (d plainDir) Signatures(u update.Update) []trust.KeySignature {
	sig, ok := d.Signature(u)
	if !ok {
		return nil
	}
	return []trust.KeySignature{{Signature: sig}}
}

// selection is what of some catalogs is served.
type selection struct {
	of      [2]*update.Catalog
	catalog *update.Catalog
	left    []omission
}

// omission is an update that is left out, and why.
type omission struct {
	name   update.Name
	reason string
}

// selector selects anew when a catalog has changed.
type selector struct {
	of     func() [2]*update.Catalog // as they are now
	choose func([2]*update.Catalog) (*update.Catalog, []omission)
	logger *slog.Logger

	current  atomic.Pointer[selection]
	changing sync.Mutex
}

// selected returns the selection of what is there now.
func (s *selector) selected() *selection {
	if last := s.current.Load(); last != nil && last.of == s.of() {
		return last
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	last, of := s.current.Load(), s.of()
	if last != nil && last.of == of {
		return last
	}
	next := &selection{of: of}
	next.catalog, next.left = s.choose(of)
	s.current.Store(next)
	s.logOmissions(last, next)
	return next
}

// logOmissions logs what is left out and was not before.
func (s *selector) logOmissions(last, next *selection) {
	known := map[omission]bool{}
	if last != nil {
		for _, o := range last.left {
			known[o] = true
		}
	}
	for _, o := range next.left {
		if !known[o] {
			s.logger.Warn("update left out", "name", o.name, "reason", o.reason)
		}
	}
}

// Catalog returns what is served: the same pointer until something changes.
func (s *selector) Catalog() *update.Catalog { return s.selected().catalog }

// signedDir is a directory of which only that is served which the release key signed.
type signedDir struct {
	*dropdir.Dir
	*selector
	key  keys.Public
	good map[signed]bool // what was verified before; guarded by selector.changing
}

type signed struct {
	name   update.Name
	digest update.Digest
	sig    signing.Signature
}

func newSignedDir(d *dropdir.Dir, key keys.Public, logger *slog.Logger) *signedDir {
	s := &signedDir{Dir: d, key: key}
	s.selector = &selector{
		of:     func() [2]*update.Catalog { return [2]*update.Catalog{d.Catalog()} },
		choose: s.choose,
		logger: logger,
	}
	return s
}

// Catalog returns what the release key signed.
func (d *signedDir) Catalog() *update.Catalog { return d.selector.Catalog() }

func (d *signedDir) choose(of [2]*update.Catalog) (*update.Catalog, []omission) {
	var listed []update.Update
	var left []omission
	good := map[signed]bool{}
	for _, u := range of[0].Updates() {
		if u.Digest.IsZero() {
			continue // until it is hashed
		}
		sig, ok := d.Signature(u)
		s := signed{u.Name, u.Digest, sig}
		switch {
		case !ok:
			left = append(left, omission{u.Name, "no signature lies beside it"})
		case d.good[s] || d.verify(s):
			good[s] = true
			listed = append(listed, u)
		default:
			left = append(left, omission{u.Name, "its signature is not by the release key " + d.key.Fingerprint()})
		}
	}
	d.good = good
	return catalogOf(listed, of[0].HadUpdates()), left
}

func (d *signedDir) verify(s signed) bool {
	_, err := signing.Open(s.digest, s.name, s.sig, d.key)
	return err == nil
}

// Signatures returns the signature that was verified.
func (d *signedDir) Signatures(u update.Update) []trust.KeySignature {
	sig, ok := d.Signature(u)
	if !ok {
		return nil
	}
	return []trust.KeySignature{{Key: d.key.ID(), Signature: sig}}
}

// catalogOf makes a catalog of updates with different names.
func catalogOf(updates []update.Update, had bool) *update.Catalog {
	c, err := update.NewCatalog(updates, had)
	if err != nil {
		panic(err) // names are those of a catalog
	}
	return c
}

// repositoryWithDir is a repository with a directory beside it. A signed archive is served from wherever it lies;
// the other archives of the directory only where the settings say so.
type repositoryWithDir struct {
	*selector
	repository *repository
	dir        *dropdir.Dir
	unsigned   bool // the rest is served too
}

func newRepositoryWithDir(r *repository, d *dropdir.Dir, unsigned bool, logger *slog.Logger) *repositoryWithDir {
	b := &repositoryWithDir{repository: r, dir: d, unsigned: unsigned}
	b.selector = &selector{
		of:     func() [2]*update.Catalog { return [2]*update.Catalog{r.store.Catalog(), d.Catalog()} },
		choose: b.choose,
		logger: logger,
	}
	return b
}

func (b *repositoryWithDir) choose(of [2]*update.Catalog) (*update.Catalog, []omission) {
	list, dir := of[0], of[1]
	var rest []update.Update
	var left []omission
	for _, u := range dir.Updates() {
		reason := b.refuses(list, u)
		switch {
		case reason != "":
			left = append(left, omission{u.Name, reason})
		case b.isSigned(list, u):
		case b.unsigned:
			u.Unsigned = true
			rest = append(rest, u)
		case !u.Digest.IsZero():
			left = append(left, omission{u.Name, "the signed list does not have it"})
		}
	}
	if len(rest) == 0 {
		return list, left
	}
	return catalogOf(append(rest, list.Updates()...), list.HadUpdates()), left
}

// isSigned reports whether an update of the directory is one of the list, by its bytes or, before it is
// hashed, by its name.
func (b *repositoryWithDir) isSigned(list *update.Catalog, u update.Update) bool {
	_, byDigest := list.ByDigest(u.Digest)
	_, byName := list.Lookup(u.Name)
	return byDigest || byName
}

// refuses says why an update of the directory is not served in any case, "" if nothing speaks against it: a
// name that was signed stands for those bytes for ever, and one that was withdrawn stays so.
func (b *repositoryWithDir) refuses(list *update.Catalog, u update.Update) string {
	digest, known := b.repository.store.Ledger().Digest(u.Name)
	_, listed := list.Lookup(u.Name)
	switch {
	case !known:
		return ""
	case !u.Digest.IsZero() && u.Digest != digest:
		return fmt.Sprintf("signed under this name was %v, and this is %v", digest, u.Digest)
	case !listed:
		return "it was withdrawn"
	}
	return ""
}

// Open opens an update from where its catalog has it.
func (b *repositoryWithDir) Open(u update.Update) (*os.File, error) {
	if u.Unsigned {
		return b.dir.Open(u)
	}
	return b.repository.store.Open(u)
}

// Blocks returns the block list of an update.
func (b *repositoryWithDir) Blocks(u update.Update) (update.Blocks, error) {
	if u.Unsigned {
		return b.dir.Blocks(u)
	}
	return b.repository.store.Blocks(u)
}

// Replaced reports whether a name had other bytes before, which no signed one has.
func (b *repositoryWithDir) Replaced(n update.Name) bool {
	u, ok := b.Catalog().Lookup(n)
	return ok && u.Unsigned && b.dir.Replaced(n)
}

// Signatures returns those of the list, and for the rest what lies beside it.
func (b *repositoryWithDir) Signatures(u update.Update) []trust.KeySignature {
	if u.Unsigned {
		return plainDir{b.dir}.Signatures(u)
	}
	return b.repository.Signatures(u)
}
