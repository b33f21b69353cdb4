package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The watchdog is told only after the server answered, whether it refuses or hangs meanwhile.
func TestWatchdogIsToldOnlyOfAnswers(t *testing.T) {
	for name, failing := range map[string]func(context.Context) error{
		"refusing": func(context.Context) error { return errors.New("503 Service Unavailable") },
		"hanging":  func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told []time.Duration
				began := time.Now()
				s := &serviceManager{
					logger: slog.New(slog.DiscardHandler),
					send: func(state string) error {
						if state == "WATCHDOG=1" {
							told = append(told, time.Since(began))
						}
						return nil
					},
					alive: func(ctx context.Context) error {
						if at := time.Since(began); at >= 20*time.Second && at < 50*time.Second {
							return failing(ctx)
						}
						return nil
					},
				}
				ctx, cancel := context.WithTimeout(t.Context(), 75*time.Second)
				defer cancel()
				s.watch(ctx, 30*time.Second)
				want := []time.Duration{0, 10 * time.Second, 50 * time.Second, 60 * time.Second, 70 * time.Second}
				if !slices.Equal(told, want) {
					t.Errorf("told at %v, want %v", told, want)
				}
			})
		})
	}
}

func TestServerURL(t *testing.T) {
	for _, c := range []struct {
		address string
		secure  bool
		want    string
	}{
		{":8151", false, "http://127.0.0.1:8151"},
		{"0.0.0.0:8151", false, "http://127.0.0.1:8151"},
		{"[::]:8151", false, "http://[::1]:8151"},
		{"192.0.2.1:8151", true, "https://192.0.2.1:8151"},
		{"updates.example:80", false, "http://updates.example:80"},
	} {
		if got := serverURL(c.address, c.secure); got != c.want {
			t.Errorf("serverURL(%q, %v) = %q, want %q", c.address, c.secure, got, c.want)
		}
	}
}

// A server is asked for no more than it may say, and one whose certificate is for another name as well.
func TestProbe(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/livez" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		for range 2 * maxProbe / 16 {
			_, _ = w.Write([]byte("sixteen bytes ok")) // the client leaves
		}
	}))
	defer srv.Close()
	text, err := probe(t.Context(), ownClient(), srv.URL+"/livez")
	if err != nil || len(text) != maxProbe {
		t.Errorf("got %d bytes, %v", len(text), err)
	}
	if text, err = probe(t.Context(), ownClient(), srv.URL+"/other"); err == nil || !strings.Contains(err.Error(), "503") || len(text) != maxProbe {
		t.Errorf("got %d bytes, %v", len(text), err)
	}
	if _, silent := errors.AsType[noAnswer](err); silent {
		t.Errorf("%v counts as no answer", err)
	}
}
