package router

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/openpowerquality/box-update-server/router/front"
)

// A reply is a ResponseWriter that records what was sent. It sends archives by sendfile if it has a front.Conn.
type reply struct {
	http.ResponseWriter
	conn    *front.Conn   // nil with TLS, or if the server is not a Server
	route   *route        // that answers; nil: none was found yet
	measure *routeMetrics // of that route
	pace    *pace         // nil: bodies are sent as fast as they are taken
	status  int           // 0 before the header is written
	head    bool          // the request is HEAD: net/http takes a body and drops it
	bytes   int64         // of body
	err     error         // the first error in sending the body
	whole   bool          // the request's body was read to its end
}

// Unwrap serves http.ResponseController.
func (w *reply) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader writes the header. With 412 and 416 it removes the fields that describe the archive.
func (w *reply) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	if h := w.Header(); status == http.StatusPreconditionFailed || status == http.StatusRequestedRangeNotSatisfiable {
		h["Cache-Control"] = []string{cacheNever}
		delete(h, "Content-Disposition")
		delete(h, "Content-Length") // of the answer that is not sent
		delete(h, "Repr-Digest")
		delete(h, "Etag")
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write writes a part of the body.
func (w *reply) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(p)
	return n, w.sent(int64(n), err)
}

func (w *reply) sent(n int64, err error) error {
	if !w.head {
		w.bytes += n
		w.measure.bytes.Add(float64(n))
	}
	if w.err == nil {
		w.err = err
	}
	return err
}

// ReadFrom writes all of src. http.ServeContent calls it through io.Copy. An archive goes out in pieces, by sendfile
// if there is a front.Conn. ReadFrom waits for the client outside of net/http's ReadFrom, which holds a buffer of
// 32 kB. If the archive was written to since the last piece, ReadFrom returns errRewritten and the client gets fewer
// bytes than announced: half of one archive and half of another must not look like a complete one.
func (w *reply) ReadFrom(src io.Reader) (int64, error) {
	c, ok := chunkOf(src)
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, src)
	}
	sender, _ := w.ResponseWriter.(io.ReaderFrom)
	if w.conn == nil {
		sender = nil // net/http copies
	}
	if sender != nil && c.N > 0 {
		if err := w.sendHeader(c.N); err != nil {
			return 0, err
		}
	}
	start := c.Off
	for first := true; c.N > 0; first = false {
		size, err := w.pace.next(c.N)
		if err == nil && sender != nil && !first { // files.acquire checked it before the first piece
			err = c.file.intact()
		}
		if w.sent(0, err) != nil {
			return c.Off - start, err
		}
		piece := newChunk(c.file, c.Off, size)
		var n int64
		if sender != nil {
			n, err = sender.ReadFrom(&piece.Chunk)
		} else {
			n, err = io.Copy(w.ResponseWriter, &piece)
		}
		c.Advance(n)
		w.pace.spend(n)
		if errors.Is(err, front.ErrFull) {
			err = w.conn.Wait()
		}
		if w.sent(n, err) != nil {
			return c.Off - start, err
		}
	}
	return c.Off - start, nil
}

// sendHeader sends the header, which a chunk of n bytes follows.
func (w *reply) sendHeader(n int64) error {
	w.conn.Follows(n)
	err := http.NewResponseController(w.ResponseWriter).Flush()
	w.conn.Follows(0)
	return w.sent(0, err)
}

// log logs one request.
func (rt *router) log(w *reply, r *http.Request, took time.Duration) {
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs,
		slog.String("method", logged(r.Method)),
		slog.String("path", logged(r.URL.Path)),
		slog.Int("status", w.status),
		slog.Int64("bytes", w.bytes),
		slog.Duration("duration", took),
		slog.String("remote", r.RemoteAddr))
	if v := r.Header["Range"]; len(v) > 0 {
		attrs = append(attrs, slog.String("range", logged(v[0])))
	}
	if w.err != nil {
		attrs = append(attrs, slog.Any("error", w.err))
	}
	rt.config.Requests.LogAttrs(r.Context(), slog.LevelInfo, "request", attrs...)
}

// logged bounds text from outside. The handlers of log/slog quote control characters.
func logged(s string) string {
	const most = 300
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
