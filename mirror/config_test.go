package mirror_test

import (
	"testing"

	"github.com/openpowerquality/box-update-server/mirror"
)

// TestConfig: what a mirror can't do without, and what it does not know, is refused at once.
func TestConfig(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	client := newClient(t, o.url)
	good := mirror.Config{Store: o.s, Client: client}
	cases := map[string]func(*mirror.Config){
		"no store":          func(c *mirror.Config) { c.Store = nil },
		"no client":         func(c *mirror.Config) { c.Client = nil },
		"unknown on demand": func(c *mirror.Config) { c.OnDemand = "sometimes" },
	}
	for name, change := range cases {
		c := good
		change(&c)
		if m, err := mirror.New(c); err == nil || m != nil {
			t.Errorf("%s: expected it refused", name)
		}
	}
	if _, err := mirror.New(good); err != nil {
		t.Error(err)
	}
}
