package origin

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// localSuffix ends the name of a file that the signer of a directory keeps there.
const localSuffix = ".local"

// fileName is the name of the file of a proposal: <version>.<role>.<digest>.<unix time>, or that with localSuffix.
type fileName struct {
	version int64
	role    trust.Role
	id      update.Digest
	since   time.Time
	local   bool
}

func (n fileName) String() string {
	s := fmt.Sprintf("%d.%s.%v.%d", n.version, n.role, n.id, n.since.Unix())
	if n.local {
		s += localSuffix
	}
	return s
}

// parseFileName parses what String returns.
func parseFileName(s string) (fileName, error) {
	bad := fmt.Errorf("%q: expected <version>.<role>.<digest>.<unix time>", s)
	rest, local := strings.CutSuffix(s, localSuffix)
	part := strings.Split(rest, ".")
	if len(part) != 4 {
		return fileName{}, bad
	}
	version, err1 := strconv.ParseInt(part[0], 10, 32)
	id, err2 := update.ParseDigest(part[2])
	since, err3 := strconv.ParseInt(part[3], 10, 40)
	n := fileName{version, trust.Role(part[1]), id, time.Unix(since, 0).UTC(), local}
	if errors.Join(err1, err2, err3) != nil || n.String() != s || version < 1 {
		return fileName{}, bad
	}
	if n.role != trust.RoleRoot && n.role != trust.RoleTargets {
		return fileName{}, bad
	}
	return n, nil
}

// signedPart returns the part of a metadata file that its signatures cover, nil if there is none. The file must have the
// one spelling that signing/trust accepts.
func signedPart(raw []byte) []byte {
	_, signed, ok := bytes.Cut(raw, []byte(`,"signed":`))
	if !ok {
		return nil
	}
	return signed
}

// sameContent reports whether two files differ at most in their signatures.
func sameContent(a, b []byte) bool {
	return len(signedPart(a)) > 0 && bytes.Equal(signedPart(a), signedPart(b))
}

// readUpTo reads a regular file of at most limit bytes. A longer one is store.ErrCorrupt.
func readUpTo(path string, limit int64) ([]byte, error) {
	raw, err := disk.ReadRegular(path, limit)
	if errors.Is(err, disk.ErrTooLong) {
		return nil, fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return raw, err
}
