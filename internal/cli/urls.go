package cli

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// maxURLs bounds a file or a variable of URLs, in bytes.
const maxURLs = 64 << 10

// URLs returns the URLs that arguments name. Everybody on a machine can see the arguments of a program, so
// a URL with a password may stand elsewhere: @FILE is for those in a file, one on a line, and env:NAME for
// those in a variable of the environment.
func (s Streams) URLs(args []string) ([]string, error) {
	var urls []string
	for _, arg := range args {
		lines := []byte(arg)
		if file, ok := strings.CutPrefix(arg, "@"); ok {
			b, err := disk.ReadFile(file, maxURLs)
			if err != nil {
				return nil, err
			}
			lines = b
		} else if name, ok := strings.CutPrefix(arg, "env:"); ok {
			lines = []byte(s.Getenv(name))
		}
		found := false
		for line := range bytes.Lines(lines) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				urls, found = append(urls, string(line)), true
			}
		}
		if !found && arg != "" {
			return nil, fmt.Errorf("%s: expected URLs, one on a line, got none", arg)
		}
	}
	return urls, nil
}
