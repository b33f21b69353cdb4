package router

import (
	"strings"
)

// prefersHTML reports whether the Accept fields of a request prefer HTML to JSON (RFC 9110, section
// 12.5.1). Who takes both alike, says nothing or says what can't be read gets JSON.
func prefersHTML(accept []string) bool {
	var html, json weight
	for _, line := range accept {
		for element := range strings.SplitSeq(line, ",") {
			mediaRange, params, _ := strings.Cut(element, ";")
			mediaRange = strings.ToLower(strings.TrimSpace(mediaRange))
			q, ok := quality(params)
			if !ok {
				continue
			}
			html.take(mediaRange, "text", "html", q)
			json.take(mediaRange, "application", "json", q)
		}
	}
	return html.q > json.q
}

// A weight is how much a type is wanted, in thousandths, and how exactly that was said: 0 for not at
// all, 1 for */*, 2 for type/*, 3 for the type itself.
type weight struct{ q, exact int }

// take takes in one media range. The most exact one counts, and of several alike the first.
func (w *weight) take(mediaRange, main, sub string, q int) {
	exact := 0
	switch mediaRange {
	case main + "/" + sub:
		exact = 3
	case main + "/*":
		exact = 2
	case "*/*":
		exact = 1
	}
	if exact > w.exact {
		*w = weight{q, exact}
	}
}

// quality returns the weight that the parameters of a media range give it, in thousandths: 1000 where
// they say nothing. It reports false for a weight that can't be read. Other parameters don't count.
func quality(params string) (int, bool) {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			return thousandths(strings.TrimSpace(value))
		}
	}
	return 1000, true
}

// thousandths parses a weight from 0 to 1 with at most three digits after the point.
func thousandths(s string) (int, bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	if whole != "0" && whole != "1" || len(fraction) > 3 {
		return 0, false
	}
	n := int(whole[0] - '0')
	for _, digit := range (fraction + "000")[:3] {
		if digit < '0' || digit > '9' {
			return 0, false
		}
		n = 10*n + int(digit-'0')
	}
	return n, n <= 1000
}
