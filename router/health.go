package router

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/openpowerquality/box-update-server/store"
)

// Health says how the server is. Its method is called at most once a second, and must not block.
type Health interface {
	// Components returns the state of the server's parts.
	Components() []Component
}

// A Component is a part of the server. All that tells how the server is goes by this: /, the probes, the status page
// and the metrics. All of it is shown to anyone who asks. A name of digits only would be read as a box.
type Component struct {
	Name string

	// Unready says that the server should be sent no requests, since boxes take nothing that this part serves. An
	// urgent warning says why.
	Unready bool

	Warnings   []store.Warning
	Note       string           // how it is, in a few words; "": nothing to add
	Versions   map[string]int64 // of what the part holds, by name
	Freshness  any              // of a copy, shown as JSON; nil: none
	Components []Component
}

// ok reports whether a component and its parts are in order: nothing that they warn of is urgent.
func (c Component) ok() bool {
	urgent := slices.ContainsFunc(c.Warnings, func(w store.Warning) bool { return w.Urgent })
	return !c.Unready && !urgent && allOK(c.Components)
}

func allOK(components []Component) bool {
	return !slices.ContainsFunc(components, func(c Component) bool { return !c.ok() })
}

// ready reports whether the server should be sent requests.
func ready(components []Component) bool {
	return !slices.ContainsFunc(components, func(c Component) bool { return c.Unready || !ready(c.Components) })
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
	if c.Health != nil {
		components = c.Health.Components()
	}
	v := &healthView{second: second, ok: allOK(components), components: components}
	top := describeComponent(Component{Name: "Box Update Server", Components: components}, second)
	v.root = jsonAnswer(http.StatusOK, top, one("Vary", "Accept"))
	top.Version = c.Version
	v.healthz = jsonAnswer(statusOf(v.ok), top)
	v.readyz, v.verbose = readyAnswers(components)
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
	out := componentJSON{Name: c.Name, OK: c.ok(), Timestamp: second, Versions: c.Versions, Freshness: c.Freshness}
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

func jsonAnswer(status int, c componentJSON, fields ...field) *answer {
	body, err := json.Marshal(c)
	if err != nil {
		panic(err) // no value of these types fails to marshal
	}
	return newAnswer(status, "application/json", body, append(fields, one("Cache-Control", cacheNever))...)
}

// problemsOf returns the warnings of components and of their parts, those that are urgent and the others.
func problemsOf(components []Component, of string) (urgent, other []string) {
	for _, c := range components {
		for _, w := range c.Warnings {
			text := oneLine(of + c.Name + ": " + w.String())
			if w.Urgent {
				urgent = append(urgent, text)
			} else {
				other = append(other, text)
			}
		}
		more, rest := problemsOf(c.Components, of+c.Name+", ")
		urgent, other = append(urgent, more...), append(other, rest...)
	}
	return urgent, other
}

// oneLine returns a text as one line, so that none in it, which may come from outside, passes for another.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// readyAnswers returns the answers of /readyz. The long one has a line for each component that is ready, a line for
// each warning, those that are urgent first, and the verdict:
//
//	[+] NAME ok: NOTE        nothing is urgent
//	[+] NAME ready: NOTE     something is, and boxes take all the same what is served
//	[-] NAME: WARNING        it is urgent
//	[!] NAME: WARNING        it will want somebody some day
func readyAnswers(components []Component) (short, verbose *answer) {
	var lines []string
	for _, c := range components {
		if !ready([]Component{c}) {
			continue
		}
		line := "[+] " + c.Name + " ok"
		if !c.ok() {
			line = "[+] " + c.Name + " ready"
		}
		if c.Note != "" {
			line += ": " + c.Note
		}
		lines = append(lines, oneLine(line))
	}
	urgent, other := problemsOf(components, "")
	for _, text := range urgent {
		lines = append(lines, "[-] "+text)
	}
	for _, text := range other {
		lines = append(lines, "[!] "+text)
	}
	word, verdict := "ok", "ok"
	switch {
	case !ready(components):
		word, verdict = "not ready", "not ready"
	case !allOK(components):
		verdict = "ready, and not in order"
	}
	status := statusOf(ready(components))
	return textAnswer(status, word), textAnswer(status, strings.Join(append(lines, verdict), "\n")+"\n")
}
