package main

import (
	"runtime/debug"
	"time"
)

// built is when the source was committed that the program was built from, in RFC 3339. It is set by the
// linker.
var built = ""

// builtAt returns when the source was committed: the time is not earlier, whatever the clock says. It is
// zero where that is not known.
func builtAt() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return builtFrom(built, info.Settings)
}

// builtFrom prefers what the linker was told to what the go command found out.
func builtFrom(text string, settings []debug.BuildSetting) time.Time {
	for _, s := range settings {
		if s.Key == "vcs.time" && text == "" {
			text = s.Value
		}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at
}
