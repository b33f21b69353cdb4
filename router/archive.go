package router

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/openpowerquality/box-update-server/router/front"
	"github.com/openpowerquality/box-update-server/update"
)

// archive answers a request for an archive, whole or in part. Rare cases are handled in functions of their own, so
// that the stack of a download that waits for its client stays small.
func (rt *router) archive(w *reply, r *http.Request, v *view, u update.Update, cache field) error {
	if err := rt.limits.enter(r); err != nil {
		return err
	}
	defer rt.limits.leave(r)
	f, err := v.files.acquire(u)
	if err != nil {
		return rt.retryOrRedirect(r, u, fmt.Errorf("open %v: %w", u.Name, err))
	}
	defer v.files.release(f)
	h := w.Header()
	for _, field := range f.fields {
		h[field.key] = field.values
	}
	h[cache.key] = cache.values
	w.conn, w.pace = front.ConnOf(r), rt.limits.pace(w, r)
	http.ServeContent(w, r, "", time.Time{}, &content{file: f, size: u.Length})
	rt.metrics.downloaded(w, r)
	if errors.Is(w.err, errRewritten) {
		rt.logRewritten(r, u.Name)
	}
	return nil
}

func (rt *router) logRewritten(r *http.Request, n update.Name) {
	rt.config.Logger.LogAttrs(r.Context(), slog.LevelWarn, "download cut: the archive was written to while it was being sent",
		slog.String("name", n.String()), slog.String("remote", r.RemoteAddr))
}

// archiveFields returns the header fields of an archive that don't depend on the request.
func archiveFields(u update.Update) []field {
	fields := []field{
		one("Content-Type", "application/octet-stream"),
		one("Content-Disposition", `attachment; filename="`+u.Name.String()+`"`),
		one("X-Content-Type-Options", "nosniff"),
	}
	if u.Digest.IsZero() {
		return fields
	}
	return append(fields,
		one("Etag", etag(u.Digest)),
		one("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(u.Digest[:])+":"))
}

// content is an archive as an io.ReadSeeker for http.ServeContent. It seeks without system calls and reads by offset,
// so that many requests can share a file.
type content struct {
	file      *openFile
	size, pos int64
}

// Read reads from the current position.
func (c *content) Read(p []byte) (int, error) {
	rest := newChunk(c.file, c.pos, c.size-c.pos)
	n, err := rest.Read(p)
	c.pos = rest.Off
	return n, err
}

// Seek moves the position; positions before the start are refused.
func (c *content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.pos
	case io.SeekEnd:
		offset += c.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d: %w", offset, os.ErrInvalid)
	}
	c.pos = offset
	return offset, nil
}

// chunk is a part of a file that must not be written to meanwhile.
type chunk struct {
	front.Chunk
	file *openFile
}

func newChunk(f *openFile, off, n int64) chunk {
	return chunk{front.Chunk{File: f.File, Off: off, N: n}, f}
}

// Read reads by offset, as front.Chunk does. It returns errRewritten if the file was written to since it was opened.
func (c *chunk) Read(p []byte) (int, error) {
	if c.N > 0 {
		if err := c.file.intact(); err != nil {
			return 0, err
		}
	}
	return c.Chunk.Read(p)
}

// chunkOf returns what is left to send of src. It reports false if src is neither a *content nor an io.LimitedReader
// of one.
func chunkOf(src io.Reader) (chunk, bool) {
	limit := int64(-1)
	if l, ok := src.(*io.LimitedReader); ok {
		src, limit = l.R, l.N
	}
	c, ok := src.(*content)
	if !ok {
		return chunk{}, false
	}
	n := c.size - c.pos
	if limit >= 0 {
		n = min(n, limit)
	}
	return newChunk(c.file, c.pos, n), true
}
