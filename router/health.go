package router

import (
	"encoding/json"
	"net/http"
	"strings"
)

// Health says how the server is. Its methods are called at most once a second each, and must not
// block.
type Health interface {
	// Components returns the state of the server's parts.
	Components() []Component

	// Checks returns what must hold before the server should be sent requests.
	Checks() []Check
}

// A Component is a part of the server, as health shows it. A name of digits only would be read as a
// box.
type Component struct {
	Name       string
	OK         bool
	Warnings   []string         // shown to anyone who asks
	Versions   map[string]int64 // of what the part holds, by name
	Freshness  any              // of a copy, shown as JSON; nil: none
	Components []Component
}

// A Check is one condition of readiness. Problem is empty where it holds. Both it and Note, which adds to
// a condition that holds, are shown to anyone who asks.
type Check struct {
	Name    string
	Problem string
	Note    string
}

// healthView is how the server was at one second.
type healthView struct {
	second                         int64
	ok                             bool
	components                     []Component
	root, healthz, readyz, verbose *answer
}

func (rt *router) livez(w *reply, _ *http.Request, _ string) error {
	rt.alive.send(w)
	return nil
}

// root answers a browser with the status page, and all others with the health.
func (rt *router) root(w *reply, r *http.Request, _ string) error {
	if prefersHTML(r.Header["Accept"]) {
		return rt.page(w, r)
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

// healthNow returns the health of this second, asking for it where nobody has yet.
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
	var components []Component
	var checks []Check
	if c.Health != nil {
		components, checks = c.Health.Components(), c.Health.Checks()
	}
	v := &healthView{second: second, ok: allOK(components), components: components}
	top := describeComponent(Component{Name: "Box Update Server", OK: v.ok, Components: components}, second)
	v.root = jsonAnswer(http.StatusOK, top, one("Vary", "Accept"))
	top.Version = c.Version
	v.healthz = jsonAnswer(statusOf(top.OK), top)
	v.readyz, v.verbose = readyAnswers(checks)
	return v
}

type componentJSON struct {
	Name       string           `json:"name"`
	OK         bool             `json:"ok"`
	Timestamp  int64            `json:"timestamp"`
	Version    string           `json:"version,omitempty"`
	Warnings   []string         `json:"warnings,omitempty"`
	Versions   map[string]int64 `json:"versions,omitempty"`
	Freshness  any              `json:"freshness,omitempty"`
	Components []componentJSON  `json:"subcomponents"`
}

func describeComponent(c Component, second int64) componentJSON {
	out := componentJSON{Name: c.Name, OK: c.OK, Timestamp: second, Warnings: c.Warnings, Versions: c.Versions, Freshness: c.Freshness}
	out.Components = make([]componentJSON, 0, len(c.Components))
	for _, part := range c.Components {
		out.Components = append(out.Components, describeComponent(part, second))
	}
	return out
}

func allOK(components []Component) bool {
	for _, c := range components {
		if !c.OK || !allOK(c.Components) {
			return false
		}
	}
	return true
}

func statusOf(ok bool) int {
	if ok {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

func jsonAnswer(status int, c componentJSON, fields ...field) *answer {
	body, err := json.Marshal(c)
	if err != nil {
		panic(err) // no value of these types fails to marshal
	}
	return newAnswer(status, "application/json", body, append(fields, one("Cache-Control", cacheNever))...)
}

func readyAnswers(checks []Check) (short, verbose *answer) {
	ready := true
	var lines strings.Builder
	for _, c := range checks {
		if c.Problem == "" {
			lines.WriteString("[+] " + c.Name + " ok" + c.Note + "\n")
			continue
		}
		ready = false
		lines.WriteString("[-] " + c.Name + ": " + c.Problem + "\n")
	}
	word := "ok"
	if !ready {
		word = "not ready"
	}
	return textAnswer(statusOf(ready), word), textAnswer(statusOf(ready), lines.String()+word+"\n")
}
