package signer

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

// program32 is the beginning of a 32-bit program.
func program32(change func(*elf.Header32)) []byte {
	h := elf.Header32{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_ARM), Version: uint32(elf.EV_CURRENT), Ehsize: 52}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS32), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	change(&h)
	order := binary.ByteOrder(binary.LittleEndian)
	if h.Ident[elf.EI_DATA] == byte(elf.ELFDATA2MSB) {
		order = binary.BigEndian
	}
	var b bytes.Buffer
	if err := binary.Write(&b, order, h); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func archNamed(t *testing.T, name string) arch {
	t.Helper()
	a, err := parseArch(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestProgramFile(t *testing.T) {
	a := archNamed(t, "armv6")
	if err := a.checkFile(program32(func(*elf.Header32) {})); err != nil {
		t.Fatal(err)
	}
	for label, change := range map[string]func(*elf.Header32){
		"an object file":  func(h *elf.Header32) { h.Type = uint16(elf.ET_REL) },
		"another machine": func(h *elf.Header32) { h.Machine = uint16(elf.EM_MIPS) },
		"big-endian":      func(h *elf.Header32) { h.Ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB) },
		"no magic":        func(h *elf.Header32) { h.Ident[0] = 0 },
	} {
		if err := a.checkFile(program32(change)); err == nil || !strings.Contains(err.Error(), "expected an ELF program") {
			t.Errorf("%s: got %v", label, err)
		}
	}
	if err := archNamed(t, "arm64").checkFile(program32(func(*elf.Header32) {})); err == nil {
		t.Error("32 bits for 64")
	}
	if err := a.check(make([]byte, maxProgram+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too large: got %v", err)
	}
}

func TestProgramBuild(t *testing.T) {
	build := func(path, goarm string) *debug.BuildInfo {
		info := &debug.BuildInfo{Path: path}
		if goarm != "" {
			info.Settings = []debug.BuildSetting{{Key: "GOARCH", Value: "arm"}, {Key: "GOARM", Value: goarm}}
		}
		return info
	}
	const boxup = "github.com/openpowerquality/box-update-server/cmd/boxup"
	for _, c := range []struct {
		arch  string
		info  *debug.BuildInfo
		error string
	}{
		{"armv6", build(boxup, "6"), ""},
		{"armv6", build(boxup, "5"), ""},
		{"armv6", build(boxup, "6,softfloat"), ""},
		{"armhf", build(boxup, "6"), ""},
		{"armhf", build(boxup, "7,hardfloat"), ""},
		{"arm64", build(boxup, ""), ""},
		{"armv6", build(boxup, "7"), "built with GOARM=6, got GOARM=7"},
		{"armv6", build(boxup, "7,softfloat"), "got GOARM=7,softfloat"},
		{"armhf", build(boxup, "8"), "got GOARM=8"},
		{"armhf", build(boxup, "x"), "got GOARM=x"},
		{"armhf", build(boxup, ""), "its GOARM in the build information"},
		{"amd64", build("github.com/openpowerquality/box-update-server/cmd/boxsign", ""), "expected boxup, got the program"},
	} {
		err := archNamed(t, c.arch).checkBuild(c.info)
		if c.error == "" && err != nil || c.error != "" && (err == nil || !strings.Contains(err.Error(), c.error)) {
			t.Errorf("%s, %+v: got %v, want %q", c.arch, c.info, err, c.error)
		}
	}
}

// Beside boxsign lies boxup for each architecture, or for that of this machine alone.
func TestProgramBeside(t *testing.T) {
	dir := t.TempDir()
	own := arch{name: "own", goarch: runtime.GOARCH}
	other := arch{name: "other", goarch: "other"}
	put := func(name string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	none := func(a arch) {
		t.Helper()
		if path, err := a.findBeside(dir); err == nil {
			t.Errorf("%s: got %s", a.name, path)
		}
	}
	is := func(a arch, want string) {
		t.Helper()
		if path, err := a.findBeside(dir); err != nil || path != want {
			t.Errorf("%s: got %s, %v, want %s", a.name, path, err, want)
		}
	}
	none(own)
	none(other)
	is(own, put("boxup"))
	none(other)
	is(other, put("boxup-linux-other"))
	is(own, put("boxup-linux-own"))
}

func FuzzProgram(f *testing.F) {
	f.Add(program32(func(*elf.Header32) {}))
	f.Add(program32(func(h *elf.Header32) { h.Phoff, h.Phentsize, h.Phnum = 52, 32, 1 }))
	f.Add([]byte("#!/bin/sh\n"))
	f.Fuzz(func(t *testing.T, program []byte) {
		for _, a := range arches() {
			if err := a.check(program); err == nil && !bytes.Contains(program, []byte("/cmd/boxup")) {
				t.Errorf("%s: accepted", a.name)
			}
		}
	})
}
