package trust_test

import (
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// An entry that no archive can be is left out wherever a list is read, and the rest of the list counts: a list
// that is out already must not keep its boxes from everything else, nor its signer from the next list.
func TestImpossibleEntries(t *testing.T) {
	w := newWorld(t)
	w.add(one, two)
	good, _ := w.repo.Release(name(t, two))
	bad, _ := w.repo.Release(name(t, one))
	for what, change := range map[string]func(string) string{
		"no bytes, and a digest of some": replace(t, `"length":36`, `"length":0`),
		"bytes, and the digest of none":  replace(t, bad.Digest().String(), update.Sum(nil).String()),
		"the block list of another":      replace(t, bad.Blocks().String(), good.Blocks().String()),
	} {
		t.Run(what, func(t *testing.T) {
			b := newBox(t, w.repo.Root())
			b.must(forgery{targets: change}.of(t, w), w.clock())
			b.reopen()
			r, err := b.state.Current()
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Releases(); len(got) != 1 || got[0].Name() != good.Name() {
				t.Errorf("expected %v alone, got %v", good.Name(), got)
			}
			if left := r.LeftOut(); len(left) != 1 || !strings.Contains(left[0].Error(), one) {
				t.Errorf("expected one entry left out, %s, got %v", one, left)
			}
			e, err := r.EditTargets(b.state.Ledger(), 0, w.at)
			if err != nil {
				t.Fatal(err)
			}
			p := w.sign(e, w.releases...)
			if got := p.Releases(); len(got) != 1 || strings.Contains(string(p.Raw()), one) {
				t.Errorf("the next list has it still: %v", got)
			}
		})
		t.Run(what+", proposed", func(t *testing.T) {
			next := func(s string) string { return replace(t, `"version":2}`, `"version":3}`)(change(s)) }
			raw := resigned(next(signedPart(t, w.repo.Raw(trust.RoleTargets))), w.releases...)
			_, err := w.repo.CheckTargets(&trust.Ledger{}, 0, raw, w.at)
			wantErr(t, err, trust.ErrMalformed)
			if !strings.Contains(err.Error(), one) {
				t.Errorf("expected %s to be named, got %v", one, err)
			}
		})
	}
	a := addition(t, "opq-box-update-9.tar.gz", nil)
	if err := w.edit().Add(a); err != nil {
		t.Errorf("an empty archive: %v", err)
	}
	a.Length = 1
	if err := w.edit().Add(a); err == nil {
		t.Error("expected an addition that no archive can be to be refused")
	}
}
