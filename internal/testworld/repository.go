package testworld

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Start is the time at which every story begins.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A Keyring is all keys of a repository, in the hands of one test.
type Keyring struct {
	Roots, Releases []*Signer
	Online          *Signer
}

// NewKeyring returns one key for each role, other ones for each prefix.
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

// SignList signs what change makes of a repository's list.
func SignList(t testing.TB, repo *trust.Repository, ledger *trust.Ledger, at time.Time, by []*Signer, change func(*trust.TargetsEdit) error) *trust.Proposal {
	t.Helper()
	e, err := repo.EditTargets(ledger, 0, at)
	Must(t, err)
	Must(t, change(e))
	p, err := e.Sign(t.Context(), Signers(by...)...)
	Must(t, err)
	return p
}

// SignRoot signs what change makes of a repository's root; nil: the same root, renewed.
func SignRoot(t testing.TB, repo *trust.Repository, at time.Time, by []*Signer, change func(*trust.RootEdit) error) *trust.Proposal {
	t.Helper()
	e, err := repo.EditRoot(at)
	Must(t, err)
	if change != nil {
		Must(t, change(e))
	}
	p, err := e.Sign(t.Context(), Signers(by...)...)
	Must(t, err)
	return p
}

// AnotherReleaseKey is a change of the root that nobody notices.
func AnotherReleaseKey(e *trust.RootEdit) error {
	return e.AddKey(trust.RoleTargets, NewSigner("another release").Public())
}

// Addition lists an archive, of which only the length, the digest and the blocks are told.
func Addition(name string, data []byte) trust.Addition {
	return trust.Addition{Name: Name(name), Digest: update.Sum(data), Length: int64(len(data)), Blocks: update.Sum(Blocks(data).Bytes())}
}

// Name returns a name that must be one.
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

// WantErr ends the test unless err is want, and says each of parts.
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
