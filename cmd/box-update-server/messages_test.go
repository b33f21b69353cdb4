package main

import (
	"strings"
	"testing"
)

// TestSettingsMessages expects that what is wrong is said in the words of settings and not of Go.
func TestSettingsMessages(t *testing.T) {
	for given, want := range map[string]string{
		`[]`: "expected a JSON object, got another value: array", `5`: "expected a JSON object, got another value: number",
		`null`: "expected a JSON object, got null", `{"port":`: "expected a JSON object: unexpected end of JSON input",
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
