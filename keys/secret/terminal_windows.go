package secret

import "os"

// Terminal is the path of the terminal of this process.
const Terminal = "CONIN$"

// openTerminal opens a terminal to read what is typed, and to write, which Windows has as two files.
func openTerminal(path string) (in, out *os.File, err error) {
	if in, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return nil, nil, err
	}
	if out, err = os.OpenFile("CONOUT$", os.O_RDWR, 0); err != nil {
		in.Close()
		return nil, nil, err
	}
	return in, out, nil
}
