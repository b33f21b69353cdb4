package main

import (
	"encoding/json"
	"errors"
)

// limiting are the settings that bound what one process gives away.
type limiting struct {
	MaxDownloads int64 // archives that are sent at once; 0: any number
	MaxBandwidth int64 // bytes per second of all archives together; 0: any
}

func (l *limiting) fields() map[string]field {
	return map[string]field{
		"max_downloads": {"a number of downloads", func(b json.RawMessage) error { return json.Unmarshal(b, &l.MaxDownloads) }},
		"max_bandwidth": {"a number of bytes per second", func(b json.RawMessage) error { return json.Unmarshal(b, &l.MaxBandwidth) }},
	}
}

// check says what can't work.
func (l *limiting) check() (problems []error) {
	if l.MaxDownloads < 0 || l.MaxBandwidth < 0 {
		problems = append(problems, errors.New("max_downloads and max_bandwidth must not be negative"))
	}
	return problems
}

// shown returns the settings as the JSON object that they can be given as.
func (l *limiting) shown() map[string]any {
	m := map[string]any{}
	if l.MaxDownloads != 0 {
		m["max_downloads"] = l.MaxDownloads
	}
	if l.MaxBandwidth != 0 {
		m["max_bandwidth"] = l.MaxBandwidth
	}
	return m
}
