package signer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/packaging"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// BootstrapOptions say what goes into a bootstrap update.
type BootstrapOptions struct {
	Arch  string    // architecture of the boxes, one of ArchNames
	Root  string    // the file of the root that the boxes will trust
	URLs  []string  // of mirrors, or of the origin
	Boxup string    // the file of boxup for that architecture, "" for the one that lies beside this program
	Out   string    // the archive, "" to name it by the time and put it into the current directory
	Epoch time.Time // for reproducible builds: the version where Out is "", and the time of all files; zero for now
}

// Bootstrap describes a bootstrap update.
type Bootstrap struct {
	Archive
	Arch  string        `json:"arch"`
	Boxup string        `json:"boxup"`       // the file that was packed
	Root  update.Digest `json:"root_digest"` // that boxes will trust
	URLs  []string      `json:"urls"`
}

// Text returns the description for people.
func (b Bootstrap) Text() string {
	text := b.Archive.Text() + lines("arch", b.Arch, "boxup", b.Boxup, "root digest", b.Root)
	for _, u := range b.URLs {
		text += lines("url", u)
	}
	return text
}

// Bootstrap makes the update that moves old boxes over to boxup. No file is ever replaced; after an error there is none.
func (s *Signer) Bootstrap(ctx context.Context, o BootstrapOptions) (_ Bootstrap, err error) {
	defer func() { err = withBuildHint(err) }()
	path, name, err := BuildOptions{Out: o.Out, Epoch: o.Epoch}.target(s.Now())
	if err != nil {
		return Bootstrap{}, err
	}
	if name.Format() != update.TarBzip2 {
		return Bootstrap{}, status.Usagef("%v: expected .%s, which every old box unpacks", name, update.TarBzip2)
	}
	if _, err := os.Lstat(path); err == nil {
		return Bootstrap{}, fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	files, result, err := o.collect(name)
	if err != nil {
		return Bootstrap{}, err
	}
	dir, err := os.MkdirTemp("", "boxsign-")
	if err != nil {
		return Bootstrap{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	src, err := os.OpenRoot(dir)
	if err != nil {
		return Bootstrap{}, err
	}
	defer src.Close() // opened for reading
	for _, file := range files {
		if err := src.WriteFile(file.name, file.data, file.mode); err != nil {
			return Bootstrap{}, err
		}
	}
	result.Archive, err = writeArchive(ctx, path, src, archive.Options{Name: name, Time: o.Epoch})
	return result, err
}

// packed is a file of the update.
type packed struct {
	name string
	data []byte
	mode fs.FileMode
}

// collect reads and checks all files that go into the update.
func (o BootstrapOptions) collect(name update.Name) ([]packed, Bootstrap, error) {
	arch, err := parseArch(o.Arch)
	if err != nil {
		return nil, Bootstrap{}, err
	}
	root, err := o.readRoot()
	if err != nil {
		return nil, Bootstrap{}, err
	}
	config, err := o.config(name.Product())
	if err != nil {
		return nil, Bootstrap{}, err
	}
	path, program, err := arch.program(o.Boxup)
	if err != nil {
		return nil, Bootstrap{}, err
	}
	return []packed{
		{archive.InstallScript, packaging.BootstrapScript(), 0o755},
		{"boxup", program, 0o755},
		{"boxup.service", packaging.BoxupService(packaging.BootstrapProgram), 0o644},
		{"boxup.timer", packaging.BoxupTimer(), 0o644},
		{"config.json", config, 0o644},
		{"root.json", root.Raw(), 0o644},
	}, Bootstrap{Arch: arch.name, Boxup: path, Root: root.Digest(), URLs: o.URLs}, nil
}

func (o BootstrapOptions) readRoot() (*trust.Root, error) {
	if o.Root == "" {
		return nil, status.WithHint(status.Usagef("which root?"), "name the file of the root that boxes are to trust with --root, such as 1.root.json")
	}
	raw, err := readRoot(o.Root)
	if err != nil {
		return nil, err
	}
	return trust.ParseRoot(raw)
}

// config returns the configuration that the update installs as /etc/boxup/config.json.
func (o BootstrapOptions) config(p update.Product) ([]byte, error) {
	if len(o.URLs) == 0 {
		return nil, status.WithHint(status.Usagef("which mirrors?"), "name each with --url")
	}
	client, err := fetch.New(fetch.Config{Upstreams: o.URLs})
	if err != nil {
		return nil, status.Usagef("--url: %w", err)
	}
	client.Close()
	c := struct {
		Mirrors []string       `json:"mirrors"`
		Product update.Product `json:"product"`
		Root    string         `json:"root"`
	}{o.URLs, p, "root.json"}
	b, err := json.MarshalIndent(c, "", "  ")
	return append(b, '\n'), err
}

// program reads boxup for an architecture, and returns its path and its bytes. It reads the file at path or,
// if path is "", one that lies beside this program.
func (a arch) program(path string) (string, []byte, error) {
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", nil, err
		}
		if path, err = a.beside(filepath.Dir(self)); err != nil {
			return "", nil, err
		}
	}
	program, err := disk.ReadFile(path, maxProgram)
	if err != nil {
		return "", nil, err
	}
	if err := a.check(program); err != nil {
		return "", nil, fmt.Errorf("%s: %w", path, err)
	}
	return path, program, nil
}

// beside returns the path of boxup for the architecture in a directory.
func (a arch) beside(dir string) (string, error) {
	names := []string{"boxup-linux-" + a.name}
	if a.goarch == runtime.GOARCH {
		names = append(names, "boxup")
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", status.WithHint(fmt.Errorf("%s: %w", filepath.Join(dir, names[0]), fs.ErrNotExist),
		fmt.Sprintf("name the file with --boxup; %s go build ./cmd/boxup makes one", a.environment()))
}
