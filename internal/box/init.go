package box

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

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// rootName is the file name of the pinned root, which init copies beside the configuration.
const rootName = "root.json"

// Initiation is what boxup init sets on a box, the first time or later.
type Initiation struct {
	Root        string   // file of the root
	Fingerprint string   // expected SHA-256 of the root, in hex; "": Confirm asks instead
	Replace     bool     // trust this root in place of another one that the box trusts
	Product     string   // "": as configured
	Hardware    string   // "": as configured
	Mirrors     []string // base URLs

	// Confirm asks a person whether this is the right root. An error ends the initiation before anything is written.
	Confirm func(context.Context, *trust.Root) error
}

// Initiated is the result of Init.
type Initiated struct {
	Config      string        `json:"config"`
	Old         string        `json:"old,omitempty"` // the configuration before, with comments that Config has not
	Fingerprint update.Digest `json:"fingerprint"`
	Mirrors     []string      `json:"mirrors"` // without users and passwords
	Root        int64         `json:"root"`    // version
	State       string        `json:"state"`
	Expires     time.Time     `json:"-"` // of the root
}

// Init writes the root and the configuration; fields of the configuration that it doesn't set stay. If the box trusts
// another root, Init refuses, unless in.Replace is set: then it removes the metadata that the old root verified.
func (b *Box) Init(ctx context.Context, in Initiation) (Initiated, error) {
	raw, err := disk.ReadFile(in.Root, trust.MaxLength(trust.RoleRoot))
	if err != nil {
		return Initiated{}, fmt.Errorf("root: %w", err)
	}
	root, err := trust.ParseRoot(raw)
	if err != nil {
		return Initiated{}, refused(fmt.Errorf("%s: %w", in.Root, err))
	}
	i := initiation{b, in}
	text, commented, c, err := i.wanted()
	if err != nil {
		return Initiated{}, err
	}
	had, err := i.known(c, raw)
	if err != nil {
		return Initiated{}, err
	}
	// A person who runs init again with the trusted root only changes other settings, and compared the root before.
	if had != sameRoot || in.Fingerprint != "" {
		if err := i.confirm(ctx, root); err != nil {
			return Initiated{}, err
		}
	}
	if err := i.write(c, raw, text, commented, had); err != nil {
		return Initiated{}, err
	}
	out := Initiated{Config: b.ConfigPath, State: c.State, Root: root.Version(), Fingerprint: root.Digest(), Expires: root.Expires()}
	if commented != nil {
		out.Old = i.oldPath()
	}
	for _, m := range c.Mirrors {
		out.Mirrors = append(out.Mirrors, explain.MaskURLs(m))
	}
	return out, nil
}

// initiation is a running Init.
type initiation struct {
	*Box
	Initiation
}

// wanted returns the new configuration: the present one, if there is one, with the fields that init sets. commented is
// the present text, if it has comments that are not in the new one.
func (i *initiation) wanted() (text, commented []byte, c config, err error) {
	object := map[string]json.RawMessage{}
	b, err := disk.ReadFile(i.ConfigPath, settings.MaxBox)
	if err == nil {
		object, err = settings.ParseObject(b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, config{}, fmt.Errorf("configuration: %w", explain.At(i.ConfigPath, err))
	}
	before, err := marshal(object)
	if err != nil {
		return nil, nil, config{}, err
	}
	values, err := i.values(object["state"] == nil)
	if err != nil {
		return nil, nil, config{}, err
	}
	for key, v := range values {
		if object[key], err = json.Marshal(v); err != nil {
			return nil, nil, config{}, err
		}
	}
	if text, err = marshal(object); err != nil {
		return nil, nil, config{}, err
	}
	switch {
	case bytes.Equal(text, before):
		text = b // nothing changes, nor do the comments
	case !bytes.Equal(settings.Plain(b), b):
		commented = b
	}
	if c, err = parseConfig(i.ConfigPath, text); err != nil {
		return nil, nil, config{}, status.Usagef("%w", err)
	}
	return text, commented, c, nil
}

// values returns the fields that init sets. noState says that the present configuration names no state directory.
func (i *initiation) values(noState bool) (map[string]any, error) {
	configPath, err := filepath.Abs(i.ConfigPath)
	if err != nil {
		return nil, err
	}
	values := map[string]any{"mirrors": i.Mirrors, "root": filepath.Join(filepath.Dir(configPath), rootName)}
	if i.StateDir != "" {
		if values["state"], err = filepath.Abs(i.StateDir); err != nil {
			return nil, err
		}
	} else if noState {
		values["state"] = DefaultState
	}
	if i.Product != "" {
		values["product"] = i.Product
	}
	if i.Hardware != "" {
		values["hardware"] = i.Hardware
	}
	return values, nil
}

// oldPath is where the configuration before is kept.
func (i *initiation) oldPath() string { return i.ConfigPath + ".old" }

func marshal(object map[string]json.RawMessage) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(object)
	return b.Bytes(), err
}

// trusted says which root a box trusts already, compared with the one that Init is given.
type trusted int

const (
	noRoot    trusted = iota
	sameRoot          // the given one
	otherRoot         // another one, which Init replaces
)

// known returns which root the box trusts already. It refuses another root than the given one, raw, unless Replace is
// set.
func (i *initiation) known(c config, raw []byte) (trusted, error) {
	_, err := trust.Open(trust.Config{FS: i.FS, Dir: filepath.Join(c.State, metadataDir), Pinned: raw})
	clash := errors.Is(err, trust.ErrFork)
	if err != nil && !clash {
		return noRoot, fmt.Errorf("trusted metadata: %w", err)
	}
	had, err := disk.ReadFile(c.Root, trust.MaxLength(trust.RoleRoot))
	switch {
	case errors.Is(err, fs.ErrNotExist) && !clash:
		return noRoot, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return noRoot, fmt.Errorf("root: %w", err)
	case !clash && bytes.Equal(had, raw):
		return sameRoot, nil
	case !i.Replace:
		return noRoot, refused(status.WithHint(fmt.Errorf("this box trusts another root: %s has fingerprint %v, %s has %v", c.Root, update.Sum(had), i.Root, update.Sum(raw)),
			"to trust the new one from now on, add --replace-root"))
	}
	return otherRoot, nil
}

// confirm compares the root with Fingerprint or, if that is "", asks Confirm.
func (i *initiation) confirm(ctx context.Context, root *trust.Root) error {
	if i.Fingerprint != "" {
		want, err := update.ParseDigest(i.Fingerprint)
		if err != nil {
			return status.Usagef("--root-fingerprint: %w", err)
		}
		if want != root.Digest() {
			return refused(status.WithHint(fmt.Errorf("root: %s: expected fingerprint %v, got %v", i.Root, want, root.Digest()),
				"get the root file and its fingerprint again from the signers of the updates"))
		}
		return nil
	}
	return i.Confirm(ctx, root)
}

// write writes the root and the configuration. It first removes metadata that another root verified. The configuration is
// readable for its owner only if a mirror's URL has a password. The one with comments, if there is one, is kept beside it
// for its owner, since its URLs may have passwords too.
func (i *initiation) write(c config, root, text, commented []byte, had trusted) (err error) {
	lock, err := i.lockDir(c.State)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if had == otherRoot {
		if err := os.RemoveAll(filepath.Join(c.State, metadataDir)); err != nil {
			return err
		}
		if err := i.FS.SyncDir(c.State); err != nil {
			return err
		}
	}
	if err := i.FS.MkdirAll(filepath.Dir(i.ConfigPath), 0o755); err != nil {
		return err
	}
	if err := i.FS.WriteFile(c.Root, root, 0o644); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if commented != nil {
		if err := i.FS.WriteFile(i.oldPath(), commented, 0o600); err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
	}
	mode := fs.FileMode(0o644)
	if hasPassword(c.Mirrors) {
		mode = 0o600
	}
	if err := i.FS.WriteFile(i.ConfigPath, text, mode); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}
