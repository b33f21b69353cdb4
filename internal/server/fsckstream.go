package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// typeLines is the media type of an answer that tells how far a check is: JSON objects, one a line.
const typeLines = "application/x-ndjson"

// fsckLine is one line of such an answer. The last one, and only that, has a report or a refusal.
type fsckLine struct {
	Planned int64       `json:"planned,omitempty"` // bytes that are to be read, on the first line
	Name    string      `json:"name,omitempty"`    // of the archive that is being read
	Length  int64       `json:"length,omitempty"`  // its bytes
	Read    int64       `json:"read,omitempty"`    // of them
	Report  *FsckReport `json:"report,omitempty"`
	Refused *refusal    `json:"refused,omitempty"`
}

// fsck checks and repairs.
func (a *admin) fsck(w http.ResponseWriter, r *http.Request) {
	rate, err := strconv.ParseInt(r.FormValue("read_rate"), 10, 64)
	if r.Form.Has("read_rate") && (err != nil || rate < 0) {
		a.answer(w, r, nil, errors.New("read_rate: expected a number of bytes per second"))
		return
	}
	st, ctx := a.repository.store, r.Context()
	read := newPace(ctx, rate)
	if !strings.Contains(r.Header.Get("Accept"), typeLines) {
		report, err := check(ctx, st, a.repository.copy, read)
		a.answer(w, r, report, err)
		return
	}
	w.Header().Set("Content-Type", typeLines)
	w.Header().Set("Cache-Control", "no-store")
	lines := lineWriter{to: json.NewEncoder(w), connection: http.NewResponseController(w)}
	lines.write(fsckLine{Planned: lengthOf(kept(st))})
	report, err := check(ctx, st, a.repository.copy, pieces(kept(st), lines.reading, read))
	last := fsckLine{Report: &report}
	if err != nil {
		refused := a.refuse(r, err)
		last = fsckLine{Refused: &refused}
	}
	lines.write(last)
	lines.end()
}

// lineEvery is how often a line tells how far an archive is that takes long.
const lineEvery = 200 * time.Millisecond

// lineWriter writes lines for as long as somebody reads them.
type lineWriter struct {
	to         *json.Encoder
	connection *http.ResponseController
	last       time.Time
	gone       bool
}

func (l *lineWriter) reading(name string, length, done int64) {
	if done == length || time.Since(l.last) >= lineEvery {
		l.last = time.Now()
		l.write(fsckLine{Name: name, Length: length, Read: done})
	}
}

func (l *lineWriter) write(line fsckLine) {
	if l.gone {
		return
	}
	err := errors.Join(l.connection.SetWriteDeadline(time.Now().Add(stallsAfter)), l.to.Encode(line), l.connection.Flush())
	l.gone = err != nil
}

// end lets the connection serve the next request.
func (l *lineWriter) end() {
	_ = l.connection.SetWriteDeadline(time.Time{}) // it is gone where that fails
}

// askFsck has the process that holds a data directory check it, and shows how far it is.
func askFsck(ctx context.Context, dir, path string, m meter) (report FsckReport, err error) {
	resp, err := request(ctx, dir, path, nil, http.Header{"Accept": {typeLines + ", application/json"}})
	if err != nil {
		return FsckReport{}, err
	}
	defer resp.Body.Close() // only read from
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != typeLines {
		err := readReport(path, resp, &report)
		return report, err
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxReport)
	for lines.Scan() {
		var line fsckLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return FsckReport{}, fmt.Errorf("admin: %s: %w", path, err)
		}
		switch {
		case line.Refused != nil:
			return FsckReport{}, line.Refused.error(path)
		case line.Report != nil:
			return *line.Report, nil
		case line.Planned > 0:
			m.Plan(line.Planned)
		default:
			m.reading(line.Name, line.Length, line.Read)
		}
	}
	return FsckReport{}, errors.Join(fmt.Errorf("admin: %s: the answer was cut: the server ended, or the check", path), lines.Err())
}
