package disk

import "os"

// Link gives a file a second name, which must not exist. The caller syncs the directory of to.
func (f FS) Link(from, to string) error {
	return f.do(OpLink, to, func() error { return os.Link(from, to) })
}
