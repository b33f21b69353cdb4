package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// codeDamaged is the exit code of fsck if something is still wrong.
const codeDamaged = 3

// FsckReport is what a check of all archives found and repaired.
type FsckReport struct {
	Checked  int       `json:"checked"`  // archives that are listed
	Problems []Problem `json:"problems"` // that were found
	Repaired bool      `json:"repaired"` // everything that was found
	// Metadata that newer ones replaced, and that are still there.
	SupersededFiles int    `json:"superseded_files"`
	SupersededBytes int64  `json:"superseded_bytes"`
	Archives        int    `json:"archives"` // that were fetched
	Bytes           int64  `json:"bytes"`
	Error           string `json:"error,omitempty"` // why it isn't repaired
}

// Verdict returns nil if nothing was wrong, or everything was repaired.
func (r FsckReport) Verdict() error {
	if len(r.Problems) == 0 || r.Repaired {
		return nil
	}
	text := "something is still wrong"
	if r.Error != "" {
		text += ": " + r.Error
	}
	return status.WithCode(errors.New(text), codeDamaged)
}

// Problem is one thing that is wrong with a store.
type Problem struct {
	Name   string        `json:"name,omitempty"`
	Digest update.Digest `json:"digest"`
	Text   string        `json:"text"` // on one line
}

func describeProblems(ps []store.Problem) []Problem {
	out := make([]Problem, 0, len(ps))
	for _, p := range ps {
		d := Problem{Digest: p.Digest, Text: p.String()}
		if p.Name != (update.Name{}) {
			d.Name = p.Name.String()
		}
		out = append(out, d)
	}
	return out
}

// Fsck reads every archive of the data directory again, at most rate bytes per second (0: no limit), and repairs what is
// damaged. While a server holds the directory, that server does.
func (p *Program) Fsck(ctx context.Context, rate int64) (report FsckReport, err error) {
	s, err := p.repositoryData()
	if err != nil {
		return FsckReport{}, err
	}
	meter := newMeter(p.Streams)
	defer meter.End()
	ctx = pace.ObserveWaits(ctx, meter.Wait)
	logger := p.newLogger(meter, s)
	var m *mirrored
	st, err := openStore(ctx, s, nil, logger, p.Now)
	mine := err == nil
	if errors.Is(err, disk.ErrLocked) {
		report, err = askFsck(ctx, s.DataDir, rate, meter)
		if !errors.Is(err, errNotAsked) {
			return report, err
		}
		// The process that holds the directory may write to it at any time, so this one must not repair it.
		p.Warn("box-update-server", err.Error()+": nothing is changed")
		st, err = p.openReadOnly(ctx, s)
	}
	if err != nil {
		return FsckReport{}, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if mine && len(s.Upstream) > 0 {
		if m, err = p.newMirrored(s, st, meter.sinks(), logger); err != nil {
			return FsckReport{}, err
		}
		defer m.client.Close()
	}
	return checkStore(ctx, st, m, mine, meter.pieces(st, capReading(ctx, rate)))
}

// checkStore reads every archive, and calls read with each piece. With repair it puts damaged archives into quarantine, and
// a mirror fetches them again; m is nil without an upstream. Damage that could not be repaired is in the report, and no
// error.
func checkStore(ctx context.Context, st *store.Store, m *mirrored, repair bool, read func(update.Digest, int)) (FsckReport, error) {
	out := FsckReport{}
	superseded, err := st.Superseded()
	if err != nil {
		return out, err
	}
	out.SupersededFiles, out.SupersededBytes = superseded.Kept+len(superseded.Files), superseded.KeptBytes+superseded.Bytes
	check := store.Check{Hash: true, Quarantine: repair, Checked: func(trust.Release) { out.Checked++ }, Read: read}
	if m == nil {
		problems, err := st.Check(ctx, check)
		out.Problems = describeProblems(problems)
		// A file without a name is in no list, and needs no repair.
		if repair && slices.ContainsFunc(problems, func(p store.Problem) bool { return p.Name != (update.Name{}) }) {
			out.Error = "there is no upstream to fetch it from"
		}
		return out, err
	}
	got, err := m.Repair(ctx, check)
	out.Problems, out.Archives, out.Bytes = describeProblems(got.Problems), got.Archives, got.Bytes
	switch {
	case err == nil:
		out.Repaired = len(got.Problems) > 0
	case ctx.Err() != nil || len(got.Problems) == 0:
		return FsckReport{}, err
	default:
		out.Error = err.Error()
	}
	return out, nil
}

// capReading returns a function that waits after each piece, so that at most so many bytes per second are read; 0: no
// limit.
func capReading(ctx context.Context, perSecond int64) func(update.Digest, int) {
	limit := pace.NewCap(perSecond)
	return func(_ update.Digest, n int) { _ = limit.Wait(ctx, n) } // the check ends with ctx too
}

// typeLines is the media type of an answer that reports the progress of a check: JSON objects, one per line.
const typeLines = "application/x-ndjson"

// fsckLine is one line of such an answer. Only the last one has a report or a refusal.
type fsckLine struct {
	Planned int64       `json:"planned,omitempty"` // bytes to read, on the first line
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
		a.writeAnswer(w, r, nil, errors.New("read_rate: expected a number of bytes per second"))
		return
	}
	st, ctx := a.repository.store, r.Context()
	read := capReading(ctx, rate)
	if !strings.Contains(r.Header.Get("Accept"), typeLines) {
		report, err := checkStore(ctx, st, a.repository.copy, true, read)
		a.writeAnswer(w, r, report, err)
		return
	}
	w.Header().Set("Content-Type", typeLines)
	w.Header().Set("Cache-Control", "no-store")
	lines := lineWriter{to: json.NewEncoder(w), connection: http.NewResponseController(w)}
	_, planned := sizeOf(kept(st))
	lines.write(fsckLine{Planned: planned})
	report, err := checkStore(ctx, st, a.repository.copy, true, pieces(kept(st), lines.reading, read))
	last := fsckLine{Report: &report}
	if err != nil {
		refused := a.refuse(r, err)
		last = fsckLine{Refused: &refused}
	}
	lines.write(last)
	lines.end()
}

// lineEvery is the time between two lines about one archive.
const lineEvery = 200 * time.Millisecond

// lineWriter writes lines until the client is gone.
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
	err := errors.Join(l.connection.SetWriteDeadline(time.Now().Add(stallTimeout)), l.to.Encode(line), l.connection.Flush())
	l.gone = err != nil
}

// end removes the deadline, so that the connection can serve the next request.
func (l *lineWriter) end() {
	_ = l.connection.SetWriteDeadline(time.Time{}) // if that fails, the connection is gone
}

// askFsck asks the process that holds a data directory to check it, and shows the progress.
func askFsck(ctx context.Context, dir string, rate int64, m meter) (report FsckReport, err error) {
	path := "/fsck"
	if rate > 0 {
		path += "?" + url.Values{"read_rate": {strconv.FormatInt(rate, 10)}}.Encode()
	}
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
			m.Plan(0, line.Planned)
		default:
			m.reading(line.Name, line.Length, line.Read)
		}
	}
	return FsckReport{}, errors.Join(fmt.Errorf("admin: %s: the answer ended early: the server or the check was stopped", path), lines.Err())
}
