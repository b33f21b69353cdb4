package router

import (
	"net/http"
	"strings"

	"github.com/openpowerquality/box-update-server/status"
)

// healthView is the health of the server in one second, with the answers made from it.
type healthView struct {
	second                         int64
	ok                             bool
	components                     []status.Component
	root, healthz, readyz, verbose *answer
}

func (rt *router) livez(w *reply, _ *http.Request, _ string) error {
	rt.alive.send(w)
	return nil
}

// root answers browsers with the status page, and other clients with the health in JSON.
func (rt *router) root(w *reply, r *http.Request, _ string) error {
	if prefersHTML(r.Header["Accept"]) {
		return rt.statusPage(w, r)
	}
	rt.healthNow().root.send(w)
	return nil
}

func (rt *router) healthz(w *reply, _ *http.Request, _ string) error {
	rt.healthNow().healthz.send(w)
	return nil
}

func (rt *router) readyz(w *reply, r *http.Request, _ string) error {
	a := rt.healthNow().readyz
	if _, ok := r.URL.Query()["verbose"]; ok {
		a = rt.healthNow().verbose
	}
	a.send(w)
	return nil
}

// healthNow returns the health of this second. It calls Config.Components only once in a second.
func (rt *router) healthNow() *healthView {
	second := rt.config.Now().Unix()
	if v := rt.health.Load(); v != nil && v.second == second {
		return v
	}
	rt.asking.Lock()
	defer rt.asking.Unlock()
	if v := rt.health.Load(); v != nil && v.second == second {
		return v
	}
	v := newHealthView(rt.config, second)
	rt.health.Store(v)
	return v
}

func newHealthView(c Config, second int64) *healthView {
	components := c.Components()
	v := &healthView{second: second, ok: status.AllOK(components), components: components}
	top := describeComponent(status.Component{Name: "Box Update Server", Components: components}, second)
	v.root = jsonAnswer(http.StatusOK, top, one("Vary", "Accept"))
	top.Version = c.Version
	v.healthz = jsonAnswer(statusOf(v.ok), top)
	v.readyz, v.verbose = readyAnswers(components)
	return v
}

type componentJSON struct {
	Name       string            `json:"name"`
	OK         bool              `json:"ok"`
	Timestamp  int64             `json:"timestamp"`
	Version    string            `json:"version,omitempty"`
	Warnings   []string          `json:"warnings,omitempty"`
	Versions   status.Versions   `json:"versions,omitzero"`
	Freshness  *status.Freshness `json:"freshness,omitempty"`
	Components []componentJSON   `json:"subcomponents"`
}

func describeComponent(c status.Component, second int64) componentJSON {
	out := componentJSON{Name: c.Name, OK: c.OK(), Timestamp: second, Versions: c.Versions, Freshness: c.Freshness}
	for _, w := range c.Warnings {
		out.Warnings = append(out.Warnings, w.String())
	}
	out.Components = make([]componentJSON, 0, len(c.Components))
	for _, part := range c.Components {
		out.Components = append(out.Components, describeComponent(part, second))
	}
	return out
}

func statusOf(ok bool) int {
	if ok {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

func jsonAnswer(code int, c componentJSON, fields ...field) *answer {
	return newAnswer(code, "application/json", marshal(c), append(fields, one("Cache-Control", cacheNever))...)
}

// readyAnswers returns the answers of /readyz. The long one has a line for each ready component, then a line for each
// warning, urgent ones first, and then the verdict:
//
//	[+] NAME ok: NOTE        nothing is urgent
//	[+] NAME ready: NOTE     something is urgent, but boxes still accept what is served
//	[-] NAME: WARNING        the warning is urgent
//	[!] NAME: WARNING        the warning is not urgent
func readyAnswers(components []status.Component) (short, verbose *answer) {
	var lines []string
	for _, c := range components {
		if !status.Ready([]status.Component{c}) {
			continue
		}
		line := "[+] " + c.Name + " ok"
		if !c.OK() {
			line = "[+] " + c.Name + " ready"
		}
		if c.Note != "" {
			line += ": " + c.Note
		}
		lines = append(lines, status.OneLine(line))
	}
	urgent, other := status.Problems(components)
	for _, text := range urgent {
		lines = append(lines, status.UrgentMark+" "+text)
	}
	for _, text := range other {
		lines = append(lines, "[!] "+text)
	}
	word, verdict := "ok", "ok"
	switch {
	case !status.Ready(components):
		word, verdict = "not ready", "not ready"
	case !status.AllOK(components):
		verdict = "ready, and not in order"
	}
	code := statusOf(status.Ready(components))
	return textAnswer(code, word), textAnswer(code, strings.Join(append(lines, verdict), "\n")+"\n")
}
