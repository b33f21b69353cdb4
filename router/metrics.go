package router

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// namespace begins the names of all series that are this program's own.
const namespace = "box_update_server"

// scrapes is how many requests for /metrics are answered at once.
const scrapes = 3

// metrics are the series of a Server. They outlive a Reload.
type metrics struct {
	handler   http.Handler
	routes    map[string]*routeMetrics // by the pattern of the route
	resumed   prometheus.Counter
	publishes *prometheus.CounterVec           // by outcome
	refused   map[status.Refusal]*atomic.Int64 // data from publishers that did not verify
}

// newMetrics returns the series of a server, all of them at 0. current returns the router that serves now.
func newMetrics(current func() *router) *metrics {
	r := prometheus.NewRegistry()
	m := &metrics{
		resumed: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "resumed_ranges_total",
			Help: "Downloads that continued where an earlier one had ended."}),
		publishes: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "publish_attempts_total",
			Help: "Proposed lists and roots, and commits, by outcome."}, []string{"outcome"}),
		routes:  newRouteMetrics(r),
		refused: map[status.Refusal]*atomic.Int64{},
	}
	for _, outcome := range []string{string(origin.StatusPending), string(origin.StatusStaged), string(origin.StatusCommitted), publishRefused, publishFailed} {
		m.publishes.WithLabelValues(outcome)
	}
	for _, reason := range status.Refusals() {
		m.refused[reason] = new(atomic.Int64)
	}
	r.MustRegister(m.resumed, m.publishes, gauges{m.gaugeSeries(), current},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: scrapes})
	return m
}

func (rt *router) metricsPage(w *reply, r *http.Request, _ string) error {
	if rt.config.NoMetrics {
		return errNotFound
	}
	w.Header()["Cache-Control"] = []string{cacheNever}
	rt.metrics.handler.ServeHTTP(w, r)
	return nil
}

// otherRoute is the label of requests that match no route.
const otherRoute = "other"

// routeMetrics are the series of one route. They are looked up once, so that a request costs no look-up by labels.
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
		status = 0
	}
	return fmt.Sprintf("%03d", status)
}

// answered counts a request.
func (m *routeMetrics) answered(status int, took time.Duration) {
	if c := m.byStatus[status]; c != nil {
		c.Inc()
	} else {
		m.requests.WithLabelValues(m.route, statusLabel(status)).Inc()
	}
	m.duration.Observe(took.Seconds())
}

// downloaded counts a download that continued an earlier one.
func (m *metrics) downloaded(w *reply, r *http.Request) {
	if w.status == http.StatusPartialContent && resumes(r.Header["Range"]) {
		m.resumed.Inc()
	}
}

// resumes reports whether a Range begins after the first byte, as that of a resumed download does.
func resumes(fields []string) bool {
	if len(fields) == 0 {
		return false
	}
	spec, inBytes := strings.CutPrefix(fields[0], "bytes=")
	first, _, isRange := strings.Cut(spec, "-")
	return inBytes && isRange && strings.Trim(first, "0") != ""
}

// Outcomes of an attempt to publish, besides the statuses of package origin.
const (
	publishRefused = "refused" // because of what the signer sent
	publishFailed  = "failed"  // because of an error of this server
)

// published counts an attempt to publish by its outcome.
func (m *metrics) published(outcome string, err error) {
	m.verified(err)
	if err != nil {
		outcome = publishRefused
		if wire, _ := status.WireOf(err); wire.Status >= http.StatusInternalServerError {
			outcome = publishFailed
		}
	}
	m.publishes.WithLabelValues(outcome).Inc()
}

// verified counts an error that says that what a publisher sent did not verify.
func (m *metrics) verified(err error) {
	if reason := status.RefusalOf(err); reason != "" {
		m.refused[reason].Add(1)
	}
}

// gauges are the series that are read on each scrape: those of the catalog, and those of how the server stands.
type gauges struct {
	series  []series
	current func() *router
}

// A series is one of gauges. A name that ends with _total is that of a counter.
type series struct {
	name string // without the namespace
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(now reading, send sendValue)
}

// A reading is how a server stands at one scrape.
type reading struct {
	rt   *router
	view *view
	status.Standing
	copy status.Freshness // synced and nothing else if this server is no mirror
}

type sendValue func(value float64, labels ...string)

// Describe sends the descriptions of all series.
func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range g.series {
		ch <- s.desc
	}
}

// Collect sends the series as they are now.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	rt := g.current()
	now := reading{rt, rt.current(), rt.config.Standing(), status.Freshness{Synced: true}}
	if now.Copy != nil {
		now.copy = *now.Copy
	}
	for _, s := range g.series {
		s.read(now, func(value float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(s.desc, s.kind, value, labels...)
		})
	}
}

func labelled(name, help string, labels []string, read func(now reading, send sendValue)) series {
	kind := prometheus.GaugeValue
	if strings.HasSuffix(name, "_total") {
		kind = prometheus.CounterValue
	}
	return series{name, prometheus.NewDesc(namespace+"_"+name, help, labels, nil), kind, read}
}

func gauge(name, help string, value func(now reading) float64) series {
	return labelled(name, help, nil, func(now reading, send sendValue) { send(value(now)) })
}

func (m *metrics) gaugeSeries() []series {
	return []series{
		labelled("build_info", "Always 1; the labels say what runs.", []string{"version", "goversion"},
			func(now reading, send sendValue) { send(1, now.rt.config.Version, runtime.Version()) }),
		gauge("healthy", "1 if all parts of the server are in order, else 0.",
			func(now reading) float64 { return truth(now.rt.healthNow().ok) }),
		gauge("downloads_running", "Archives that are being sent now.",
			func(now reading) float64 { return float64(now.rt.limits.running.Load()) }),
		gauge("catalog_updates", "Updates that are served.",
			func(now reading) float64 { return float64(len(now.view.catalog.Updates())) }),
		gauge("newest_version", "Version of the newest update that every box may install, 0 if there is none.",
			func(now reading) float64 { return now.view.newestVersion() }),
		gauge("hashing_backlog", "Archives whose digest is not known yet.",
			func(now reading) float64 { return float64(now.Unhashed) }),
		gauge("store_bytes", "Bytes that archives take.",
			func(now reading) float64 { return float64(now.StoreBytes) }),
		gauge("store_free_bytes", "Bytes that the disk has left for archives.",
			func(now reading) float64 { return float64(now.FreeBytes) }),
		gauge("scrub_complete_timestamp_seconds", "When a scrub of all archives was last complete, in Unix time; 0 if none was.",
			func(now reading) float64 { return unixTime(now.Scrubbed) }),
		gauge("scrub_damaged", "Damaged archives that scrubs found.",
			func(now reading) float64 { return float64(now.Damaged) }),
		labelled("metadata_version", "Version of a metadata file, 0 if there is none.", []string{"role"},
			func(now reading, send sendValue) {
				now.eachRole(func(role string, f status.File) { send(float64(f.Version), role) })
			}),
		labelled("metadata_expiry_timestamp_seconds", "When a metadata file expires, in Unix time; 0 if there is none.", []string{"role"},
			func(now reading, send sendValue) {
				now.eachRole(func(role string, f status.File) { send(unixTime(f.Expires), role) })
			}),
		gauge("certificate_expiry_timestamp_seconds", "When the first of the server's own certificates expires, in Unix time; 0 if there is none.",
			func(now reading) float64 { return unixTime(now.CertificateExpires) }),
		gauge("clock_off", "1 if an origin signs nothing because its clock, or the one it signed by last, is off, else 0.",
			func(now reading) float64 { return truth(now.ClockOff) }),
		gauge("mirror", "1 if this is a copy of an upstream, else 0.",
			func(now reading) float64 { return truth(now.Copy != nil) }),
		gauge("synced", "0 if a mirror has nothing to serve yet, else 1.",
			func(now reading) float64 { return truth(now.copy.Synced) }),
		labelled("sync_attempts_total", "Syncs that ended, by outcome.", []string{"outcome"},
			func(now reading, send sendValue) {
				send(float64(now.copy.Succeeded), "success")
				send(float64(now.copy.Failed), "failure")
			}),
		gauge("sync_failing", "1 if the last sync failed, else 0.",
			func(now reading) float64 { return truth(now.copy.Reason != "") }),
		gauge("sync_last_success_timestamp_seconds", "When the copy last was the newest of all upstreams, in Unix time; 0 for never.",
			func(now reading) float64 { return unixTime(now.copy.Complete) }),
		gauge("sync_last_heard_timestamp_seconds", "When an upstream last showed a repository that was accepted, in Unix time; 0 for never.",
			func(now reading) float64 { return unixTime(now.copy.Checked) }),
		gauge("sync_behind_seconds", "How long there has been something newer upstream.",
			func(now reading) float64 { return float64(now.copy.SecondsBehind) }),
		gauge("sync_behind_updates", "Updates that upstream lists and the copy doesn't.",
			func(now reading) float64 { return float64(now.copy.UpdatesBehind) }),
		labelled("upstream_received_bytes_total", "Bytes that came from an upstream.", []string{"upstream"},
			func(now reading, send sendValue) {
				now.eachUpstream(func(u status.Upstream) { send(float64(u.Received), u.URL) })
			}),
		labelled("upstream_failing", "1 if an upstream is not used because of what it did last, else 0.", []string{"upstream"},
			func(now reading, send sendValue) {
				now.eachUpstream(func(u status.Upstream) { send(truth(u.Problem() != ""), u.URL) })
			}),
		labelled("verification_failures_total", "Files and blocks that were sent here and did not verify, by reason.", []string{"reason"},
			func(now reading, send sendValue) {
				for reason, n := range m.refused {
					send(float64(n.Load()+now.Refusals[reason]), string(reason))
				}
			}),
	}
}

// eachRole calls f for the metadata file of each role, which is the zero File if there is none.
func (now reading) eachRole(f func(role string, file status.File)) {
	for _, role := range trust.Roles() {
		i := slices.IndexFunc(now.Files, func(f status.File) bool { return f.Role == string(role) })
		if i < 0 {
			f(string(role), status.File{})
		} else {
			f(string(role), now.Files[i])
		}
	}
}

// eachUpstream calls f once for each URL: a second series with the same labels would be an error.
func (now reading) eachUpstream(f func(status.Upstream)) {
	seen := map[string]bool{}
	for _, u := range now.copy.Upstreams {
		if !seen[u.URL] {
			f(u)
		}
		seen[u.URL] = true
	}
}

// newestVersion returns the version of the newest update as a number, 0 if there is none. Numbers over 2⁵³ are
// rounded.
func (v *view) newestVersion() float64 {
	if v.newest == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(v.newest.Name.Version().String(), 64) // all are digits, at most 32
	return n
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// unixTime returns a time in Unix seconds, 0 for none.
func unixTime(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}
