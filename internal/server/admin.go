package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"strconv"
	"time"

	"github.com/openpowerquality/box-update-server/mirror/export"
	"github.com/openpowerquality/box-update-server/status"
)

// admin answers the operator of a data directory at the unix socket admin.sock in that directory. Only the account of the
// server may connect to it.
//
//	GET /status          how new the copy is and what is wrong with it, with every message
//	POST /sync           sync now
//	POST /fsck?read_rate read every archive again, and repair what is damaged; with Accept: application/x-ndjson, lines
//	                     report the progress, and the last one has the report
//	POST /gc             remove what is no longer kept
//	POST /import         verify and import the export in the body
//	GET /metrics         what Prometheus scrapes
//	GET /debug/pprof/    profiles, for go tool pprof
//
// An answer comes when the work is done. It is JSON: 200, or 502 with "error" if the work failed.
type admin struct {
	built      time.Time
	repository *repository
	logger     *slog.Logger
	mux        *http.ServeMux
}

// syncReport is the answer to POST /sync.
type syncReport struct {
	Changed   bool             `json:"changed"` // another repository is served now
	Archives  int              `json:"archives"`
	Bytes     int64            `json:"bytes"`
	Freshness status.Freshness `json:"freshness"`
}

// refusal is the answer to a request that failed.
type refusal struct {
	Error string `json:"error"`
	Code  int    `json:"code,omitempty"` // exit code of the command that asked; 0: 1
}

// startAdmin answers the operator of the data directory until ctx ends or stop is called, which waits for requests that are
// under way. A server that can't make its socket only logs that.
func (p *Program) startAdmin(ctx context.Context, d dataDir, dir string, metrics http.Handler, logger *slog.Logger) (stop func()) {
	if dir == "" || d.repository == nil {
		return func() {}
	}
	listener, err := listenAdmin(dir)
	if err != nil {
		logger.Error("the admin socket can't be used: commands can't ask this server for anything", "err", err)
		return func() {}
	}
	a := &admin{built: p.Built, repository: d.repository, logger: logger, mux: http.NewServeMux()}
	a.mux.HandleFunc("POST /fsck", a.fsck)
	a.mux.HandleFunc("POST /import", cutStalled(a.respond(a.importExport)))
	a.mux.HandleFunc("POST /gc", a.respond(a.gc))
	a.mux.Handle("GET /metrics", metrics)
	a.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	a.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	a.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	a.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	a.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	a.mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	if d.repository.copy != nil {
		a.mux.HandleFunc("GET /status", a.respond(a.status))
		a.mux.HandleFunc("POST /sync", a.respond(a.sync))
	}
	ctx, cancel := context.WithCancel(ctx)
	srv := &http.Server{
		Handler:           a.mux,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	logger.Info("admin listening", "socket", adminSocket(dir))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("admin", "err", err)
		}
	}()
	return func() {
		cancel()
		if err := srv.Shutdown(context.Background()); err != nil {
			logger.Error("admin", "err", err)
		}
		<-ended
		if err := os.Remove(adminSocket(dir)); err != nil {
			logger.Error("admin", "err", err)
		}
	}
}

// respond returns a handler that answers with what f returns as JSON, and with its error.
func (a *admin) respond(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out, err := f(r)
		a.writeAnswer(w, r, out, err)
	}
}

// writeAnswer answers with out as JSON, or with err unless it is nil.
func (a *admin) writeAnswer(w http.ResponseWriter, r *http.Request, out any, err error) {
	status := http.StatusOK
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		status, out = http.StatusBadGateway, a.refuse(r, err)
	}
	body, err := json.Marshal(out)
	if err != nil {
		a.logger.Error("admin", "path", r.URL.Path, "err", err)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone
}

// refuse logs an error, and returns the answer for it.
func (a *admin) refuse(r *http.Request, err error) refusal {
	a.logger.Error("admin", "path", r.URL.Path, "err", err)
	return refusal{err.Error(), status.ExitOf(err)}
}

func (a *admin) status(*http.Request) (any, error) {
	r := a.repository
	f, warnings := r.health(r.now())
	return StatusReport{f, r.store.Scrubbed(), append([]status.Warning{}, warnings...)}, nil
}

func (a *admin) sync(r *http.Request) (any, error) {
	c := a.repository.copy
	result, err := c.Sync(r.Context())
	if err != nil {
		return nil, err
	}
	return syncReport{result.Changed, result.Archives, result.Bytes, c.Mirror.Freshness(a.repository.now())}, nil
}

const (
	stallTimeout = time.Minute      // how long a body or an answer may stand still
	lingerTime   = 10 * time.Second // how long the rest of a body is read, so that the client sees the answer
)

// cutStalled returns a handler that cuts a body which stalls. h may answer before it has read the whole body.
func cutStalled(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, connection := r.Body, http.NewResponseController(w)
		if err := connection.EnableFullDuplex(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		r.Body = stallingBody{body, connection}
		h(w, r)
		// If the connection were closed while bytes come, the client would lose the answer.
		if connection.Flush() == nil && connection.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
			_, _ = io.Copy(io.Discard, body)
		}
	}
}

type stallingBody struct {
	io.ReadCloser
	connection *http.ResponseController
}

// Read reads for at most stallTimeout.
func (s stallingBody) Read(p []byte) (int, error) {
	if err := s.connection.SetReadDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	return s.ReadCloser.Read(p)
}

// importExport imports the export in the body.
func (a *admin) importExport(r *http.Request) (any, error) {
	if a.repository.renews {
		return nil, errors.New("this is an origin: publish to it with boxsign instead")
	}
	from := export.Import{Store: a.repository.store, Now: a.repository.now, Built: a.built}
	if c := a.repository.copy; c != nil {
		from = export.Import{Mirror: c.Mirror}
	}
	result, err := from.Read(r.Context(), r.Body)
	if err != nil {
		return nil, err
	}
	return TransferReport{result.Archives, result.Bytes}, nil
}
