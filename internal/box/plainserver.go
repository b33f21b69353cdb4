package box

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// Bounds of the answers of a server in the plain mode, in bytes.
const (
	maxUpdates = 8 << 20
	maxList    = 1 << 20
	maxVersion = 32
)

// plainServer asks a server by the URLs of docs/COMPAT.md, without signed metadata.
type plainServer struct{ *fetch.Client }

// refusedf returns a fetch.ErrRefused that says what is wrong with a file of the server.
func (s plainServer) refusedf(file string, err error) error {
	return fmt.Errorf("%v/%s: %w: %w", s.Upstreams()[0], file, fetch.ErrRefused, err)
}

// version returns the newest version that is for every box, by /version, the smallest answer that a server has.
func (s plainServer) version(ctx context.Context) (update.Version, error) {
	b, err := s.Text(ctx, "version", maxVersion)
	if err != nil {
		return update.Version{}, err
	}
	v, err := update.ParseVersion(string(b))
	if err != nil {
		return update.Version{}, s.refusedf("version", err)
	}
	return v, nil
}

// newest returns the newest update that is for every box. It asks for /updates.json. If the server doesn't have that,
// it asks for /version and /ls, and the update has no digest.
func (s plainServer) newest(ctx context.Context, product update.Product) (update.Update, error) {
	b, err := s.Text(ctx, "updates.json", maxUpdates)
	if err == nil {
		u, err := parseUpdates(b, product)
		if err != nil {
			return update.Update{}, s.refusedf("updates.json", err)
		}
		return u, nil
	}
	if !errors.Is(err, fetch.ErrNotFound) {
		return update.Update{}, err
	}
	v, err := s.version(ctx)
	if err != nil {
		return update.Update{}, err
	}
	list, err := s.Text(ctx, "ls", maxList)
	if err != nil {
		return update.Update{}, err
	}
	name, err := parseList(v, list, product)
	if err != nil {
		return update.Update{}, s.refusedf("ls", err)
	}
	return update.Update{Name: name}, nil
}

// signature returns the detached signature of an update. It asks for the one by key k first, since an update may have
// several.
func (s plainServer) signature(ctx context.Context, n update.Name, k keys.Public) (signing.Signature, error) {
	file := "update/" + n.String() + ".sig"
	b, err := s.Text(ctx, file+"?key="+string(k.ID()), maxSig)
	if errors.Is(err, fetch.ErrNotFound) {
		b, err = s.Text(ctx, file, maxSig)
	}
	if err != nil {
		return signing.Signature{}, err
	}
	sig, err := signing.ParseSignature(b)
	if err != nil {
		return signing.Signature{}, s.refusedf(file, err)
	}
	return sig, nil
}

// parseUpdates returns the update that the catalog in b names as the newest for every box. Digest and length are zero if
// the catalog doesn't have them.
func parseUpdates(b []byte, product update.Product) (update.Update, error) {
	var catalog struct {
		Newest  *update.Name `json:"newest"`
		Updates []struct {
			Name   string         `json:"name"`
			SHA256 *update.Digest `json:"sha256"`
			Length int64          `json:"length"`
		} `json:"updates"`
	}
	if err := json.Unmarshal(b, &catalog); err != nil {
		return update.Update{}, explain.JSON(b, err)
	}
	if catalog.Newest == nil || catalog.Newest.IsZero() {
		return update.Update{}, errors.New("expected the newest update for every box, got none")
	}
	newest := update.Update{Name: *catalog.Newest}
	if got := newest.Name.Product(); got != product {
		return update.Update{}, fmt.Errorf("expected an update of product %s, got one of %s", product, got)
	}
	for _, u := range catalog.Updates {
		if u.Name != newest.Name.String() || u.SHA256 == nil {
			continue
		}
		if u.Length < 0 || u.Length > update.MaxLength {
			return update.Update{}, fmt.Errorf("%v: expected a length up to %d, got %d", newest.Name, int64(update.MaxLength), u.Length)
		}
		newest.Digest, newest.Length = *u.SHA256, u.Length
	}
	return newest, nil
}

// parseList returns the name in list, one name a line, that has version v and this product. Of several formats it
// returns the one that every box unpacks.
func parseList(v update.Version, list []byte, product update.Product) (update.Name, error) {
	var best update.Name
	for line := range bytes.SplitSeq(list, []byte("\n")) {
		n, err := update.ParseName(string(line))
		if err != nil || n.Product() != product || n.Version().Compare(v) != 0 {
			continue
		}
		if best.IsZero() || n.Compare(best) > 0 {
			best = n
		}
	}
	if best.IsZero() {
		return update.Name{}, fmt.Errorf("expected version %v of product %s in the list, got none", v, product)
	}
	return best, nil
}
