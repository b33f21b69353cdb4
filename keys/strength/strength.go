// Package strength judges a passphrase before it protects a key.
//
// It estimates, as zxcvbn does, how many guesses a thief of the file needs who tries the likely ones first: common words and
// names, dates, keys side by side, repetitions. A thief is taken to try 10 000 passphrases per second, which is what
// a thousand or two cores do against the scrypt of a key file.
package strength

import (
	"fmt"
	"strings"

	"github.com/trustelem/zxcvbn"

	"github.com/openpowerquality/box-update-server/status"
)

const (
	// maxJudged bounds, in letters, the parts of a passphrase that are judged, and with them the work, which grows faster than
	// their length. The begin and the end are judged; what lies between them only makes the passphrase stronger.
	maxJudged = 40

	// leastGuesses is how many guesses a thief must need: at guessesPerSecond, over a million seconds.
	leastGuesses     = 1e10
	guessesPerSecond = 1e4
)

// known are words that a thief of our files tries first.
var known = []string{"boxsign", "boxup", "box", "update", "server", "opq", "release", "signer"}

// Check refuses a weak passphrase. The error says why it is weak and how long a thief would need; it doesn't show the passphrase.
func Check(passphrase []byte) error {
	all := []rune(strings.Map(asOneLetter, strings.ToValidUTF8(string(passphrase), "?")))
	judged, repeats := unit(string(all[:min(len(all), maxJudged)]))
	found := zxcvbn.PasswordStrength(judged, known)
	if found.Guesses >= leastGuesses {
		return nil
	}
	if end, _ := unit(string(all[max(len(all)-maxJudged, 0):])); len(all) > maxJudged && zxcvbn.PasswordStrength(end, known).Guesses >= leastGuesses {
		return nil
	}
	why := "it is short"
	longest := 0
	for _, m := range found.Sequence {
		if text := patterns[m.Pattern]; text != "" && m.J-m.I+1 > longest {
			why, longest = text, m.J-m.I+1
		}
	}
	if repeats {
		why = patterns["repeat"]
	}
	return status.WithHint(fmt.Errorf("too weak: %s; a thief of the file would find it within %s", why, duration(found.Guesses/guessesPerSecond)),
		"take four random words or more, or let a password manager make one; --weak-passphrase accepts this one")
}

// asOneLetter returns a letter of ASCII in place of a rune beyond it. zxcvbn counts each byte of such a rune as a guess, and knows
// no words of other scripts.
func asOneLetter(r rune) rune {
	if r > '~' {
		return 'a' + r%26
	}
	return r
}

// patterns says why what zxcvbn found makes a passphrase weak, by its names of the patterns.
var patterns = map[string]string{
	"dictionary": "it is made of common words, names or passwords",
	"spatial":    "it is made of keys that lie side by side",
	"repeat":     "it repeats itself",
	"sequence":   "it is made of letters or digits in sequence",
	"date":       "it is made of dates",
	"regex":      "it is made of dates",
}

// unit returns what s repeats, the last time perhaps in part, or s if it repeats nothing.
func unit(s string) (_ string, repeats bool) {
	for n := 1; n <= len(s)/2; n++ {
		if strings.HasPrefix(s, s[n:]) {
			return s[:n], true
		}
	}
	return s, false
}

// duration returns a time in seconds as people say it.
func duration(seconds float64) string {
	for _, u := range []struct {
		name string
		in   float64
	}{{"day", 24 * 60 * 60}, {"hour", 60 * 60}, {"minute", 60}} {
		if n := int(seconds/u.in + 0.5); n > 1 {
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return "two minutes"
}
