package dropdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// readSize is how many bytes are read at once.
const readSize = 256 << 10

// result is what a task brought.
type result struct {
	task
	checked bool   // the task was a check
	buf     []byte // of a hashing task, for the next one
	err     error

	digest   update.Digest
	blocks   update.Blocks
	problems []string
}

// hash computes digest and block list of a file. ErrChanged and fs.ErrNotExist say that the file is
// not the one of the task any more.
func (d *Dir) hash(ctx context.Context, t task, buf []byte) result {
	r := result{task: t, buf: buf}
	r.err = d.read(t, func(f *os.File) error {
		var h update.Hasher
		if err := feed(ctx, &h, f, t.stamp.Size, buf); err != nil {
			return err
		}
		r.digest, r.blocks, _ = h.Result()
		return nil
	})
	return r
}

// quickCheck is how long a check may take before it gives way to those of other archives.
const quickCheck = time.Minute

// errSlowCheck says that a check was not through in that time: the archive unpacks to a lot.
var errSlowCheck = errors.New("the check takes long")

// inspect calls Config.Check on a file.
func (d *Dir) inspect(ctx context.Context, t task) (r result) {
	r = result{task: t, checked: true}
	if t.lane == quickLane {
		quick, cancel := context.WithTimeoutCause(ctx, d.quick, errSlowCheck)
		defer cancel()
		defer func() {
			if r.err != nil && errors.Is(context.Cause(quick), errSlowCheck) {
				r.err = errSlowCheck
			}
		}()
		ctx = quick
	}
	r.err = d.read(t, func(f *os.File) (err error) {
		r.problems, err = d.c.Check(ctx, f, t.name)
		return err
	})
	return r
}

// read opens the file of a task for a function and makes sure that it was the same before and after.
func (d *Dir) read(t task, use func(*os.File) error) error {
	f, err := d.openListed(t)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	err = use(f)
	if same := unchanged(f, t.stamp); same != nil {
		return same // which explains the other error, too
	}
	return err
}

// feed hashes exactly size bytes, so that a file which grows all the time comes to an end.
func feed(ctx context.Context, h *update.Hasher, f *os.File, size int64, buf []byte) error {
	for size > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(buf[:min(int64(len(buf)), size)])
		h.Write(buf[:n])
		size -= int64(n)
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w", f.Name(), io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take takes over a result. Where the file was not the listed one, or could not be opened for
// reasons that are not its own, the directory is listed again, which makes a new task.
func (d *Dir) take(r result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.report()
	switch {
	case errors.Is(r.err, context.Canceled) || errors.Is(r.err, context.DeadlineExceeded):
		d.state.finish(r.task) // Run ends
	case errors.Is(r.err, fs.ErrNotExist) || r.err != nil && exhausted(r.err):
		d.state.finish(r.task)
		d.poke()
	case errors.Is(r.err, errSlowCheck):
		d.state.slowed(r.task)
	case r.checked:
		d.state.inspected(r.task, r.problems, r.err)
	default:
		d.state.hashed(r.task, r.digest, r.blocks, r.err, time.Now())
	}
}
