package router

import (
	"slices"
	"strings"
)

// prefersHTML reports whether the Accept fields of a request name HTML and not JSON, as those of browsers do. Weights
// don't count (RFC 9110, section 12.5.1, lets a server choose): ties, and a missing or malformed field, get JSON.
func prefersHTML(accept []string) bool {
	var types []string
	for _, line := range accept {
		for element := range strings.SplitSeq(line, ",") {
			mediaType, _, _ := strings.Cut(element, ";")
			types = append(types, strings.ToLower(strings.TrimSpace(mediaType)))
		}
	}
	return slices.Contains(types, "text/html") && !slices.Contains(types, "application/json")
}
