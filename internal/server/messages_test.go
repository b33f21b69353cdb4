package server

import (
	"strings"
	"testing"
)

// TestSettingsMessages expects that what is wrong is said in the words of settings and not of Go.
func TestSettingsMessages(t *testing.T) {
	for given, want := range map[string]string{
		`[]`: "JSON: expected an object, got a list", `5`: "JSON: expected an object, got a number",
		`null`: "JSON: expected an object, got null", `{"port":`: "JSON: line 1, column 9: expected more, got the end",
		`{"log_format": "` + strings.Repeat("ä", 90) + `"`: "JSON: line 1, column 108: expected more, got the end",
		`{"drain": "` + strings.Repeat("ä", 90) + `"}`:     `drain: expected a duration such as "30s", got "` + strings.Repeat("ä", 79) + "…",
	} {
		_, err := new(settings).readJSON("F", []byte(given))
		if err == nil || err.Error() != "settings in F: "+want {
			t.Errorf("%s: expected %q, got %v", given, want, err)
		}
	}
	for given, want := range map[string]string{
		"x": "missing port in address", "h:99999": `port "99999" is no number from 0 to 65535`, "h:http": `port "http" is no number from 0 to 65535`, "h:1:2": "too many colons in address",
	} {
		if err := checkAddress(given); err == nil || err.Error() != want || strings.Contains(err.Error(), "strconv") {
			t.Errorf("%s: expected %q, got %v", given, want, err)
		}
	}
}
