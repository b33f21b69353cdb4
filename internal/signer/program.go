package signer

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/openpowerquality/box-update-server/status"
)

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
			return errors.New("expected a static program, got one that needs a loader of the box: build it with CGO_ENABLED=0")
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
	return fmt.Errorf("expected a program for %s that says its GOARM", a.name)
}
