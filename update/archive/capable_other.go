//go:build !linux

package archive

import "os"

// capable reports whether a file has capabilities. Only Linux has them.
func capable(*os.File) bool { return false }
