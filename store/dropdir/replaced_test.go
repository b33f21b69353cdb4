package dropdir

import (
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

func TestReplaced(t *testing.T) {
	past := start.Add(-time.Hour)
	before := at(past, 5)
	chmod, touch, other := before, before, before
	chmod.Changed++
	touch.Modified, touch.Changed = touch.Modified+1, touch.Changed+1
	other.Inode, other.Changed = 2, other.Changed+1
	tests := map[string]struct {
		first    string // digest of; "" for a file that was never hashed
		after    disk.Stamp
		second   string
		replaced bool
	}{
		"same":                           {"a", before, "a", false},
		"chmod":                          {"a", chmod, "a", false},
		"chmod that hides a change":      {"a", chmod, "b", true},
		"chmod before it was hashed":     {"", chmod, "a", false},
		"touch":                          {"a", touch, "a", false},
		"touch before it was hashed":     {"", touch, "a", true},
		"rename over with the same":      {"a", other, "a", false},
		"rename over with others":        {"a", other, "b", true},
		"rename over before it is known": {"", other, "b", true},
	}
	n := mustName(t, "opq-box-update-7.tar.bz2")
	for name, tt := range tests {
		for _, away := range []bool{false, true} {
			t.Run(name+map[bool]string{false: "", true: ", gone between"}[away], func(t *testing.T) {
				s := fresh(t, Config{})
				d := &Dir{state: s}
				look(s, n, before, 0)
				if tt.first != "" {
					hashAll(s, 0, constant(tt.first))
				}
				if away {
					look(s, n, disk.Stamp{}, time.Second)
				}
				look(s, n, tt.after, 2*time.Second)
				if tt.first != "" && tt.after != before && !d.Replaced(n) {
					t.Error("not taken for replaced while that is not known")
				}
				look(s, n, tt.after, 4*time.Second)
				if c, err := s.catalog(); err != nil || tt.after != before && !c.Updates()[0].Digest.IsZero() {
					t.Errorf("catalog still has a digest of other bytes (err %v)", err)
				}
				hashAll(s, 4*time.Second, constant(tt.second))
				if got := d.Replaced(n); got != tt.replaced {
					t.Errorf("replaced %v, want %v", got, tt.replaced)
				}
				if got := strings.Contains(strings.Join(s.health().Warnings, "\n"), "was replaced"); got != tt.replaced {
					t.Errorf("warning %v, want %v", got, tt.replaced)
				}
				c, err := s.catalog()
				if err != nil {
					t.Fatal(err)
				}
				if u, _ := c.Lookup(n); u.Digest != update.Sum([]byte(tt.second)) {
					t.Errorf("catalog has digest %v", u.Digest)
				}
			})
		}
	}
}

func TestBytesThatWereShownAndNeverHashedAreNotForgotten(t *testing.T) {
	n := mustName(t, "opq-box-update-7.tar.bz2")
	first := at(start.Add(-time.Hour), 5)
	second := at(start.Add(-time.Minute), 6)
	for name, between := range map[string]disk.Stamp{"changed back": first, "gone and back": {}} {
		t.Run(name, func(t *testing.T) {
			s := fresh(t, Config{})
			d := &Dir{state: s}
			look(s, n, first, 0)
			hashAll(s, 0, constant("first"))
			look(s, n, disk.Stamp{}, time.Second)
			if !look(s, n, second, 2*time.Second) {
				t.Fatal("not listed")
			}
			look(s, n, between, 3*time.Second)
			if !look(s, n, first, 6*time.Second) {
				t.Fatal("not listed again")
			}
			if !d.Replaced(n) {
				t.Error("not replaced")
			}
		})
	}
}
