package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

const (
	kB = 1 << 10
	mB = 1 << 20
)

// A drop is a directory of archives.
type drop struct {
	dir   string
	names []string // by age, the oldest first
	size  int64    // of each that archives made, in bytes
}

// path returns the URL path of the newest archive.
func (d drop) path() string { return "/update/" + d.newest() }

func (d drop) newest() string { return d.names[len(d.names)-1] }

// archives makes a directory of n files named as updates, of size bytes each. Their bytes are random:
// to a server an archive is opaque. They are on the disk and an hour old, so that nothing is written
// behind a measurement's back and no server waits for them to settle.
func (l *lab) archives(name string, n int, size int64) (drop, error) {
	dir, err := l.folder(name)
	if err != nil {
		return drop{}, err
	}
	d := drop{dir: dir, size: size}
	return d, d.extend(n, size)
}

// extend adds n archives that are newer than the others, of size bytes each.
func (d *drop) extend(n int, size int64) error {
	first := len(d.names)
	r := rand.NewChaCha8([32]byte{1, byte(first), byte(first >> 8)})
	for i := range n {
		name := fmt.Sprintf("opq-box-update-%d.tar.bz2", 1547861057+first+i)
		if err := writeArchive(filepath.Join(d.dir, name), r, size); err != nil {
			return err
		}
		d.names = append(d.names, name)
	}
	return nil
}

// files returns the paths of the archives.
func (d drop) files() []string {
	var paths []string
	for _, name := range d.names {
		paths = append(paths, filepath.Join(d.dir, name))
	}
	return paths
}

func writeArchive(path string, r io.Reader, size int64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, mB)
	if _, err := io.CopyN(w, r, size); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if size >= mB {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	old := time.Now().Add(-time.Hour)
	return os.Chtimes(path, old, old)
}

// remove frees the disk. What it leaves, the end of the run removes.
func (d drop) remove() { _ = os.RemoveAll(d.dir) }
