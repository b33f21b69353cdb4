package origin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// fileName is the name of the file of a proposal: <version>.<role>.<digest>.<unix time>.
type fileName struct {
	version int64
	role    trust.Role
	id      update.Digest
	since   time.Time
}

func (n fileName) String() string {
	return fmt.Sprintf("%d.%s.%v.%d", n.version, n.role, n.id, n.since.Unix())
}

// parseFileName parses what String returns.
func parseFileName(s string) (fileName, error) {
	bad := fmt.Errorf("%q: expected <version>.<role>.<digest>.<unix time>", s)
	part := strings.Split(s, ".")
	if len(part) != 4 {
		return fileName{}, bad
	}
	version, err1 := strconv.ParseInt(part[0], 10, 32)
	id, err2 := update.ParseDigest(part[2])
	since, err3 := strconv.ParseInt(part[3], 10, 40)
	n := fileName{version, trust.Role(part[1]), id, time.Unix(since, 0).UTC()}
	if errors.Join(err1, err2, err3) != nil || n.String() != s || version < 1 {
		return fileName{}, bad
	}
	if n.role != trust.RoleRoot && n.role != trust.RoleTargets {
		return fileName{}, bad
	}
	return n, nil
}

// signedPart returns the part of a metadata file, in the spelling that signing/trust accepts, which
// its signatures cover; nil where there is none.
func signedPart(raw []byte) []byte {
	_, signed, ok := bytes.Cut(raw, []byte(`,"signed":`))
	if !ok {
		return nil
	}
	return signed
}

// sameContent reports whether two files differ in their signatures at most.
func sameContent(a, b []byte) bool {
	return len(signedPart(a)) > 0 && bytes.Equal(signedPart(a), signedPart(b))
}

// noSpace makes store.ErrNoSpace of what the system says about a full disk.
func noSpace(err error) error {
	if disk.NoSpace(err) && !errors.Is(err, store.ErrNoSpace) {
		return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
	}
	return err
}

// readUpTo reads a regular file of at most limit bytes.
func readUpTo(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: no regular file", path, fs.ErrInvalid)
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s: %w: more than %d bytes", path, store.ErrCorrupt, limit)
	}
	return raw, err
}
