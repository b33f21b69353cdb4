package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// rootName is the copy of the pinned root beside the configuration.
const rootName = "root.json"

// initiation is what init is asked to do.
type initiation struct {
	*program
	root        string
	fingerprint string
	replace     bool
	product     string
	hardware    string
	mirrors     []string
}

func (p *program) initCommand() *cobra.Command {
	i := initiation{program: p}
	cmd := &cobra.Command{
		Use:   "init --root FILE URL…",
		Short: "Tell this box whom to trust and whom to ask",
		Long: `Tells this box whom to trust, the root, and which mirrors to ask. The root decides about all that the box
will ever install: its fingerprint is shown, and has to be the one that the people who sign say it is.
It is the SHA-256 of the file.

Running it again changes the mirrors and keeps the rest of the configuration. Another root
takes --replace-root: what the box trusted by the old one is forgotten, what is installed stays.

A URL with a password may come from a file or from the environment, where others don't see it: @FILE
stands for the URLs in it, one on a line, env:NAME for those in that variable.`,
		Example: "  boxup init --root 1.root.json https://updates.example.org https://mirror.example.net/updates",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if i.mirrors, err = p.streams.URLs(args); err != nil {
				return cli.Usagef("%w", err)
			}
			return i.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&i.root, "root", "", "root `file`, such as 1.root.json (required)")
	cmd.Flags().StringVar(&i.fingerprint, "root-fingerprint", "", "SHA-256 of the root in `hex`, instead of asking")
	cmd.Flags().BoolVar(&i.replace, "replace-root", false, "trust this root instead of another one that the box trusts")
	cmd.Flags().StringVar(&i.product, "product", "", "`product` that the box is updated with")
	cmd.Flags().StringVar(&i.hardware, "hardware", "", "what `hardware` the box is")
	return p.jsonFlag(cmd)
}

func (i *initiation) run(ctx context.Context) error {
	if i.root == "" {
		return cli.Usagef("--root is needed: the file with the root that the people who sign gave you")
	}
	raw, err := cli.ReadFile(i.root, trust.MaxLength(trust.RoleRoot))
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	root, err := trust.ParseRoot(raw)
	if err != nil {
		return refused(fmt.Errorf("%s: %w", i.root, err))
	}
	text, c, err := i.wanted()
	if err != nil {
		return err
	}
	had, err := i.known(c, raw)
	if err != nil {
		return err
	}
	if had != sameRoot || i.fingerprint != "" {
		if err := i.confirm(ctx, root); err != nil {
			return err
		}
	}
	if err := i.write(c, raw, text, had); err != nil {
		return err
	}
	return i.tell(root, c)
}

// wanted returns the configuration as it will be.
func (i *initiation) wanted() (text []byte, c config, err error) {
	object := map[string]json.RawMessage{}
	b, err := cli.ReadFile(i.configPath, maxConfig)
	if err == nil {
		object, err = parseObject(b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, config{}, fmt.Errorf("configuration: %w", explain.At(i.configPath, err))
	}
	values, err := i.values(object["state"] == nil)
	if err != nil {
		return nil, config{}, err
	}
	for key, v := range values {
		if object[key], err = json.Marshal(v); err != nil {
			return nil, config{}, err
		}
	}
	if text, err = marshal(object); err != nil {
		return nil, config{}, err
	}
	if c, err = parseConfig(i.configPath, text); err != nil {
		return nil, config{}, cli.Usagef("%w", err)
	}
	return text, c, nil
}

// values returns the fields that init sets.
func (i *initiation) values(noState bool) (map[string]any, error) {
	configPath, err := filepath.Abs(i.configPath)
	if err != nil {
		return nil, err
	}
	values := map[string]any{"mirrors": i.mirrors, "root": filepath.Join(filepath.Dir(configPath), rootName)}
	if i.stateDir != "" {
		if values["state"], err = filepath.Abs(i.stateDir); err != nil {
			return nil, err
		}
	} else if noState {
		values["state"] = defaultState
	}
	if i.product != "" {
		values["product"] = i.product
	}
	if i.hardware != "" {
		values["hardware"] = i.hardware
	}
	return values, nil
}

func marshal(object map[string]json.RawMessage) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(object)
	return b.Bytes(), err
}

// trusted is what a box trusts already, compared with the root that init is given.
type trusted int

const (
	noRoot    trusted = iota
	sameRoot          // that root
	otherRoot         // another one, which is to be replaced
)

// known says what the box trusts already, and refuses another root unless it is to be replaced.
func (i *initiation) known(c config, raw []byte) (trusted, error) {
	_, err := trust.Open(trust.Config{FS: i.fs, Dir: filepath.Join(c.State, metadataDir), Pinned: raw})
	clash := errors.Is(err, trust.ErrFork)
	if err != nil && !clash {
		return noRoot, fmt.Errorf("trusted metadata: %w", err)
	}
	had, err := cli.ReadFile(c.Root, trust.MaxLength(trust.RoleRoot))
	switch {
	case errors.Is(err, fs.ErrNotExist) && !clash:
		return noRoot, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return noRoot, fmt.Errorf("root: %w", err)
	case !clash && bytes.Equal(had, raw):
		return sameRoot, nil
	case !i.replace:
		return noRoot, refused(cli.WithHint(fmt.Errorf("this box trusts another root: %s has fingerprint %v, %s has %v", c.Root, update.Sum(had), i.root, update.Sum(raw)),
			"to trust the new one from now on say --replace-root"))
	}
	return otherRoot, nil
}

// confirm shows the root and asks, unless the fingerprint was said.
func (i *initiation) confirm(ctx context.Context, root *trust.Root) error {
	if i.fingerprint != "" {
		want, err := update.ParseDigest(i.fingerprint)
		if err != nil {
			return cli.Usagef("--root-fingerprint: %w", err)
		}
		if want != root.Digest() {
			return refused(cli.WithHint(fmt.Errorf("root: %s: expected fingerprint %v, got %v", i.root, want, root.Digest()),
				"get the root file again from the people who sign, and their word on its fingerprint"))
		}
		return nil
	}
	if !i.streams.Interactive() {
		return cli.WithHint(fmt.Errorf("%w: root %d has fingerprint %v, and there is no terminal to ask on", cli.ErrNotConfirmed, root.Version(), root.Digest()),
			"compare it with what the people who sign say, then say --root-fingerprint HEX")
	}
	fmt.Fprintf(i.streams.Err, "root:        version %d, expires %s\nfingerprint: %v\n", root.Version(), root.Expires().Format(time.RFC3339), root.Digest())
	return i.streams.Confirm(ctx, "Is this the fingerprint that the people who sign say it is?")
}

// write writes root and configuration; what was trusted by another root goes first.
func (i *initiation) write(c config, root, text []byte, had trusted) (err error) {
	lock, err := i.takeLock(c.State)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if had == otherRoot {
		if err := os.RemoveAll(filepath.Join(c.State, metadataDir)); err != nil {
			return err
		}
		if err := i.fs.SyncDir(c.State); err != nil {
			return err
		}
	}
	if err := i.fs.MkdirAll(filepath.Dir(i.configPath), 0o755); err != nil {
		return err
	}
	if err := i.fs.WriteFile(c.Root, root, 0o644); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	mode := fs.FileMode(0o644)
	if hasPassword(c.Mirrors) {
		mode = 0o600
	}
	if err := i.fs.WriteFile(i.configPath, text, mode); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}

func (i *initiation) tell(root *trust.Root, c config) error {
	var mirrors []string
	for _, m := range c.Mirrors {
		mirrors = append(mirrors, cli.MaskURLs(m))
	}
	if i.asJSON {
		return i.streams.JSON(map[string]any{
			"config": i.configPath, "state": c.State, "root": root.Version(), "fingerprint": root.Digest(), "mirrors": mirrors,
		})
	}
	i.facts("root", fmt.Sprintf("version %d, expires %s", root.Version(), root.Expires().Format(time.RFC3339)),
		"fingerprint", root.Digest().String(), "config", i.configPath, "state", c.State)
	for _, m := range mirrors {
		i.facts("mirror", m)
	}
	return nil
}
