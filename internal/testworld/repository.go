package testworld

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Start is the time at which the stories of tests begin.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A Keyring holds all keys of a repository.
type Keyring struct {
	Roots, Releases []*Signer
	Online          *Signer
}

// NewKeyring returns one key for each role. Keyrings of different prefixes have different keys.
func NewKeyring(prefix string) Keyring {
	return Keyring{[]*Signer{NewSigner(prefix + "root")}, []*Signer{NewSigner(prefix + "release")}, NewSigner(prefix + "online")}
}

// Init returns a repository without an update. Its next root needs the signatures of need root keys, or of all where there are
// fewer; its next list those of need release keys.
func (k Keyring) Init(t testing.TB, at time.Time, need int) *trust.Repository {
	t.Helper()
	repo, err := trust.Init(t.Context(), at, trust.Setup{
		Root:    trust.Holder{Keys: Publics(k.Roots...), Threshold: min(need, len(k.Roots))},
		Release: trust.Holder{Keys: Publics(k.Releases...), Threshold: need},
		Online:  k.Online.Public(),
	}, append(append(Signers(k.Roots...), Signers(k.Releases...)...), k.Online)...)
	Must(t, err)
	return repo
}

// SignList signs the next list of a repository, with what change changes.
func SignList(t testing.TB, repo *trust.Repository, ledger *trust.Ledger, at time.Time, by []*Signer, change func(*trust.TargetsEdit) error) *trust.Proposal {
	t.Helper()
	e, err := repo.EditTargets(ledger, 0, at)
	Must(t, err)
	Must(t, change(e))
	p, err := e.Sign(t.Context(), Signers(by...)...)
	Must(t, err)
	return p
}

// SignRoot signs the next root of a repository, with what change changes. If change is nil, the root is only renewed.
func SignRoot(t testing.TB, repo *trust.Repository, at time.Time, by []*Signer, change func(*trust.RootEdit) error) *trust.Proposal {
	t.Helper()
	e := repo.EditRoot(at)
	if change != nil {
		Must(t, change(e))
	}
	p, err := e.Sign(t.Context(), Signers(by...)...)
	Must(t, err)
	return p
}

// AnotherReleaseKey changes a root without an effect on what is published: it adds a release key.
func AnotherReleaseKey(e *trust.RootEdit) error {
	return e.AddKey(trust.RoleTargets, NewSigner("another release").Public())
}

// Addition returns the entry for an archive, with its length, its digest and its blocks alone.
func Addition(name string, data []byte) trust.Addition {
	return trust.Addition{Name: Name(name), Digest: update.Sum(data), Length: int64(len(data)), Blocks: update.Sum(Blocks(data).Bytes())}
}

// Name parses the name of an update, and panics if s is none.
func Name(s string) update.Name {
	n, err := update.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

// Listed returns the names of a repository's updates, none for nil.
func Listed(r *trust.Repository) (names []string) {
	if r == nil {
		return nil
	}
	for _, rel := range r.Releases() {
		names = append(names, rel.Name().String())
	}
	return names
}

// Must ends the test if err is not nil.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// WantErr ends the test unless err is want, and fails it unless the message of err contains each of parts.
func WantErr(t testing.TB, err, want error, parts ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("expected %q, got %v", want, err)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("expected %q in %v", p, err)
		}
	}
}
