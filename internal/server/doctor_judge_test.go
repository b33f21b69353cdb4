package server

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
)

// is fails the test unless a finding has this mark, text and advice.
func (f Finding) is(t *testing.T, mark, text, advice string) {
	t.Helper()
	if f.Mark() != mark || !strings.Contains(f.Text, text) || !strings.Contains(f.Advice, advice) || (mark == isOK) != (f.Advice == "") {
		t.Errorf("got %+v, want %s with %q and %q", f, mark, text, advice)
	}
}

const (
	isOK      = "[+]"
	isWarning = "[!]"
	isWrong   = "[-]"
)

func TestDiskIsJudged(t *testing.T) {
	space := disk.Space{Size: 100 << 30, Free: 10 << 30, Files: 1 << 20, FreeFiles: 1 << 19}
	judgeRoom("d", space).is(t, isOK, "10240 of 102400 MB are free", "")
	judgeFiles("d", space).is(t, isOK, "524288 of 1048576 inodes are free", "")
	space.Free = 4 << 30
	space.FreeFiles = 30_000
	judgeRoom("d", space).is(t, isWarning, "4096 of", "keep_newest")
	judgeFiles("d", space).is(t, isWarning, "30000 of", "inodes")
	space.Free = 255 << 20
	space.FreeFiles = 999
	judgeRoom("d", space).is(t, isWrong, "255 of", "make room")
	judgeFiles("d", space).is(t, isWrong, "999 of", "inodes")
	space.Files, space.FreeFiles = 0, 0
	judgeFiles("d", space).is(t, isOK, "not counted", "")
	if err := tryDisk(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := tryDisk(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestSkewIsJudged(t *testing.T) {
	before := time.Date(2026, 1, 31, 12, 0, 0, 900e6, time.UTC)
	after := before.Add(3 * time.Second) // a slow answer is no skew
	for skew, want := range map[time.Duration]string{
		0: isOK, -4 * time.Second: isOK, 7 * time.Second: isOK,
		-5 * time.Second: isWarning, 19 * time.Second: isWarning, -19 * time.Second: isWarning,
		24 * time.Second: isWrong, -20 * time.Second: isWrong, 24 * time.Hour: isWrong,
	} {
		f := judgeSkew("http://u", before, after, before.Truncate(time.Second).Add(skew))
		advice := "timedatectl"
		if want == isOK {
			advice = ""
		}
		f.is(t, want, "http://u", advice)
	}
}

// newChecked returns a checked with a new repository, of an origin, and when that was made.
func newChecked(t *testing.T) (*checked, time.Time) {
	t.Helper()
	key, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Truncate(time.Second)
	holder := trust.Holder{Keys: append(trust.Holder{}.Keys, key.Public())}
	online, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	repo, err := trust.Init(t.Context(), at, trust.Setup{Root: holder, Release: holder, Online: online.Public()}, key, online)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Config{Dir: dir, Root: repo.Raw(trust.RoleRoot)})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(st.Commit(t.Context(), repo), st.Close()); err != nil {
		t.Fatal(err)
	}
	c := &checked{Program: &Program{}}
	c.settings.DataDir = dir
	return c, at
}

// What doctor finds in a repository are the warnings that every report gives, and how long each file is accepted.
func TestExpiryIsFound(t *testing.T) {
	p, begun := newChecked(t)
	const day = 24 * time.Hour
	for _, c := range []struct {
		after  time.Duration
		check  string
		mark   string
		text   string
		advice string
	}{
		{time.Hour, "expiry of root", isOK, "version 1", ""},
		{time.Hour, "expiry of timestamp", isOK, "version 1", ""},
		{7 * day / 2, "expiry of timestamp", isOK, "version 1", ""},
		{4 * day, "expiry of timestamp", isWrong, "not renewed", "online_key"},
		{8 * day, "expiry of timestamp", isWrong, "on boxes refuse", "online_key"},
		{8 * day, "expiry of snapshot", isOK, "version 1", ""},
		{16 * day, "expiry of timestamp", isWrong, "not renewed", "online_key"},
		{340 * day, "expiry of targets", isWarning, "targets 1 expires", "boxsign renew --list"},
		{340 * day, "expiry of root", isWarning, "root 1 expires", "boxsign root renew"},
		{400 * day, "expiry of root", isWrong, "expired", "boxsign root renew"},
	} {
		p.found(t, begun.Add(c.after), c.check).is(t, c.mark, c.text, c.advice)
	}
	p.settings.Upstream = []string{"http://u"}
	p.found(t, begun.Add(8*day), "expiry of timestamp").is(t, isWrong, "expired", "check the origin")
	p.found(t, begun.Add(8*day), "sync").is(t, isWarning, "no upstream was asked", "see to the upstream")
}

// found returns what is found in the repository at a time by one check.
func (c *checked) found(t *testing.T, at time.Time, check string) Finding {
	t.Helper()
	c.Now = func() time.Time { return at }
	all := c.repository(t.Context())
	for _, f := range all {
		if f.Subject == check {
			return f
		}
	}
	t.Errorf("nothing is found of %s after %v: %+v", check, at, all)
	return Finding{}
}

func TestClockIsJudged(t *testing.T) {
	p, begun := newChecked(t)
	const day = 24 * time.Hour
	mirrors, checked := settings.Server{}, settings.Server{ClockChecked: begun.Add(20 * day)}
	mirrors.Upstream = []string{"http://u"}
	for _, c := range []struct {
		after    time.Duration
		settings settings.Server
		mark     string
		text     string
		advice   string
	}{
		{0, settings.Server{}, isOK, "neither behind", ""},
		{-2 * time.Minute, settings.Server{}, isOK, "neither behind", ""}, // the origin signs
		{-time.Hour, settings.Server{}, isWrong, "timestamp 1 was issued at", "boxsign rotate online"},
		{-time.Hour, mirrors, isWrong, "timestamp 1 was issued at", "timedatectl"},
		{29 * day, settings.Server{}, isOK, "neither behind", ""},
		{31 * day, settings.Server{}, isWrong, "31 days after", "clock_checked"}, // the origin refuses to sign
		{31 * day, checked, isOK, "neither behind", ""},
		{31 * day, mirrors, isOK, "not behind", ""},
	} {
		c.settings.DataDir = p.settings.DataDir
		p.settings, p.Now = c.settings, func() time.Time { return begun.Add(c.after) }
		p.repository(t.Context())
		p.clock(t.Context())[0].is(t, c.mark, c.text, c.advice)
	}
}
