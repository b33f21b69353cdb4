package router

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/openpowerquality/box-update-server/status"
)

// namespace begins the names of all series that are this program's own.
const namespace = "box_update_server"

// scrapes is how many requests for /metrics are answered at once.
const scrapes = 3

// metrics are the series of a Server. They outlive a Reload.
//
// A nil *metrics measures nothing.
type metrics struct {
	handler   http.Handler
	routes    map[string]*routeMetrics // by the pattern of the route
	downloads prometheus.Gauge
	resumed   prometheus.Counter
	publishes map[string]prometheus.Counter    // by outcome
	refused   map[status.Refusal]*atomic.Int64 // data from publishers that did not verify
}

// newMetrics returns the series of a server, all of them at 0. current returns the router that serves now.
func newMetrics(current func() *router) *metrics {
	r := prometheus.NewRegistry()
	m := &metrics{
		downloads: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "downloads_running",
			Help: "Archives that are being sent now."}),
		resumed: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "resumed_ranges_total",
			Help: "Downloads that went on where an earlier one had ended."}),
		refused: map[status.Refusal]*atomic.Int64{},
	}
	for _, reason := range status.Refusals() {
		m.refused[reason] = new(atomic.Int64)
	}
	m.routes = newRouteMetrics(r)
	m.publishes = newPublishMetrics(r)
	r.MustRegister(m.downloads, m.resumed, newGauges(m, current),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: scrapes})
	return m
}

// metricsPage answers with all series, or with errNotFound if nothing is measured.
func (rt *router) metricsPage(w *reply, r *http.Request, _ string) error {
	if rt.metrics == nil {
		return errNotFound
	}
	w.Header()["Cache-Control"] = []string{cacheNever}
	rt.metrics.handler.ServeHTTP(w, r)
	return nil
}

// otherRoute is the label of requests that match no route.
const otherRoute = "other"

// routeMetrics are the series of one route. They are looked up once, so that a request costs no look-up by labels.
//
// A nil *routeMetrics measures nothing.
type routeMetrics struct {
	route    string
	byStatus map[int]prometheus.Counter // for the expected statuses
	requests *prometheus.CounterVec     // for all others
	duration prometheus.Observer
	bytes    prometheus.Counter
}

// statuses returns the statuses with which a route is expected to answer; their series exist from the start.
func statuses(route string) []int {
	switch route {
	case "/livez", "/metrics":
		return []int{200, 405, 503}
	case "/", "/healthz", "/readyz":
		return []int{200, 404, 405, 503}
	case "/latest":
		return []int{303, 404, 405, 503}
	case "/publish/*target":
		return []int{200, 202, 204, 400, 403, 404, 405, 408, 409, 411, 413, 422, 500, 503, 507}
	case "/update/:target", "/sha256/:target", "/targets/:target":
		return []int{200, 206, 304, 307, 404, 405, 412, 416, 500, 503}
	case otherRoute: // redirects to TLS too
		return []int{301, 308, 404}
	}
	return []int{200, 206, 304, 404, 405, 412, 416, 500, 503}
}

// durations are the upper bounds of the buckets, in seconds: from answers out of memory to downloads over
// bad lines.
func durations() []float64 { return []float64{.0005, .005, .05, .5, 5, 60, 600, 3600} }

func newRouteMetrics(r prometheus.Registerer) map[string]*routeMetrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "http_requests_total",
		Help: "Requests that were answered, by route and status."}, []string{"route", "code"})
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: "http_request_duration_seconds",
		Help: "Time from the header of a request to the end of its answer, by route.", Buckets: durations()}, []string{"route"})
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "http_sent_bytes_total",
		Help: "Bytes of bodies that were sent, by route."}, []string{"route"})
	r.MustRegister(requests, took, bytes)
	all := map[string]*routeMetrics{}
	for _, route := range append(routePatterns(), otherRoute) {
		m := &routeMetrics{route, map[int]prometheus.Counter{}, requests, took.WithLabelValues(route), bytes.WithLabelValues(route)}
		for _, status := range statuses(route) {
			m.byStatus[status] = requests.WithLabelValues(route, statusLabel(status))
		}
		all[route] = m
	}
	return all
}

// statusLabel returns a status as a label: three digits, 000 for an impossible one.
func statusLabel(status int) string {
	if status < 100 || status > 999 {
		return "000"
	}
	return string([]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)})
}

// of returns the series of a route.
func (m *metrics) of(route string) *routeMetrics {
	if m == nil {
		return nil
	}
	return m.routes[route]
}

// answered counts a request.
func (m *routeMetrics) answered(status int, took time.Duration) {
	if m == nil {
		return
	}
	if c := m.byStatus[status]; c != nil {
		c.Inc()
	} else {
		m.requests.WithLabelValues(m.route, statusLabel(status)).Inc()
	}
	m.duration.Observe(took.Seconds())
}

// sent counts bytes of a body.
func (m *routeMetrics) sent(n int64) {
	if m != nil {
		m.bytes.Add(float64(n))
	}
}

// begin counts a download that begins. end must be called when it has ended.
func (m *metrics) begin() {
	if m != nil {
		m.downloads.Inc()
	}
}

func (m *metrics) end(w *reply, r *http.Request) {
	if m == nil {
		return
	}
	m.downloads.Dec()
	if w.status == http.StatusPartialContent && resumes(r.Header["Range"]) {
		m.resumed.Inc()
	}
}

// resumes reports whether a Range begins after the first byte, as that of a resumed download does.
func resumes(fields []string) bool {
	if len(fields) == 0 {
		return false
	}
	spec, ok := strings.CutPrefix(fields[0], "bytes=")
	if !ok {
		return false
	}
	first, _, ok := strings.Cut(spec, "-")
	return ok && strings.Trim(first, "0") != ""
}
