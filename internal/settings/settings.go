// Package settings declares the settings of the programs. Each one is declared once: its key in JSON, the help of its
// flag, what its value should be, where the value is kept, its default and its bounds. Flags, messages,
// what "config check" prints, and the test that holds the documentation against the code follow from that.
//
// To add a setting, add a field to [Server] or [Box] and a line to its Settings.
package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/explain"
)

// A Setting is the declaration of one setting.
type Setting struct {
	Key     string
	Help    string       // of its flag, with a word for the value in backquotes; "": it has no flag
	Want    string       // what the value should be, for messages
	Value                // where it is kept
	Check   func() error // says what is wrong with the value; nil: whatever can be parsed is right
	Saved   bool         // commands that look after a data directory have to know it
	Hidden  bool         // it is not shown
	Quiet   bool         // it is not shown as long as it has its default
	With    *[]string    // it is not shown where this list is empty
	Retired string       // what there is instead of it: it may be given, and is of no use any more
	Expand  bool         // its flag takes what stands for URLs too: @FILE and env:NAME
}

// Flag returns the name of its flag.
func (s Setting) Flag() string { return strings.ReplaceAll(s.Key, "_", "-") }

// SetText takes the text of a flag, which is either what JSON has in quotes or a bare number or truth value.
func (s Setting) SetText(texts ...string) error {
	var value any = texts
	if len(texts) == 1 {
		value = texts[0]
	}
	quoted, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if s.set(quoted) == nil || len(texts) == 1 && json.Valid([]byte(texts[0])) && s.set([]byte(texts[0])) == nil {
		return nil
	}
	return fmt.Errorf("expected %s, got %q", s.Want, strings.Join(texts, " "))
}

// shown reports whether a setting is one of those that are printed: those that have a default, and of the others those
// that are set.
func (s Setting) shown() bool {
	switch {
	case s.Hidden, s.Retired != "", s.With != nil && len(*s.With) == 0:
		return false
	case s.Quiet:
		return !s.isDefault()
	}
	return s.hasDefault || !s.isEmpty()
}

// Keys returns the keys of settings, sorted.
func Keys(all []Setting) (keys []string) {
	for _, s := range all {
		keys = append(keys, s.Key)
	}
	slices.Sort(keys)
	return keys
}

// Reset gives every setting its default.
func Reset(all []Setting) {
	for _, s := range all {
		s.reset()
	}
}

// Set takes the values of a JSON object, in the order of their keys, and returns those keys that are not known, beside an error
// too.
func Set(all []Setting, object map[string]json.RawMessage) (unknown []string, err error) {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		i := slices.IndexFunc(all, func(s Setting) bool { return s.Key == key })
		if i < 0 {
			unknown = append(unknown, key)
			continue
		}
		switch err := all[i].set(object[key]); {
		case errors.Is(err, errValue):
			return nil, fmt.Errorf("%s: expected %s, got %s", key, all[i].Want, clip(object[key]))
		case err != nil:
			return nil, fmt.Errorf("%s: expected %s: %w", key, all[i].Want, err)
		}
	}
	return unknown, nil
}

// Ignored says of each setting that is set and of no use any more what there is instead.
func Ignored(all []Setting) (out []string) {
	for _, s := range all {
		if s.Retired != "" && !s.isEmpty() {
			out = append(out, fmt.Sprintf("setting %q is not used any more: %s", s.Key, s.Retired))
		}
	}
	return out
}

// clip returns a value for a message.
func clip(value json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return "no JSON" // no parser of objects lets it in
	}
	return explain.Clip(explain.MaskURLs(b.String()), 80)
}

// Check says what is wrong with each of the settings alone. A rule about several of them is reported once.
func Check(all []Setting) (problems []error) {
	for _, s := range all {
		if s.Check == nil {
			continue
		}
		err := s.Check()
		same := func(e error) bool { return e.Error() == err.Error() }
		if err != nil && !slices.ContainsFunc(problems, same) {
			problems = append(problems, err)
		}
	}
	return problems
}

// Show returns settings as the JSON object that they can be given as. Those with a user or password in a URL hold
// it: see [Mask].
func Show(all []Setting) map[string]any {
	out := map[string]any{}
	for _, s := range all {
		if s.shown() {
			out[s.Key] = s.show()
		}
	}
	return out
}

// Mask returns what Show returned, as anybody may see it.
func Mask(shown map[string]any) map[string]any {
	out := maps.Clone(shown)
	for key, value := range out {
		if list := reflect.ValueOf(value); list.Kind() == reflect.Slice && list.Type().Elem().Kind() == reflect.String {
			var masked []string
			for i := range list.Len() {
				masked = append(masked, explain.MaskURLs(list.Index(i).String()))
			}
			out[key] = masked
		}
	}
	return out
}
