package trust_test

import (
	"os"
	"slices"
	"testing"

	"github.com/openpowerquality/box-update-server/signing/trust"
)

const (
	one   = "opq-box-update-1.tar.bz2"
	two   = "opq-box-update-2.tar.bz2"
	three = "opq-box-update-3.tar.bz2"
)

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func listed(r *trust.Repository) []string {
	var out []string
	for _, rel := range r.Releases() {
		out = append(out, rel.Name().String())
	}
	return out
}

func wantListed(t testing.TB, r *trust.Repository, want ...string) {
	t.Helper()
	if got := listed(r); !slices.Equal(got, want) {
		t.Fatalf("expected %v, got %v", want, got)
	}
}

func TestInitAddWithdraw(t *testing.T) {
	w := newWorld(t)
	root := w.repo.Root()
	b := newBox(t, root)
	wantListed(t, b.must(w.dir, w.clock()))

	w.add(one, two)
	r := b.must(w.dir, w.clock())
	wantListed(t, r, one, two)
	rel, _ := r.Release(name(t, one))
	if rel.Length() != int64(len(content(one))) || rel.Unpacked() != 2*rel.Length() || !rel.Published().Equal(day) {
		t.Errorf("unexpected release %+v", rel.Update())
	}

	e := w.edit()
	if err := e.Withdraw(name(t, one)); err != nil {
		t.Fatal(err)
	}
	w.publish(trust.Change{Targets: w.sign(e, w.releases...)})
	b.reopen()
	wantListed(t, b.must(w.dir, w.clock()), two)

	got, err := verify(w.dir, root.Raw(), w.clock())
	if err != nil {
		t.Fatal(err)
	}
	wantListed(t, got, two)
}
