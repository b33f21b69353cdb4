package signer

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/packaging"
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
	return b.Archive.Text() + lines("arch", b.Arch, "boxup", b.Boxup, "root fingerprint", b.Root) + each("url", b.URLs)
}

// Bootstrap makes the update that moves old boxes over to boxup. No file is ever replaced; after an error there is none.
func (s *Signer) Bootstrap(ctx context.Context, o BootstrapOptions) (_ Bootstrap, err error) {
	defer func() { err = withBuildHint(err) }()
	path, name, err := BuildOptions{Out: o.Out, Epoch: o.Epoch}.target(s.Now())
	if err != nil {
		return Bootstrap{}, err
	}
	if name.Format() != update.TarBzip2 {
		return Bootstrap{}, status.Usagef("%v: expected .%s, which every old box can unpack", name, update.TarBzip2)
	}
	if err := disk.RefuseExisting(path); err != nil {
		return Bootstrap{}, err
	}
	files, result, err := o.collectFiles(name)
	if err != nil {
		return Bootstrap{}, err
	}
	err = inTempDir(func(dir string) error {
		src, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer src.Close() // opened for reading
		for _, file := range files {
			if err := src.WriteFile(file.name, file.data, file.mode); err != nil {
				return err
			}
		}
		result.Archive, err = writeArchive(ctx, path, src, archive.Options{Name: name, Time: o.Epoch})
		return err
	})
	return result, err
}

// packed is a file of the update.
type packed struct {
	name string
	data []byte
	mode fs.FileMode
}

// collectFiles reads and checks all files that go into the update.
func (o BootstrapOptions) collectFiles(name update.Name) ([]packed, Bootstrap, error) {
	arch, err := parseArch(o.Arch)
	if err != nil {
		return nil, Bootstrap{}, err
	}
	if o.Root == "" {
		return nil, Bootstrap{}, status.WithHint(status.Usagef("no root"), "name the file of the root that boxes are to trust with --root, such as 1.root.json")
	}
	root, err := readRoot(o.Root)
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

// config returns the configuration that the update installs as /etc/boxup/config.json.
func (o BootstrapOptions) config(p update.Product) ([]byte, error) {
	if len(o.URLs) == 0 {
		return nil, status.WithHint(status.Usagef("no mirror"), "name each mirror with --url")
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
		if path, err = a.findBeside(filepath.Dir(self)); err != nil {
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

// findBeside returns the path of boxup for the architecture in a directory.
func (a arch) findBeside(dir string) (string, error) {
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
		fmt.Sprintf("name the file with --boxup, or build it: %s go build ./cmd/boxup", a.environment()))
}

// maxProgram bounds the length in bytes of a program that goes into an update.
const maxProgram = 64 << 20

// arch is an architecture of boxes.
type arch struct {
	name    string // the name in Debian, except armv6, which Debian lacks
	goarch  string
	goarm   int // the highest GOARM that runs there, 0 if GOARM doesn't apply
	machine elf.Machine
	class   elf.Class
}

func arches() []arch {
	return []arch{
		{"armv6", "arm", 6, elf.EM_ARM, elf.ELFCLASS32},
		{"armhf", "arm", 7, elf.EM_ARM, elf.ELFCLASS32},
		{"arm64", "arm64", 0, elf.EM_AARCH64, elf.ELFCLASS64},
		{"amd64", "amd64", 0, elf.EM_X86_64, elf.ELFCLASS64},
	}
}

// ArchNames returns the names of the architectures of boxes, separated by commas.
func ArchNames() string {
	var names []string
	for _, a := range arches() {
		names = append(names, a.name)
	}
	return strings.Join(names, ", ")
}

func parseArch(name string) (arch, error) {
	for _, a := range arches() {
		if a.name == name {
			return a, nil
		}
	}
	return arch{}, status.Usagef("--arch %.40q: expected one of %s", name, ArchNames())
}

// environment returns the environment variables with which go build builds for the architecture.
func (a arch) environment() string {
	env := "CGO_ENABLED=0 GOOS=linux GOARCH=" + a.goarch
	if a.goarm > 0 {
		env += " GOARM=" + strconv.Itoa(a.goarm)
	}
	return env
}

// check refuses a program that is not boxup for Linux on the architecture, linked statically. It is strict because a box
// that installs a wrong program has no updater left to repair that.
func (a arch) check(program []byte) error {
	if len(program) > maxProgram {
		return fmt.Errorf("expected a program of at most %d bytes, got more", maxProgram)
	}
	if err := a.checkFile(program); err != nil {
		return err
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return fmt.Errorf("expected boxup: %w", err)
	}
	return a.checkBuild(info)
}

func (a arch) checkFile(program []byte) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return fmt.Errorf("expected an ELF program: %w", err)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN || f.Machine != a.machine || f.Class != a.class || f.ByteOrder != binary.ByteOrder(binary.LittleEndian) {
		return fmt.Errorf("expected an ELF program for %s (%v, %v), got %v for %v, %v", a.name, a.machine, a.class, f.Type, f.Machine, f.Class)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("expected a static program, got one that needs a loader on the box: build it with CGO_ENABLED=0")
		}
	}
	return nil
}

// checkBuild checks the build information in the program: that it is boxup and, on ARM, its GOARM.
func (a arch) checkBuild(info *debug.BuildInfo) error {
	if !strings.HasSuffix(info.Path, "/cmd/boxup") {
		return fmt.Errorf("expected boxup, got the program %q", info.Path)
	}
	if a.goarm == 0 {
		return nil
	}
	for _, s := range info.Settings {
		if s.Key == "GOARM" {
			number, _, _ := strings.Cut(s.Value, ",")
			if n, err := strconv.Atoi(number); err == nil && n <= a.goarm {
				return nil
			}
			return fmt.Errorf("expected a program for %s, built with GOARM=%d, got GOARM=%s", a.name, a.goarm, s.Value)
		}
	}
	return fmt.Errorf("expected a program for %s with its GOARM in the build information", a.name)
}
