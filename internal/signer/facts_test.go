package signer

import (
	"testing"
	"time"
)

func TestExpiryText(t *testing.T) {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		by   time.Duration
		want string
	}{
		{-time.Second, "the root has expired"},
		{0, "the root expires in 0 hours"},
		{5*time.Hour + time.Minute, "the root expires in 5 hours"},
		{48*time.Hour - time.Second, "the root expires in 47 hours"},
		{48 * time.Hour, "the root expires in 2 days"},
		{29 * 24 * time.Hour, "the root expires in 29 days"},
	} {
		if got := expiryText("the root", at.Add(c.by), at); got != c.want {
			t.Errorf("%v before the expiry: expected %q, got %q", c.by, c.want, got)
		}
	}
}
