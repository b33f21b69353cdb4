package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
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

// listed is how many updates a list holds at most.
const listed = 2000

// gigabyte is the size of a big archive; a look is content with a quarter.
func (b *bench) gigabyte() int64 {
	if b.short {
		return 256 * mB
	}
	return 1024 * mB
}

// A drop is a directory of archives.
type drop struct {
	dir   string
	names []string // by age, the oldest first
}

// url is the path of the newest archive in a URL.
func (d *drop) url() string { return "/update/" + d.names[len(d.names)-1] }

// files returns the paths of the archives.
func (d *drop) files() []string {
	var paths []string
	for _, name := range d.names {
		paths = append(paths, filepath.Join(d.dir, name))
	}
	return paths
}

// archives makes a directory of n files named as updates, of size bytes each. Their bytes are random:
// to a server an archive is opaque. They are on the disk and an hour old, so that nothing is written
// behind a measurement's back and no server waits for them to settle.
func (b *bench) archives(n int, size int64) *drop {
	d := &drop{dir: b.newDir("archives")}
	b.check(os.Chmod(d.dir, 0o755)) // the rsync daemon reads it as nobody
	b.extend(d, n, size)
	return d
}

// extend adds n archives that are newer than the others, of size bytes each, and returns the path of the last.
func (b *bench) extend(d *drop, n int, size int64) (newest string) {
	first := len(d.names)
	r := rand.NewChaCha8([32]byte{1, byte(first), byte(first >> 8)})
	for i := range n {
		name := fmt.Sprintf("opq-box-update-%d.tar.bz2", 1547861057+first+i)
		newest = filepath.Join(d.dir, name)
		b.writeRandom(newest, r, size)
		d.names = append(d.names, name)
	}
	return newest
}

func (b *bench) writeRandom(path string, r io.Reader, size int64) {
	f, err := os.Create(path)
	b.check(err)
	defer func() { b.check(f.Close()) }()
	w := bufio.NewWriterSize(f, mB)
	_, err = io.CopyN(w, r, size)
	b.check(err)
	b.check(w.Flush())
	if size >= mB {
		b.check(f.Sync())
	}
	old := time.Now().Add(-time.Hour)
	b.check(os.Chtimes(path, old, old))
}

// renew makes another archive of the only one, the next version with another number in its first bytes, and
// returns its path.
func (b *bench) renew(d *drop) string {
	old := d.files()[0]
	var version int64
	_, err := fmt.Sscanf(d.names[0], "opq-box-update-%d.", &version)
	b.check(err)
	d.names[0] = fmt.Sprintf("opq-box-update-%d.tar.bz2", version+1)
	b.check(os.Rename(old, d.files()[0]))
	f, err := os.OpenFile(d.files()[0], os.O_WRONLY, 0)
	b.check(err)
	defer func() { b.check(f.Close()) }()
	_, err = f.Write(binary.BigEndian.AppendUint64(nil, uint64(version)))
	b.check(err)
	b.check(f.Sync())
	return f.Name()
}

func sumOf(body []byte) [sha256.Size]byte { return sha256.Sum256(body) }

// A signer is boxsign with the keys of one repository. The keys are not encrypted: to open one that is
// takes as long as scrypt is told to.
type signer struct {
	*bench
	program, keys, repo string
	root                string // the root that boxes trust
}

// signer makes keys and an empty repository in a new directory.
func (b *bench) signer() signer {
	dir := b.newDir("signer")
	s := signer{b, b.build("boxsign"), filepath.Join(dir, "keys"), filepath.Join(dir, "repository"), ""}
	s.root = filepath.Join(s.repo, "metadata", "1.root.json")
	b.check(os.Mkdir(s.keys, 0o700))
	for _, role := range []string{"root", "release", "online"} {
		key := filepath.Join(s.keys, role)
		b.seconds("openssl", "genpkey", "-algorithm", "ed25519", "-out", key+".pem")
		b.check(os.Chmod(key+".pem", 0o600))
		b.seconds("openssl", "pkey", "-in", key+".pem", "-pubout", "-out", key+".pub")
	}
	b.seconds(s.program, "init", "--keys", s.keys, "--repo", s.repo, "--yes")
	return s
}

// serving is how our server is told to serve the repository.
func (s signer) serving() []string {
	return []string{quiet, "--data-dir", s.repo, "--online-key", filepath.Join(s.keys, "online.pem")}
}

// add signs archives into the directory of the repository and returns how many seconds that took. They are
// random bytes, so that what is measured is not a decompressor.
func (s signer) add(files ...string) float64 {
	return s.seconds(s.program, append([]string{"add", "--keys", s.keys, "--repo", s.repo, "--yes", "--force"}, files...)...)
}

// publish signs an archive, publishes it at a server and returns how many seconds that took.
func (s signer) publish(file string, server *process) float64 {
	return s.seconds(s.program, "publish", "--keys", s.keys, "--root", s.root, "--yes", "--force", file, server.url(""))
}
