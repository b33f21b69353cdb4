package packaging_test

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// One release is made and all is asked of it.
func TestRelease(t *testing.T) {
	t.Parallel()
	boxsign := filepath.Join(t.TempDir(), "boxsign")
	run(t, exec.Command("go", "build", "-o", boxsign, "../cmd/boxsign"))
	keys := initKeys(t, boxsign)
	r := newRelease()
	r.keys = keys
	dist := r.make(t)
	t.Run("files", func(t *testing.T) { checkFiles(t, dist) })
	t.Run("programs", func(t *testing.T) { checkPrograms(t, dist, r.arches) })
	t.Run("install", func(t *testing.T) { checkInstall(t, dist) })
	t.Run("desktops", func(t *testing.T) { checkDesktops(t, dist, r.desktop) })
	t.Run("packages", func(t *testing.T) { checkPackages(t, dist, r.arches) })
	t.Run("signed", func(t *testing.T) { checkSigned(t, dist, boxsign, keys) })
	t.Run("twice", func(t *testing.T) { checkTwice(t, dist, r) })
	t.Run("itself", func(t *testing.T) { checkSelfUpdate(t, dist, boxsign, r) })
	t.Run("machine", func(t *testing.T) { checkMachine(t, dist) })
}

// A release for the machines that TestRelease leaves out.
func TestReleaseForOtherMachines(t *testing.T) {
	t.Parallel()
	r := newRelease()
	r.arches, r.desktop = "arm64 armhf", "windows-arm64 darwin-amd64"
	dist := r.make(t)
	checkPrograms(t, dist, r.arches)
	checkDesktops(t, dist, r.desktop)
	checkPackages(t, dist, r.arches)
}

// A machineKind is what programs and packages for an architecture are for.
type machineKind struct {
	elf      elf.Machine
	goarch   string
	goarm    string // "" for none
	emulator string // "" where the programs run here
	debian   string
}

func machineOf(t *testing.T, arch string) machineKind {
	t.Helper()
	kind, found := map[string]machineKind{
		"amd64": {elf.EM_X86_64, "amd64", "", "", "amd64"},
		"arm64": {elf.EM_AARCH64, "arm64", "", "qemu-aarch64", "arm64"},
		"armhf": {elf.EM_ARM, "arm", "7", "qemu-arm", "armhf"},
		"armv6": {elf.EM_ARM, "arm", "6", "qemu-arm", "armhf"},
	}[arch]
	if !found {
		t.Fatalf("no machine is known for %s", arch)
	}
	return kind
}

// initKeys makes keys and a repository R beside them, and returns their directory.
func initKeys(t *testing.T, boxsign string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(boxsign, "init", "--keys", "K", "--repo", "R", "--yes")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "BOXSIGN_PASSPHRASE=mosaic-Tulip-93-harbor")
	run(t, cmd)
	return filepath.Join(dir, "K")
}

// hasBoxup reports whether there is a boxup to release.
func hasBoxup(t *testing.T) bool {
	t.Helper()
	return slices.Contains(commands(t), "boxup")
}

func checkFiles(t *testing.T, dist string) {
	want := []string{"SHA256SUMS", "boxsign-darwin-arm64", "boxsign-windows-amd64.exe"}
	for _, c := range commands(t) {
		for _, arch := range []string{"amd64", "armv6"} {
			want = append(want, c+"-linux-"+arch, c+"_1.2.0_"+arch+".deb")
		}
	}
	if hasBoxup(t) {
		name := "boxup-" + epoch + ".tar.bz2"
		want = append(want, name, name+".sha256", name+".sig")
	}
	got := slices.Sorted(maps.Keys(contents(t, dist)))
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	cmd := exec.Command("sha256sum", "-c", "--quiet", "--strict", "SHA256SUMS")
	cmd.Dir = dist
	run(t, cmd)
}

// What README says of installing a release fits its files: sums are compared as it says, and the files that it names are there.
func checkInstall(t *testing.T, dist string) {
	page, err := os.ReadFile("../README.md")
	must(t, err)
	_, section, _ := strings.Cut(string(page), "\n## Install\n")
	section, _, _ = strings.Cut(section, "\n## ")
	sums := "sha256sum -c --ignore-missing SHA256SUMS"
	if !strings.Contains(section, "    $ "+sums+"\n") {
		t.Errorf("README does not say %s", sums)
	}
	cmd := exec.Command("sh", "-c", sums)
	cmd.Dir = dist
	run(t, cmd)
	named := regexp.MustCompile(`(?m)^    \$ .* (?:\./)?(\w[\w*-]*_amd64\.deb|[a-z-]+-linux-amd64)\b`).FindAllStringSubmatch(section, -1)
	if len(named) < 2 {
		t.Errorf("README names %d files", len(named))
	}
	for _, m := range named {
		if found, err := filepath.Glob(filepath.Join(dist, m[1])); err != nil || len(found) != 1 {
			t.Errorf("README: %s is %q in a release, %v", m[1], found, err)
		}
	}
	for _, m := range regexp.MustCompile(`go install \S+/(cmd/\S+)@latest`).FindAllStringSubmatch(section, -1) {
		if _, err := os.Stat(filepath.Join("..", m[1], "main.go")); err != nil {
			t.Error(err)
		}
	}
}

// contents returns the files of a directory.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	all := map[string][]byte{}
	for _, e := range entries {
		all[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
	}
	return all
}

// The programs are static, for the machine that their name says, and run there.
func checkPrograms(t *testing.T, dist, arches string) {
	for arch := range strings.FieldsSeq(arches) {
		is := machineOf(t, arch)
		for _, c := range commands(t) {
			path := filepath.Join(dist, c+"-linux-"+arch)
			f, err := elf.Open(path)
			must(t, err)
			if f.Machine != is.elf {
				t.Errorf("%s for %s is for %v", c, arch, f.Machine)
			}
			for _, p := range f.Progs {
				if p.Type == elf.PT_INTERP {
					t.Errorf("%s for %s is not static", c, arch)
				}
			}
			must(t, f.Close())
			if goarch, goarm := target(t, path); goarch != is.goarch || goarm != is.goarm {
				t.Errorf("%s for %s is for GOARCH=%s GOARM=%s", c, arch, goarch, goarm)
			}
		}
		cmd := exec.Command(filepath.Join(dist, "box-update-server-linux-"+arch), "--version")
		if is.emulator != "" {
			cmd = exec.Command(need(t, is.emulator, "qemu-user"), cmd.Args...)
		}
		if out := run(t, cmd); out != "box-update-server version v1.2.0\n" {
			t.Errorf("%s: got %q", arch, out)
		}
	}
}

// boxsign is built for the computers where signers sit.
func checkDesktops(t *testing.T, dist, desktops string) {
	for desktop := range strings.FieldsSeq(desktops) {
		path := filepath.Join(dist, "boxsign-"+desktop)
		if strings.HasPrefix(desktop, "windows-") {
			path += ".exe"
		}
		info, err := buildinfo.ReadFile(path)
		must(t, err)
		var system, arch string
		for _, s := range info.Settings {
			switch s.Key {
			case "GOOS":
				system = s.Value
			case "GOARCH":
				arch = s.Value
			}
		}
		if got := system + "-" + arch; got != desktop {
			t.Errorf("%s is for %s", filepath.Base(path), got)
		}
	}
}

// target returns what a program was built for.
func target(t *testing.T, path string) (goarch, goarm string) {
	t.Helper()
	info, err := buildinfo.ReadFile(path)
	must(t, err)
	for _, s := range info.Settings {
		switch s.Key {
		case "GOARCH":
			goarch = s.Value
		case "GOARM":
			goarm = s.Value
		}
	}
	return goarch, goarm
}

func checkPackages(t *testing.T, dist, arches string) {
	need(t, "dpkg-deb", "dpkg")
	for _, c := range commands(t) {
		for arch := range strings.FieldsSeq(arches) {
			deb := filepath.Join(dist, c+"_1.2.0_"+arch+".deb")
			got := run(t, exec.Command("dpkg-deb", "--show", "--showformat=${Package} ${Version} ${Architecture}", deb))
			if want := c + " 1.2.0 " + machineOf(t, arch).debian; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			root := t.TempDir()
			run(t, exec.Command("dpkg-deb", "--extract", deb, root))
			packed, err := os.ReadFile(filepath.Join(root, "usr", "bin", c))
			must(t, err)
			built, err := os.ReadFile(filepath.Join(dist, c+"-linux-"+arch))
			must(t, err)
			if !bytes.Equal(packed, built) {
				t.Errorf("%s: another program than the one beside it", deb)
			}
			page := "usr/share/man/man5/" + c + ".json.5.gz"
			if c == "boxsign" {
				page = "usr/share/man/man1/boxsign-publish.1.gz"
			}
			for _, path := range []string{page, "usr/share/man/man1/" + c + ".1.gz", "usr/share/bash-completion/completions/" + c,
				"usr/share/zsh/vendor-completions/_" + c, "usr/share/fish/vendor_completions.d/" + c + ".fish", "usr/share/doc/" + c + "/copyright",
				"usr/share/doc/" + c + "/changelog.gz", "usr/share/doc/" + c + "/docs/GLOSSARY.md"} {
				if info, err := os.Stat(filepath.Join(root, path)); err != nil || info.Size() == 0 {
					t.Errorf("%s: %s: %v", deb, path, err)
				}
			}
			checkLinks(t, filepath.Join(root, "usr", "share", "doc", c))
		}
	}
}

// link is a link of a page to another file, and not into the web.
var link = regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)

// checkLinks expects that each file that a page of a package links to is in the package. The licence is that of the system.
func checkLinks(t *testing.T, doc string) {
	t.Helper()
	links := 0
	must(t, filepath.WalkDir(doc, func(path string, e os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		page, err := os.ReadFile(path)
		for _, m := range link.FindAllSubmatch(page, -1) {
			links++
			if _, err := os.Lstat(filepath.Join(filepath.Dir(path), string(m[1]))); err != nil {
				t.Errorf("%s: a link leads nowhere: %v", path, err)
			}
		}
		return err
	}))
	if links < 50 {
		t.Errorf("%s: expected more than %d links", doc, links)
	}
}

// One signature is for all: SHA256SUMS lies in the update that is signed.
func checkSigned(t *testing.T, dist, boxsign, keys string) {
	if !hasBoxup(t) {
		t.Skip("there is no boxup to release")
	}
	archive := filepath.Join(dist, "boxup-"+epoch+".tar.bz2")
	run(t, exec.Command(boxsign, "verify", "--key", filepath.Join(keys, "release.pub"), archive))
	packed := run(t, exec.Command("tar", "-xOjf", archive, "boxup-"+epoch+"/SHA256SUMS"))
	beside, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS"))
	must(t, err)
	if packed != string(beside) || packed == "" {
		t.Errorf("the update says\n%s\nbeside it lies\n%s", packed, beside)
	}
}

// The same source in another folder, without a repository around it, at another time and for another
// user, gives the same bytes.
func checkTwice(t *testing.T, dist string, r release) {
	t.Parallel()
	r.in = t.TempDir()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = source
	for name := range strings.SplitSeq(strings.TrimSuffix(run(t, list), "\x00"), "\x00") {
		copyFile(t, filepath.Join(source, name), filepath.Join(r.in, name))
	}
	r.env = []string{"USER=somebody", "LANG=tr_TR.UTF-8", "TZ=Asia/Kathmandu"}
	first, second := contents(t, dist), contents(t, r.make(t))
	for name := range maps.Keys(first) {
		if !bytes.Equal(first[name], second[name]) {
			t.Errorf("%s differs", name)
		}
	}
	if len(first) != len(second) {
		t.Errorf("%d files, then %d", len(first), len(second))
	}
}

// copyFile copies a file with its mode; one that is gone from the source is left out.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Lstat(from)
	if os.IsNotExist(err) {
		return
	}
	must(t, err)
	if !info.Mode().IsRegular() {
		t.Fatalf("%s is no plain file", from)
	}
	b, err := os.ReadFile(from)
	must(t, err)
	must(t, os.MkdirAll(filepath.Dir(to), 0o755))
	must(t, os.WriteFile(to, b, info.Mode().Perm()))
}

// checkMachine installs the packages on a machine of their own and does with them what operators do.
// testdata/guest says what.
func checkMachine(t *testing.T, dist string) {
	t.Parallel()
	dir := machine(t)
	for _, c := range commands(t) {
		copyFile(t, filepath.Join(dist, c+"_1.2.0_amd64.deb"), filepath.Join(dir, c+".deb"))
	}
	if out, err := boot(t, dir); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// machine returns a directory for boot, and skips the test where a machine can't be booted here.
func machine(t *testing.T) string {
	t.Helper()
	need(t, "systemd-nspawn", "systemd-container")
	if os.Geteuid() != 0 {
		testworld.NotTested(t, "packages on a machine that runs systemd", errors.New("root alone may boot one"))
	}
	probe := t.TempDir()
	must(t, os.WriteFile(filepath.Join(probe, "guest"), []byte("#!/bin/sh\nsystemctl --version && exit 42\n"), 0o755))
	out, err := boot(t, probe)
	if code := exitCode(err); code != 42 || !strings.HasPrefix(out, "systemd ") {
		testworld.NotTested(t, "packages on a machine that runs systemd", fmt.Errorf("%w: %.500q", err, out))
	}
	dir := t.TempDir()
	copyFile(t, filepath.Join("testdata", "guest"), filepath.Join(dir, "guest"))
	return dir
}

func exitCode(err error) int {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return -1
}

// boot runs the program guest of a directory on a machine of its own, as testdata/boot says, and returns its
// output.
func boot(t *testing.T, dir string) (string, error) {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", filepath.Join("testdata", "boot"), fmt.Sprintf("box-%d", os.Getpid()), dir, "guest")
	said, err := cmd.CombinedOutput()
	out, readErr := os.ReadFile(filepath.Join(dir, "output"))
	if readErr != nil || err != nil && len(out) == 0 {
		out = said
	}
	return string(out), err
}
