package signing

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/internal/verified"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// ErrSignature says that none of the keys that count signed this archive under this name.
var ErrSignature error = status.Signature

// Verified is an update that this package, or signing/trust, has verified. No other package can make one. The zero Verified
// is no update, and every function with a Verified as argument refuses it.
type Verified = verified.Update

// Open verifies that one of the keys signed an archive with this digest under this name. The digest must be that of the
// bytes at hand and the name that of the request for them; neither may be from a checksum line that came with them. The
// error is ErrSignature if no key fits.
func Open(d update.Digest, n update.Name, sig Signature, ks ...keys.Public) (Verified, error) {
	return open(verified.Claim{Name: n, Digest: d, Length: -1}, sig, ks)
}

// Verify is Open for the archive in r, which it reads to the end in constant memory. If it can't, the error is that of r or
// of ctx.
func Verify(ctx context.Context, r io.Reader, n update.Name, sig Signature, ks ...keys.Public) (Verified, error) {
	h := sha256.New()
	length, err := io.CopyBuffer(h, untilDone{ctx, r}, make([]byte, 256<<10))
	if err != nil {
		return Verified{}, fmt.Errorf("read %v: %w", n, err)
	}
	return open(verified.Claim{Name: n, Digest: update.Digest(h.Sum(nil)), Length: length}, sig, ks)
}

func open(c verified.Claim, sig Signature, ks []keys.Public) (Verified, error) {
	v, err := verified.New(c)
	if err != nil {
		return Verified{}, fmt.Errorf("open: %w", err)
	}
	if len(ks) == 0 {
		return Verified{}, fmt.Errorf("%v: %w: no key was given to verify it with", c.Name, ErrSignature)
	}
	for _, k := range ks {
		if k.Verify(update.ChecksumLine(c.Digest, c.Name), sig[:]) {
			c.Key = k
			return verified.New(c)
		}
	}
	return Verified{}, fmt.Errorf("%v: %w: expected one by %s over %q; the archive or its signature was changed, belongs to another name, or is signed by another key: get both again, and compare the key's ID with the signer's",
		v.Name(), ErrSignature, list(ks), update.ChecksumLine(c.Digest, c.Name))
}

func list(ks []keys.Public) string {
	names := make([]string, len(ks))
	for i, k := range ks {
		names[i] = "key " + k.Fingerprint()
	}
	return strings.Join(names, " or ")
}

// untilDone is a reader that fails with the error of ctx.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}
