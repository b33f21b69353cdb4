package server

import (
	"encoding/json"
	"errors"
	"maps"
	"time"
)

// keeping are the settings of how a repository is looked after, whether it is that of an origin or of a mirror.
type keeping struct {
	KeepSuperseded time.Duration // how long metadata are served that newer ones replaced
	ScrubEvery     time.Duration // in which all archives are read again; 0: never
}

func defaultKeeping() keeping {
	return keeping{KeepSuperseded: time.Hour, ScrubEvery: 30 * 24 * time.Hour}
}

func (k *keeping) fields() map[string]field {
	return map[string]field{
		"keep_superseded": {`a duration such as "1h"`, func(b json.RawMessage) error { return setDuration(&k.KeepSuperseded, b) }},
		"scrub_every":     {`a duration such as "720h", or "0s"`, func(b json.RawMessage) error { return setDuration(&k.ScrubEvery, b) }},
	}
}

// check says what can't work.
func (k *keeping) check() (problems []error) {
	if k.KeepSuperseded < time.Minute || k.KeepSuperseded > 30*24*time.Hour {
		problems = append(problems, errors.New("keep_superseded must be between 1m and 720h"))
	}
	if k.ScrubEvery != 0 && k.ScrubEvery < time.Second || k.ScrubEvery > 10*365*24*time.Hour {
		problems = append(problems, errors.New("scrub_every must be 0s, or between 1s and ten years"))
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
	if k.ScrubEvery != defaultKeeping().ScrubEvery {
		m["scrub_every"] = k.ScrubEvery.String()
	}
	return m
}

// saved returns what commands that look after a data directory have to know of the settings.
func (s settings) saved() map[string]any {
	m := s.copying.shown()
	maps.Copy(m, s.keeping.shown())
	return m
}
