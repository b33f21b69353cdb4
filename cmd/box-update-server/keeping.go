package main

import (
	"encoding/json"
	"errors"
	"maps"
	"time"
)

// keeping are the settings of how a repository is looked after, whether it is that of an origin or of a mirror.
type keeping struct {
	KeepSuperseded time.Duration // how long metadata are served that newer ones replaced
}

func defaultKeeping() keeping { return keeping{KeepSuperseded: time.Hour} }

func (k *keeping) fields() map[string]field {
	return map[string]field{
		"keep_superseded": {`a duration such as "1h"`, func(b json.RawMessage) error { return setDuration(&k.KeepSuperseded, b) }},
	}
}

// check says what can't work.
func (k *keeping) check() (problems []error) {
	if k.KeepSuperseded < time.Minute || k.KeepSuperseded > 30*24*time.Hour {
		problems = append(problems, errors.New("keep_superseded must be between 1m and 720h"))
	}
	return problems
}

// shown returns the settings as the JSON object that they can be given as, those left out that are as they are
// without it.
func (k *keeping) shown() map[string]any {
	m := map[string]any{}
	if k.KeepSuperseded != defaultKeeping().KeepSuperseded {
		m["keep_superseded"] = k.KeepSuperseded.String()
	}
	return m
}

// saved returns what commands that look after a data directory have to know of the settings.
func (s settings) saved() map[string]any {
	m := s.copying.shown()
	maps.Copy(m, s.keeping.shown())
	return m
}
