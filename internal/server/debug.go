package server

import (
	"net/http"
	"net/http/pprof"
)

// debug lets the operator look into the process through the admin socket:
//
//	GET /metrics       what Prometheus scrapes
//	GET /debug/pprof/  profiles, for go tool pprof
func (a *admin) debug(metrics http.Handler) {
	a.mux.Handle("GET /metrics", metrics)
	a.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	a.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	a.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	a.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	a.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	a.mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
}
