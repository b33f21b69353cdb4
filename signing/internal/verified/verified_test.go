package verified_test

import (
	"testing"

	"github.com/openpowerquality/box-update-server/signing/internal/verified"
	"github.com/openpowerquality/box-update-server/update"
)

func claim(t *testing.T) verified.Claim {
	t.Helper()
	n, err := update.ParseName("p-7.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	return verified.Claim{Name: n, Digest: update.Sum(nil), Length: 3, Blocks: update.Sum([]byte("blocks"))}
}

func TestNewKeepsTheClaim(t *testing.T) {
	c := claim(t)
	u, err := verified.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if u.IsZero() || u.Name() != c.Name || u.Digest() != c.Digest || u.Length() != c.Length || u.Blocks() != c.Blocks || u.Key() != c.Key {
		t.Errorf("got %+v, want %+v", u, c)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*verified.Claim)
	}{
		{"no name", func(c *verified.Claim) { c.Name = update.Name{} }},
		{"no digest", func(c *verified.Claim) { c.Digest = update.Digest{} }},
		{"a negative length", func(c *verified.Claim) { c.Length = -2 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := claim(t)
			test.change(&c)
			if u, err := verified.New(c); err == nil || !u.IsZero() {
				t.Errorf("got %+v, %v", u, err)
			}
		})
	}
	if !(verified.Update{}).IsZero() {
		t.Error("the zero Update is not zero")
	}
}
