package trust

import (
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// TestPlanTellsAnotherDigest: a plan that gives a listed name another digest says so, and never looks like a renewal.
func TestPlanTellsAnotherDigest(t *testing.T) {
	n, err := update.ParseName("opq-1.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	list := func(content string) map[update.Name]Release {
		var h update.Hasher
		h.Write([]byte(content))
		digest, blocks, length := h.Result()
		r, err := Addition{Name: n, Digest: digest, Length: length, Blocks: update.Sum(blocks.Bytes())}.release(time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		return byName([]Release{r})
	}
	p := planTargets(&Ledger{}, list("one"), list("another"))
	if p.Empty() || len(p.Rebound) != 1 || p.Rebound[0] != (Binding{n, update.Sum([]byte("one")), update.Sum([]byte("another"))}) {
		t.Errorf("expected to be told of %v, got %+v", n, p)
	}
	if p := planTargets(&Ledger{}, list("one"), list("one")); !p.Empty() {
		t.Errorf("expected no change, got %+v", p)
	}
}
