//go:build unix

package secret

import (
	"os"
	"syscall"
)

// Terminal is the path of the terminal of this process.
const Terminal = "/dev/tty"

// openTerminal opens a terminal to read what is typed, and to write.
func openTerminal(path string) (in, out *os.File, err error) {
	tty, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	return tty, tty, err
}
