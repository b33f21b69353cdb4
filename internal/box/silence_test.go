package box

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
)

// mute is a server that accepts and never answers.
type mute struct{ asked int }

func (m *mute) RoundTrip(r *http.Request) (*http.Response, error) {
	m.asked++
	select {
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	case <-time.After(30 * time.Second):
		return nil, errors.New("timeout awaiting response headers")
	}
}

// TestPlainSilence: a server that never answers is not waited for longer than patience says.
func TestPlainSilence(t *testing.T) {
	for patience, tries := range map[time.Duration]int{time.Minute: 2, 10 * time.Second: 1, 0: 1} {
		synctest.Test(t, func(t *testing.T) {
			m := &mute{}
			b := Box{Random: func() float64 { return 1 }}
			c, err := b.fetchConfig(config{settings.Box{Patience: patience}})
			check(t, err)
			c.Upstreams, c.Transport = []string{"http://mute"}, m
			s := plainServer{must(fetch.New(c))}
			began := time.Now()
			_, err = s.Text(t.Context(), "version", maxVersion)
			if !errors.Is(err, fetch.ErrUnavailable) || m.asked != tries {
				t.Errorf("patience %v: expected %d requests, got %d, %v", patience, tries, m.asked, err)
			}
			if took := time.Since(began); patience > 0 && took > patience {
				t.Errorf("patience %v: it took %v", patience, took)
			}
		})
	}
}
