package box

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// FuzzPlainAnswers feeds the parsers of what a server says: a name that one returns is of the product, and
// was in the answer.
func FuzzPlainAnswers(f *testing.F) {
	f.Add([]byte(`{"newest":"opq-box-update-1.tar.gz"}`), []byte("1"), []byte("opq-box-update-1.tar.gz\nopq-box-update-1.tar.bz2"))
	f.Add([]byte(`{"newest":null}`), []byte("01"), []byte("\n\n"))
	f.Add([]byte(`{"newest":"other-1.tar.gz"}`), []byte(""), []byte("opq-box-update-2.tar.gz"))
	f.Add([]byte(`{"newest":"opq-box-update-1.tar.gz","updates":[{"name":"opq-box-update-1.tar.gz","sha256":"`+strings.Repeat("01", 32)+`","length":7}]}`), []byte("1"), []byte(""))
	f.Add([]byte(`{"newest":"opq-box-update-1.tar.gz","updates":[{"name":"opq-box-update-1.tar.gz","sha256":"`+strings.Repeat("01", 32)+`","length":-7}]}`), []byte("1"), []byte(""))
	f.Add([]byte(`[]`), []byte("99999999999999999999999999999999"), []byte(""))
	f.Fuzz(func(t *testing.T, catalog, version, list []byte) {
		u, err := parseUpdates(catalog, update.DefaultProduct)
		if err == nil && (u.Name.Product() != update.DefaultProduct || u.Length < 0 || u.Length > update.MaxLength || u.Digest.IsZero() && u.Length > 0) {
			t.Fatalf("%q gave %+v", catalog, u)
		}
		v, err := update.ParseVersion(string(version))
		if err != nil {
			return
		}
		n, err := parseList(v, list, update.DefaultProduct)
		if err != nil {
			return
		}
		if n.Product() != update.DefaultProduct || n.Version().String() != string(version) || !bytes.Contains(list, []byte(n.String())) {
			t.Fatalf("%q, %q gave %v", version, list, n)
		}
	})
}

// TestBudget: what came of an update is counted for its day, and what is over is told.
func TestBudget(t *testing.T) {
	r, saved := &record{}, 0
	b := budget{allowance{100, func() time.Time { return start }, r, func() error { saved++; return nil }}, must(update.ParseName("opq-box-update-1.tar.gz")), update.Sum(nil)}
	if got := b.Left(); got != 100 {
		t.Errorf("at first: got %d", got)
	}
	check(t, b.Spend(60, 70))
	if got := b.Left(); got != 40 || saved != 1 || r.Part != (part{update.Sum(nil), 70}) {
		t.Errorf("got %d left, saved %d times, %+v", got, saved, r.Part)
	}
	if err := b.Over(50); !errors.Is(err, errCap) || !strings.Contains(err.Error(), "the next part has 50 bytes, and max_bytes_per_day leaves 40 today") {
		t.Errorf("got %v", err)
	}
}
