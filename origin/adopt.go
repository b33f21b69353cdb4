package origin

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/signing/trust"
)

// adopt takes over the proposals that boxsign left in the directory, <dir>/staging/<N>.<role>.json, when
// it published there without a server. What does not follow what is published is left alone, and so is
// what is complete and was held back: only its signer knows why.
func (o *Origin) adopt() error {
	staging := filepath.Dir(o.dir)
	entries, err := os.ReadDir(staging)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		role, version, ok := trust.ParseFileName(e.Name())
		if !ok || role != trust.RoleRoot && role != trust.RoleTargets {
			continue
		}
		if err := o.adoptFile(filepath.Join(staging, e.Name()), role, version); err != nil {
			return err
		}
	}
	return nil
}

func (o *Origin) adoptFile(path string, role trust.Role, version int64) error {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	raw, err := readUpTo(path, trust.MaxLength(role))
	if err != nil {
		return err
	}
	checked, err := o.check(role, version, raw, o.notBefore(info.ModTime()))
	if err != nil || checked.Version() != version || checked.Complete() {
		return nil
	}
	if err := o.keep(newProposal(checked, info.ModTime())); err != nil {
		return err
	}
	return o.c.FS.Remove(path)
}
