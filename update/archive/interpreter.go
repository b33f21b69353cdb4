package archive

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"
)

// Shell runs a script whose first line does not name another program.
const Shell = "/bin/sh"

// maxShebang is how many bytes of a script are examined, as many as Linux reads (BINPRM_BUF_SIZE).
const maxShebang = 256

// Interpreter returns the program that runs the script which begins with head: what its first line names after
// "#!", as execve(2) says, else Shell. The error begins with a verb and says why no system can start the script.
func Interpreter(head []byte) (string, error) {
	line, _, whole := bytes.Cut(head, []byte("\n"))
	if bytes.HasSuffix(line, []byte("\r")) {
		return "", errors.New("has lines that end with CR LF, as Windows writes them: save it with LF alone")
	}
	named, ok := bytes.CutPrefix(line, []byte("#!"))
	if !ok {
		return Shell, nil
	}
	if !whole && len(head) >= maxShebang {
		return "", fmt.Errorf("has a first line of more than %d bytes, of which Linux reads no more", maxShebang-1)
	}
	words := strings.Fields(string(named))
	if len(words) == 0 {
		return "", errors.New("names no program after #! in its first line")
	}
	if !path.IsAbs(words[0]) {
		return "", fmt.Errorf("is to be run by %s, which is no absolute path", quote(words[0]))
	}
	return words[0], nil
}
