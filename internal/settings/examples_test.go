package settings

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"testing"
)

// TestExamples: each example has every setting that its kind of server or box takes, and what is commented out has its
// default, if it has one. With all comment marks taken away, each value is one that the program takes.
func TestExamples(t *testing.T) {
	alone := map[string][]string{ // settings that the others don't take
		"mirror.json": Keys(new(Mirror).settings()),
		"plain.json":  {"release_key", "updates_dir"},
		"origin.json": {"clock_checked", "online_key", "serve_unsigned", "updates_dir"},
	}
	kept := Keys(new(Keeping).settings()) // a plain directory has no such upkeep
	all := map[string][]Setting{"boxup.json": new(Box).Settings()}
	for name := range alone {
		for _, s := range NewServer().Settings() {
			others := func(keys []string) bool { return slices.Contains(keys, s.Key) }
			one := slices.ContainsFunc([]string{"mirror.json", "plain.json", "origin.json"}, func(n string) bool { return others(alone[n]) })
			if s.Retired() || one && !others(alone[name]) || name == "plain.json" && others(kept) {
				continue
			}
			all[name] = append(all[name], s)
		}
	}
	line := regexp.MustCompile(`(?m)^  (// )?"([a-z_]+)": (.*?),(?: //.*)?$`)
	for name, settings := range all {
		text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "examples", name))
		check(t, err)
		var found []string
		for _, m := range line.FindAllSubmatch(text, -1) {
			key := string(m[2])
			found = append(found, key)
			i := slices.IndexFunc(settings, func(s Setting) bool { return s.Key == key })
			if i < 0 {
				t.Errorf("%s: %s is no setting of it", name, key)
				continue
			}
			s := settings[i]
			s.reset()
			first := s.show()
			if err := s.set(json.RawMessage(m[3])); err != nil || s.check() != nil {
				t.Errorf("%s: %s: %v, %v", name, m[0], err, s.check())
			}
			if m[1] != nil && s.hasDefault && !reflect.DeepEqual(s.show(), first) {
				t.Errorf("%s: %s: its default is %v", name, m[0], first)
			}
		}
		slices.Sort(found)
		if want := Keys(settings); !slices.Equal(found, want) {
			t.Errorf("%s has\n%q, and the settings are\n%q", name, found, want)
		}
	}
}
