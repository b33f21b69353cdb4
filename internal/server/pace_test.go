package server

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// A rate holds within one large archive, from its first piece on.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := capReading(t.Context(), 100_000)
		start := time.Now()
		for n := 1; n <= 20; n++ {
			read(update.Digest{}, 500_000)
			if took := time.Since(start); took.Round(time.Second) != time.Duration(n)*5*time.Second {
				t.Fatalf("%d pieces after %v", n, took)
			}
		}
		read(update.Digest{}, 3_000_000) // more than is saved up at most
		if took := time.Since(start); took.Round(time.Second) != 130*time.Second {
			t.Errorf("a large piece after %v", took)
		}
		capReading(t.Context(), 0)(update.Digest{}, 1<<30)
		if took := time.Since(start); took.Round(time.Second) != 130*time.Second {
			t.Errorf("without a rate after %v", took)
		}
	})
}
