// Package settings declares the settings of the programs. Each setting is declared once: its key in JSON, the help of its
// flag, and its value, which has a variable, a default and bounds. Flags, messages, what "config check" prints, and the
// test that compares the documentation with the code follow from that.
//
// Settings are JSON objects, in which comments and a comma after the last element are accepted.
//
// To add a setting, add a field to a struct such as [Server] or [Box], and a line to the list of settings below it.
package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tidwall/jsonc"

	"github.com/openpowerquality/box-update-server/internal/explain"
)

// A Setting is the declaration of one setting.
type Setting struct {
	Key  string
	Help string // of its flag, with a word for the value in backquotes; "": it has no flag
	Value
}

// Flag returns the name of the flag.
func (s Setting) Flag() string { return strings.ReplaceAll(s.Key, "_", "-") }

// Default returns the default as the text of a flag, "" if there is none. It must be asked before the setting is set.
func (s Setting) Default() string {
	if !s.hasDefault {
		return ""
	}
	text := fmt.Sprint(s.show())
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Retired reports whether the setting has no effect any more.
func (s Setting) Retired() bool { return s.instead != "" }

// SetText sets the text of a flag, which is either what JSON has in quotes, or a bare number or truth value.
func (s Setting) SetText(texts ...string) error {
	var value any = texts
	if len(texts) == 1 {
		value = texts[0]
	}
	quoted, err := json.Marshal(value)
	if err != nil {
		return err
	}
	err = s.set(quoted)
	if err != nil && len(texts) == 1 && json.Valid([]byte(texts[0])) && s.set([]byte(texts[0])) == nil {
		err = nil
	}
	switch {
	case errors.Is(err, errValue):
		return fmt.Errorf("expected %s, got %q", s.Want, strings.Join(texts, " "))
	case err != nil:
		return fmt.Errorf("expected %s: %w", s.Want, err)
	}
	return s.check()
}

// check returns an error for a value that is out of bounds.
func (s Setting) check() error {
	if s.inBounds() {
		return nil
	}
	value, err := json.Marshal(s.show())
	return errors.Join(err, fmt.Errorf("expected %s, got %s", s.Want, clip(value)))
}

// clip returns a value for a message.
func clip(value json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return "no JSON" // no parser of objects lets it in
	}
	return explain.Clip(explain.MaskURLs(b.String()), 80)
}

// Plain returns settings without the comments, // and /* */, and without the commas after the last elements of objects and
// lists. Blanks take their place, so that messages about plain settings name the right line and column.
func Plain(b []byte) []byte { return jsonc.ToJSON(b) }

// parseObject parses one JSON object.
func parseObject(b []byte) (object map[string]json.RawMessage, err error) {
	if err := json.Unmarshal(Plain(b), &object); err != nil {
		return nil, explain.JSON(b, err)
	}
	if object == nil {
		return nil, errors.New("expected an object, got null")
	}
	return object, nil
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

// Set sets the values of a JSON object, in the order of their keys. It returns the unknown keys, also beside an error.
// Bounds are left to [Check].
func Set(all []Setting, object map[string]json.RawMessage) (unknown []string, err error) {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		i := slices.IndexFunc(all, func(s Setting) bool { return s.Key == key })
		if i < 0 {
			unknown = append(unknown, key)
			continue
		}
		switch err := all[i].set(object[key]); {
		case errors.Is(err, errValue):
			return unknown, fmt.Errorf("%s: expected %s, got %s", key, all[i].Want, clip(object[key]))
		case err != nil:
			return unknown, fmt.Errorf("%s: expected %s: %w", key, all[i].Want, err)
		}
	}
	return unknown, nil
}

// Check returns an error for each setting that is out of its bounds.
func Check(all []Setting) (problems []error) {
	for _, s := range all {
		if err := s.check(); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", s.Key, err))
		}
	}
	return problems
}

// Ignored returns a message for each setting that is set and has no effect any more.
func Ignored(all []Setting) (out []string) {
	for _, s := range all {
		if s.Retired() && s.isSet() {
			out = append(out, fmt.Sprintf("setting %q is not used any more: %s", s.Key, s.instead))
		}
	}
	return out
}

// Resolve makes relative paths absolute, as paths from the directory dir.
func Resolve(all []Setting, dir string) {
	for _, s := range all {
		if s.path != nil && *s.path != "" && !filepath.IsAbs(*s.path) {
			*s.path = filepath.Join(dir, *s.path)
		}
	}
}

// Show returns settings as the JSON object that they can be given as: those that have a default or are set. URLs
// keep their passwords.
func Show(all []Setting) map[string]any {
	out := map[string]any{}
	for _, s := range all {
		if s.isShown() && (s.hasDefault || s.isSet()) {
			out[s.Key] = s.show()
		}
	}
	return out
}
