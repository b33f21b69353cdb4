package trust_test

import (
	"context"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// moving is a mirror that becomes another one when it is asked for a snapshot the first times.
type moving struct {
	now  *files
	then []*files
	asks int // for a timestamp
}

func (m *moving) Fetch(ctx context.Context, name string, limit int64, known update.Digest) ([]byte, error) {
	if name == trust.TimestampName {
		m.asks++
	}
	if strings.HasSuffix(name, ".snapshot.json") && len(m.then) > 0 {
		m.now, m.then = m.then[0], m.then[1:]
	}
	return m.now.Fetch(ctx, name, limit, known)
}

// TestRefreshOfWhatWasReplaced: where the snapshot is gone that a timestamp names, there is a newer timestamp.
func TestRefreshOfWhatWasReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mirrors []*files
	for _, n := range []string{one, two, three} {
		w.add(n)
		m := copyOf(t, w.dir)
		for name := range m.data {
			role, version, ok := trust.ParseFileName(name)
			if ok && role == trust.RoleSnapshot && version != w.repo.Version(role) {
				delete(m.data, name)
			}
		}
		mirrors = append(mirrors, m)
	}
	m := &moving{now: mirrors[0], then: mirrors[1:2]}
	wantListed(t, newBox(t, w.repo.Root()).must(m, w.clock()), one, two)
	if m.asks != 2 {
		t.Errorf("the timestamp was asked for %d times, want 2", m.asks)
	}
	// A mirror that never has it is not asked for ever.
	m = &moving{now: mirrors[0], then: mirrors[1:]}
	wantErr(t, newBox(t, w.repo.Root()).refresh(m, w.clock()), trust.ErrNotFound)
	if m.asks != 2 {
		t.Errorf("the timestamp was asked for %d times, want 2", m.asks)
	}
}
