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

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/packaging"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// bootstrapFlags are the flags of bootstrap, "" where one is not given.
type bootstrapFlags struct {
	arch, root, boxup, out string
	urls                   []string
	json                   bool
}

// bootstrapFacts are what is said of a bootstrap update.
type bootstrapFacts struct {
	facts
	Arch  string        `json:"arch"`
	Boxup string        `json:"boxup"`       // the file that was packed
	Root  update.Digest `json:"root_digest"` // that boxes will trust
	URLs  []string      `json:"urls"`
}

func newBootstrap(s cli.Streams) *cobra.Command {
	var f bootstrapFlags
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Make the update that moves old boxes over to boxup",
		Long: `Make an update in the shape that boxes know, which they install with the updater that they have: it puts
boxup, the root that it trusts, its configuration, its service and its timer in place, and changes nothing
else. From then on boxup keeps the box up to date; the old updater is taken away by an update of yours.

It is for one architecture: publish it where boxes of that one ask. On a box of another it changes nothing.`,
		Example: `  boxsign bootstrap --arch armv6 --root 1.root.json --url http://updates.example -o opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withBuildHint(bootstrap(cmd.Context(), s, f))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.arch, "arch", "", "`ARCH` of the boxes: "+archNames())
	flags.StringVar(&f.root, "root", "", "`FILE` with the root that the boxes will trust")
	flags.StringArrayVar(&f.urls, "url", nil, "`URL` of a mirror or of the origin; several are better than one")
	flags.StringVar(&f.boxup, "boxup", "", "`FILE` with boxup for that architecture (default boxup-linux-ARCH, beside boxsign)")
	flags.StringVarP(&f.out, "output", "o", "", "write the archive to `FILE`, whose name says version and product (default: version now)")
	flags.BoolVar(&f.json, "json", false, "print the result as JSON")
	return cmd
}

func bootstrap(ctx context.Context, s cli.Streams, f bootstrapFlags) (err error) {
	epoch, err := sourceDate(s)
	if err != nil {
		return err
	}
	path, name, err := buildFlags{out: f.out}.target(epoch, s.Now())
	if err != nil {
		return err
	}
	if name.Format() != update.TarBzip2 {
		return cli.Usagef("%v: expected .%s, which every old box unpacks", name, update.TarBzip2)
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	files, result, err := f.collect(name)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "boxsign-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
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
	if result.facts, err = writeArchive(ctx, path, src, archive.Options{Name: name, Time: epoch}); err != nil {
		return err
	}
	for i, u := range result.URLs {
		if u != f.urls[i] {
			s.Warn("boxsign", "everybody who gets the update can read the password of "+u)
		}
	}
	return result.show(s, f.json)
}

func (b bootstrapFacts) show(s cli.Streams, asJSON bool) error {
	if asJSON {
		return s.JSON(b)
	}
	if err := b.facts.print(s); err != nil {
		return err
	}
	more := []any{"arch", b.Arch, "boxup", b.Boxup, "root digest", b.Root}
	for _, u := range b.URLs {
		more = append(more, "url", u)
	}
	return printAll(s, more...)
}

// packed is a file of the update.
type packed struct {
	name string
	data []byte
	mode fs.FileMode
}

// collect reads and checks all that goes into the update.
func (f bootstrapFlags) collect(name update.Name) ([]packed, bootstrapFacts, error) {
	arch, err := parseArch(f.arch)
	if err != nil {
		return nil, bootstrapFacts{}, err
	}
	root, err := f.readRoot()
	if err != nil {
		return nil, bootstrapFacts{}, err
	}
	config, err := f.config(name.Product())
	if err != nil {
		return nil, bootstrapFacts{}, err
	}
	path, program, err := arch.program(f.boxup)
	if err != nil {
		return nil, bootstrapFacts{}, err
	}
	var urls []string // as they may be shown
	for _, u := range f.urls {
		urls = append(urls, cli.MaskURLs(u))
	}
	return []packed{
		{archive.InstallScript, packaging.BootstrapScript(), 0o755},
		{"boxup", program, 0o755},
		{"boxup.service", packaging.BoxupService(packaging.BootstrapProgram), 0o644},
		{"boxup.timer", packaging.BoxupTimer(), 0o644},
		{"config.json", config, 0o644},
		{"root.json", root.Raw(), 0o644},
	}, bootstrapFacts{Arch: arch.name, Boxup: path, Root: root.Digest(), URLs: urls}, nil
}

func (f bootstrapFlags) readRoot() (*trust.Root, error) {
	if f.root == "" {
		return nil, status.WithHint(cli.Usagef("which root?"), "name the file of the root that boxes are to trust with --root, such as 1.root.json")
	}
	raw, err := disk.ReadFile(f.root, trust.MaxLength(trust.RoleRoot))
	if err != nil {
		return nil, err
	}
	root, err := trust.ParseRoot(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.root, err)
	}
	return root, nil
}

// config returns the configuration that boxup finds in /etc/boxup/config.json.
func (f bootstrapFlags) config(p update.Product) ([]byte, error) {
	if len(f.urls) == 0 {
		return nil, status.WithHint(cli.Usagef("which mirrors?"), "name each with --url")
	}
	client, err := fetch.New(fetch.Config{Upstreams: f.urls})
	if err != nil {
		return nil, cli.Usagef("--url: %w", err)
	}
	client.Close()
	c := struct {
		Mirrors []string       `json:"mirrors"`
		Product update.Product `json:"product"`
		Root    string         `json:"root"`
	}{f.urls, p, "root.json"}
	b, err := json.MarshalIndent(c, "", "  ")
	return append(b, '\n'), err
}

// program reads boxup for an architecture: the file at path or, where that is "", one that lies beside
// this program.
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

// beside returns the path of boxup in a directory.
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
