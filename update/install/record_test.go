package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fullRecord is a record that is as long as one can be.
func fullRecord(t testing.TB) record {
	t.Helper()
	longName := func(k int) update.Name {
		n, err := update.ParseName(fmt.Sprintf("%s-9%031d.tar.bz2", strings.Repeat("p", 100), k))
		must(t, err)
		return n
	}
	n, d := longName(0), update.Sum(nil)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	worst := errors.New(strings.Repeat("\"\\", maxReason) + "<\x00&\u2028")
	r := record{
		Format:    recordFormat,
		Installed: &Installed{n, d, update.MaxLength, at},
		Previous:  &Installed{n, d, update.MaxLength, at},
		Attempt:   &Attempt{newID(), n, d, update.MaxLength, at, PhaseBack, 1 << 30, reasonOf(worst), true, true},
		Reboot:    &Reboot{true, true, at, strings.Repeat("b", 36)},
		Damaged:   reasonOf(worst),
	}
	for k := range 2 * maxHistory {
		r.addFailure(Failure{Name: longName(k), Digest: d, Last: at, Reason: reasonOf(worst)}, 3)
		r.addEvent(Event{at, longName(k), d, OutcomeInterrupted, reasonOf(worst)})
	}
	return r
}

func TestRecord(t *testing.T) {
	want := fullRecord(t)
	if len(want.Failures) != maxFailures || len(want.History) != maxHistory {
		t.Errorf("%d failures, %d events", len(want.Failures), len(want.History))
	}
	raw, err := want.bytes()
	must(t, err)
	got, err := parseRecord(raw)
	must(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("record is %+v, want %+v", got, want)
	}
	t.Logf("the longest record has %d bytes of %d", len(raw), maxRecord)
}

const goodRecord = `{"format":1,
"installed":{"name":"p-7.tar.gz","digest":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","length":3,"time":"2026-03-01T12:00:00Z"},
"attempt":{"id":"00112233445566778899aabbccddeeff","name":"p-8.tar.gz","digest":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","length":4,"started":"2026-03-01T12:00:00Z","phase":"back"},
"failures":[{"name":"p-9.tar.gz","digest":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","count":1,"last":"2026-03-01T12:00:00Z","reason":"r","set_aside":false}],
"history":[{"time":"2026-03-01T12:00:00Z","name":"p-6.tar.gz","digest":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","outcome":"installed"}]}`

// Each is the good record with one change.
func TestRecordRefused(t *testing.T) {
	if _, err := parseRecord([]byte(goodRecord)); err != nil {
		t.Fatal(err)
	}
	zero, sum := strings.Repeat("0", 64), update.Sum(nil).String()
	entry := func(list string) string {
		_, rest, _ := strings.Cut(goodRecord, `"`+list+`":[`)
		rest, _, _ = strings.Cut(rest, "]")
		return rest
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"format":             {`"format":1`, `"format":2`, "expected format 1, got 2"},
		"no format":          {`"format":1,`, ``, "expected format 1, got 0"},
		"cut":                {`"outcome":"installed"}]}`, `"outcome":"installed"}]`, "got the end"},
		"more":               {`"outcome":"installed"}]}`, `"outcome":"installed"}]}{}`, "expected nothing more"},
		"null name":          {`"name":"p-7.tar.gz",`, ``, "an installed update lacks"},
		"bad name":           {`p-7.tar.gz`, `../p-7.tar.gz`, "name"},
		"installed digest":   {`"p-7.tar.gz","digest":"` + sum, `"p-7.tar.gz","digest":"` + zero, "an installed update lacks"},
		"installed length":   {`"length":3`, `"length":-3`, "an installed update lacks"},
		"attempt ID":         {`00112233445566778899aabbccddeeff`, `00112233445566778899AABBCCDDEEFF`, "expected an ID of 32 hex digits"},
		"short attempt ID":   {`00112233445566778899aabbccddeeff`, `00`, "expected an ID of 32 hex digits"},
		"attempt name":       {`"name":"p-8.tar.gz",`, ``, "the attempt lacks"},
		"attempt tries":      {`"phase":"back"`, `"phase":"back","tries":-1`, "the attempt lacks"},
		"phase":              {`"phase":"back"`, `"phase":"forth"`, `phase "forth"`},
		"nothing to go back": {`"installed":{`, `"previous":{`, "nothing to go back to"},
		"failure name":       {`"name":"p-9.tar.gz",`, ``, "a failure lacks"},
		"failure count":      {`"count":1`, `"count":0`, "a failure lacks"},
		"event name":         {`"name":"p-6.tar.gz",`, ``, "an event lacks"},
		"too many failures":  {entry("failures"), strings.Repeat(entry("failures")+",", maxFailures) + entry("failures"), "too many"},
		"too many events":    {entry("history"), strings.Repeat(entry("history")+",", maxHistory) + entry("history"), "too many"},
		"too long":           {`"format":1`, `"format":1` + strings.Repeat(" ", maxRecord), "expected at most 65536 bytes"},
		"time":               {`"started":"2026-03-01T12:00:00Z"`, `"started":"soon"`, "soon"},
	} {
		if strings.Count(goodRecord, c.old) != 1 {
			t.Fatalf("%s: %q is not there once", name, c.old)
		}
		r, err := parseRecord([]byte(strings.Replace(goodRecord, c.old, c.new, 1)))
		if !errors.Is(err, errRecord) || !strings.Contains(err.Error(), c.want) || !reflect.DeepEqual(r, record{}) {
			t.Errorf("%s: %+v, error %v, want %q", name, r, err, c.want)
		}
	}
}

// A box that went back to an older boxup still knows what is installed.
func TestRecordOfALaterBoxup(t *testing.T) {
	want, err := parseRecord([]byte(goodRecord))
	must(t, err)
	later := strings.NewReplacer(`"format":1`, `"format":1,"more":{"a":[1]}`, `"length":3`, `"length":3,"more":true`).Replace(goodRecord)
	got, err := parseRecord([]byte(later))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(goodRecord))
	f.Add([]byte(`{"format":1}`))
	raw, err := fullRecord(f).bytes()
	must(f, err)
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseRecord(raw)
		if err != nil {
			if !errors.Is(err, errRecord) {
				t.Fatalf("error is %v", err)
			}
			return
		}
		r.status("dir", "boot")
		if r.Attempt != nil {
			r.direction()
		}
		printed, err := r.bytes()
		must(t, err)
		if len(printed) > maxRecord {
			return // by the white space that was not there
		}
		again, err := parseRecord(printed)
		must(t, err)
		twice, err := again.bytes()
		must(t, err)
		if string(twice) != string(printed) {
			t.Fatalf("%s became %s", printed, twice)
		}
	})
}

func TestWords(t *testing.T) {
	for in, want := range map[string]string{
		"one\ntwo":                     "one;two",
		"\x1b[0m \xff é":               "?[0m ? é",
		strings.Repeat("é", 400):       strings.Repeat("é", 250),
		"a" + strings.Repeat("é", 400): "a" + strings.Repeat("é", 249),
	} {
		if got := reasonOf(errors.New(in)); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// However many programs write however much, all logs together are bounded, and the latest is there.
func TestLogIsRotated(t *testing.T) {
	dir := t.TempDir()
	junk := make([]byte, 100_000)
	for n := range 100 {
		l, err := openLog(dir, fmt.Sprintf("== run %d", n))
		must(t, err)
		for range 7 {
			if k, err := l.Write(junk); k != len(junk) || err != nil {
				t.Fatal(k, err)
			}
		}
		l.end(fmt.Sprintf("-- end %d", n))
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	all := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		must(t, err)
		all += info.Size()
	}
	if len(entries) != 1+oldLogs || all > (1+oldLogs)*(maxLog+maxHead+maxTail+1000) {
		t.Errorf("%d logs of %d bytes", len(entries), all)
	}
	raw, err := os.ReadFile(filepath.Join(dir, logName))
	must(t, err)
	if !strings.Contains(string(raw), "== run 99\n") || !strings.HasSuffix(string(raw), "-- end 99\n") {
		t.Error("the latest run isn't logged")
	}
}

// Whatever the pieces in which output comes, its beginning and its end are kept, and what is left out is
// counted.
func TestLogKeepsBeginningAndEnd(t *testing.T) {
	for _, total := range []int{0, 1, maxHead - 1, maxHead, maxHead + 1, maxHead + maxTail, maxHead + maxTail + 1, 3 * maxHead} {
		for _, piece := range []int{1000, 4096, 33_333, maxTail, 2*maxTail + 1, 10 * maxHead} {
			out := make([]byte, total)
			for i := range out {
				out[i] = "0123456789abcdefghijklmnopqrstuvwxyz\n"[i%37]
			}
			dir := t.TempDir()
			l, err := openLog(dir, "==")
			must(t, err)
			for at := 0; at < total; at += piece {
				l.Write(out[at:min(at+piece, total)])
			}
			l.end("--")
			want := "==\n" + string(out)
			if left := total - maxHead - maxTail; left > 0 {
				want = "==\n" + string(out[:maxHead]) + fmt.Sprintf("\n[%d bytes omitted]\n", left) + string(out[total-maxTail:])
			}
			if !strings.HasSuffix(want, "\n") {
				want += "\n"
			}
			got, err := os.ReadFile(filepath.Join(dir, logName))
			must(t, err)
			if string(got) != want+"--\n" {
				t.Errorf("%d bytes in pieces of %d: the log has %d bytes, want %d", total, piece, len(got), len(want)+3)
			}
		}
	}
}

// Every bit of the record and of its copy turns: the box knows what is installed, says what was damaged, and has both
// whole after one run.
func TestRecordBits(t *testing.T) {
	dir := t.TempDir()
	c := Config{Dir: dir, Now: time.Now, BootID: "boot"}
	want, err := parseRecord([]byte(strings.Replace(goodRecord, `"phase":"back"`, `"phase":"check"`, 1)))
	must(t, err)
	i, err := Open(c)
	must(t, err)
	i.rec = want
	must(t, i.save())
	must(t, i.Close())
	bits := 0
	for _, name := range []string{recordName, recordName + ".copy"} {
		path := filepath.Join(dir, subDir, name)
		good, err := os.ReadFile(path)
		must(t, err)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		must(t, err)
		for bit := range 8 * len(good) {
			bits++
			turn := func(mask byte) {
				_, err := f.WriteAt([]byte{good[bit/8] ^ mask}, int64(bit/8))
				must(t, err)
			}
			turn(1 << (bit % 8))
			got, _, err := readRecord(filepath.Join(dir, subDir))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%s, bit %d: record is %+v, error %v", name, bit, got, err)
			}
			turn(0)
			if bit%997 == 0 { // the rest is the same, and waits for the disk
				turn(1 << (bit % 8))
				i, err := Open(c)
				must(t, err)
				must(t, i.Close())
				must(t, f.Close())
				f, err = os.OpenFile(path, os.O_WRONLY, 0)
				must(t, err)
				if _, damage, err := readRecord(filepath.Join(dir, subDir)); damage != nil || err != nil {
					t.Fatalf("%s, bit %d: damage is still %v, %v", name, bit, damage, err)
				}
			}
		}
		must(t, f.Close())
	}
	t.Logf("%d bits", bits)
}

// However many versions are bad, each is tried only so often, and what is newer than all is not held back.
func TestNoCircles(t *testing.T) {
	name := func(version int) update.Name {
		n, err := update.ParseName(fmt.Sprintf("p-%d.tar.gz", version))
		must(t, err)
		return n
	}
	r := record{Format: recordFormat}
	r.setInstalled(Installed{Name: name(100), Digest: update.Sum(nil)})
	tries := 0
	for ; tries < 1000; tries++ {
		best := 0
		for version := 101; version <= 140; version++ {
			if _, aside := r.status("", "").SetAside(name(version), update.Sum(nil)); !aside {
				best = version
			}
		}
		if best == 0 {
			break
		}
		r.addFailure(Failure{Name: name(best), Digest: update.Sum(nil)}, 3)
		if raw, err := r.bytes(); err != nil || len(r.Failures) > maxFailures {
			t.Fatalf("%d failures, %v", len(r.Failures), err)
		} else if _, err := parseRecord(raw); err != nil {
			t.Fatal(err)
		}
	}
	if tries < 3*maxFailures || tries > 3*40 {
		t.Errorf("%d tries of 40 versions", tries)
	}
	if _, aside := r.status("", "").SetAside(name(141), update.Sum(nil)); aside {
		t.Error("a newer one is set aside, too")
	}
	if r.setInstalled(Installed{Name: name(141), Digest: update.Sum(nil)}); !r.AsideTo.IsZero() || len(r.Failures) != 0 {
		t.Errorf("record is %+v", r)
	}
}
