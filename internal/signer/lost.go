package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// lost returns the listed updates whose archives are at hand, in files, but missing in the repository: a disk was
// replaced there, or a damaged archive was put away.
func (x *session) lost(ctx context.Context, files publish.Files) ([]trust.Release, error) {
	var out []trust.Release
	asked := map[update.Digest]bool{}
	for _, r := range x.base.Releases() {
		if _, at := files[r.Digest()]; !at || asked[r.Digest()] {
			continue
		}
		asked[r.Digest()] = true
		there, err := x.has(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("look for %v: %w", r.Name(), err)
		}
		if !there {
			out = append(out, r)
		}
	}
	return out, nil
}

// has reports whether the repository has the archive of an update. It doesn't read the archive.
func (x *session) has(ctx context.Context, r trust.Release) (bool, error) {
	f, err := x.place.Archive(ctx, r)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, f.Close()
}

// bringsBack returns a note for each lost archive: why a list without a change is signed.
func bringsBack(lost []trust.Release) []string {
	var out []string
	for _, r := range lost {
		out = append(out, fmt.Sprintf("%v is listed and its archive is lost there: the same list, signed anew, brings it back", r.Name()))
	}
	return out
}
