package router

import (
	"strings"
	"testing"
)

func FuzzTargets(f *testing.F) {
	for _, s := range []string{newName, newName + ".sha256", newName + ".blocks", strings.Repeat("a", 64), strings.Repeat("0", 64) + ".sha256",
		strings.Repeat("f", 64) + ".blocks", "", "..", "../x", "\x00", strings.Repeat("A", 64), ".sha256", newName + ".sha256.sha256",
		newName + ".sig", strings.Repeat("f", 64) + ".sig", strings.Repeat("f", 64) + "." + newName, strings.Repeat("f", 64) + "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, p, err := parseNameTarget(s); err == nil && n.String()+string(p) != s {
			t.Errorf("name %q and part %q of %q", n, p, s)
		}
		if d, p, err := parseDigestTarget(s); err == nil && d.String()+string(p) != s {
			t.Errorf("digest %v and part %q of %q", d, p, s)
		}
		if d, n, err := parsePathTarget(s); err == nil && d.String()+"."+n.String() != s {
			t.Errorf("digest %v and name %v of %q", d, n, s)
		}
	})
}
