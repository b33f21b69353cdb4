package router

import (
	"mime"
	"regexp"
	"strconv"
	"strings"
)

// qvalue matches a weight: 0 to 1, with at most three digits after the point.
var qvalue = regexp.MustCompile(`^(0(\.[0-9]{0,3})?|1(\.0{0,3})?)$`)

// prefersHTML reports whether the Accept fields of a request give HTML a higher weight than JSON (RFC 9110, section
// 12.5.1). Ties, and a missing or malformed field, get JSON.
func prefersHTML(accept []string) bool {
	weights := map[string]float64{} // by media range
	for element := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		mediaRange, parameters, err := mime.ParseMediaType(element)
		if err != nil {
			continue
		}
		q, given := parameters["q"]
		if !given {
			q = "1"
		}
		if _, earlier := weights[mediaRange]; !earlier && qvalue.MatchString(q) {
			weights[mediaRange], _ = strconv.ParseFloat(q, 64) // of this form, it has a value
		}
	}
	// The weight of a type is that of the most specific range that matches it.
	weight := func(ranges ...string) float64 {
		for _, r := range ranges {
			if q, named := weights[r]; named {
				return q
			}
		}
		return 0
	}
	return weight("text/html", "text/*", "*/*") > weight("application/json", "application/*", "*/*")
}
