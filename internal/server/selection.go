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

// plainDir is a directory that is served with the signatures that lie beside its archives.
type plainDir struct {
	*dropdir.Dir
	key keys.ID // made the signatures; "": not known
}

// Signatures returns the signature of an update, if there is one.
func (d plainDir) Signatures(u update.Update) []trust.KeySignature {
	sig, ok := d.Signature(u)
	if !ok {
		return nil
	}
	return []trust.KeySignature{{Key: d.key, Signature: sig}}
}

// selection is the part of some catalogs that is served.
type selection struct {
	of      [2]*update.Catalog
	catalog *update.Catalog
	omitted []omission
}

// omission is an update that is not served, and why.
type omission struct {
	name   update.Name
	reason string
}

// selector selects again when a catalog has changed.
type selector struct {
	catalogs func() [2]*update.Catalog // the newest ones
	choose   func([2]*update.Catalog) (*update.Catalog, []omission)
	logger   *slog.Logger

	current  atomic.Pointer[selection]
	changing sync.Mutex
}

// selection returns the selection from the newest catalogs.
func (s *selector) selection() *selection {
	if last := s.current.Load(); last != nil && last.of == s.catalogs() {
		return last
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	last, of := s.current.Load(), s.catalogs()
	if last != nil && last.of == of {
		return last
	}
	next := &selection{of: of}
	next.catalog, next.omitted = s.choose(of)
	s.current.Store(next)
	s.logOmissions(last, next)
	return next
}

// logOmissions logs the omissions that are new.
func (s *selector) logOmissions(last, next *selection) {
	known := map[omission]bool{}
	if last != nil {
		for _, o := range last.omitted {
			known[o] = true
		}
	}
	for _, o := range next.omitted {
		if !known[o] {
			s.logger.Warn("update left out", "name", o.name, "reason", o.reason)
		}
	}
}

// Catalog returns the catalog that is served, which is the same pointer until something changes.
func (s *selector) Catalog() *update.Catalog { return s.selection().catalog }

// signedDir is a directory of which only the updates are served that the release key signed.
type signedDir struct {
	plainDir
	*selector
	key      keys.Public
	verified map[claim]bool // as of the last selection; guarded by selector.changing
}

// claim says that the release key signed an update.
type claim struct {
	name   update.Name
	digest update.Digest
	sig    signing.Signature
}

func newSignedDir(d *dropdir.Dir, key keys.Public, logger *slog.Logger) *signedDir {
	s := &signedDir{plainDir: plainDir{d, key.ID()}, key: key}
	s.selector = &selector{
		catalogs: func() [2]*update.Catalog { return [2]*update.Catalog{d.Catalog()} },
		choose:   s.choose,
		logger:   logger,
	}
	return s
}

// Catalog returns the updates that the release key signed.
func (d *signedDir) Catalog() *update.Catalog { return d.selector.Catalog() }

func (d *signedDir) choose(of [2]*update.Catalog) (*update.Catalog, []omission) {
	var listed []update.Update
	var omitted []omission
	verified := map[claim]bool{}
	for _, u := range of[0].Updates() {
		if u.Digest.IsZero() {
			continue // until it is hashed
		}
		sig, ok := d.Signature(u)
		c := claim{u.Name, u.Digest, sig}
		switch {
		case !ok:
			omitted = append(omitted, omission{u.Name, "no signature lies beside it"})
		case d.verified[c] || d.verify(c):
			verified[c] = true
			listed = append(listed, u)
		default:
			omitted = append(omitted, omission{u.Name, "its signature is not by the release key " + d.key.Fingerprint()})
		}
	}
	d.verified = verified
	return catalogOf(listed, of[0].HadUpdates()), omitted
}

func (d *signedDir) verify(c claim) bool {
	_, err := signing.Open(c.digest, c.name, c.sig, d.key)
	return err == nil
}

// catalogOf makes a catalog of updates with different names.
func catalogOf(updates []update.Update, had bool) *update.Catalog {
	c, err := update.NewCatalog(updates, had)
	if err != nil {
		panic(err) // names are those of a catalog
	}
	return c
}

// repositoryWithDir is a repository with a directory beside it. Signed archives are served from either place, and other
// archives of the directory only if the settings allow it.
type repositoryWithDir struct {
	*selector
	repository *repository
	dir        *dropdir.Dir
	unsigned   bool // other archives of the directory are served too
}

func newRepositoryWithDir(r *repository, d *dropdir.Dir, unsigned bool, logger *slog.Logger) *repositoryWithDir {
	b := &repositoryWithDir{repository: r, dir: d, unsigned: unsigned}
	b.selector = &selector{
		catalogs: func() [2]*update.Catalog { return [2]*update.Catalog{r.store.Catalog(), d.Catalog()} },
		choose:   b.choose,
		logger:   logger,
	}
	return b
}

func (b *repositoryWithDir) choose(of [2]*update.Catalog) (*update.Catalog, []omission) {
	list, dir := of[0], of[1]
	var rest []update.Update
	var omitted []omission
	for _, u := range dir.Updates() {
		reason := b.conflict(list, u)
		switch {
		case reason != "":
			omitted = append(omitted, omission{u.Name, reason})
		case b.isSigned(list, u):
		case b.unsigned:
			u.Unsigned = true
			rest = append(rest, u)
		case !u.Digest.IsZero():
			omitted = append(omitted, omission{u.Name, "the signed list does not have it"})
		}
	}
	if len(rest) == 0 {
		return list, omitted
	}
	return catalogOf(append(rest, list.Updates()...), list.HadUpdates()), omitted
}

// isSigned reports whether an update of the directory is one of the list, by its bytes or, before it is
// hashed, by its name.
func (b *repositoryWithDir) isSigned(list *update.Catalog, u update.Update) bool {
	_, byDigest := list.ByDigest(u.Digest)
	_, byName := list.Lookup(u.Name)
	return byDigest || byName
}

// conflict returns the reason why an update of the directory is not served even if the settings allow unsigned ones, ""
// if there is none. A signed name keeps its digest for ever, and a withdrawn name stays withdrawn.
func (b *repositoryWithDir) conflict(list *update.Catalog, u update.Update) string {
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

// Open opens an update in the place that its catalog says.
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

// Replaced reports whether a name had other bytes before. A signed name never had.
func (b *repositoryWithDir) Replaced(n update.Name) bool {
	u, ok := b.Catalog().Lookup(n)
	return ok && u.Unsigned && b.dir.Replaced(n)
}

// Signatures returns the signatures in the list, or of an unsigned update the one that lies beside it.
func (b *repositoryWithDir) Signatures(u update.Update) []trust.KeySignature {
	if u.Unsigned {
		return plainDir{Dir: b.dir}.Signatures(u)
	}
	return b.repository.Signatures(u)
}
