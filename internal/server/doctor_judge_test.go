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

// is fails the test unless a finding has this level, text and advice.
func (f Finding) is(t *testing.T, l Level, text, advice string) {
	t.Helper()
	if f.Level != l || !strings.Contains(f.Text, text) || !strings.Contains(f.Advice, advice) || (l == LevelOK) != (f.Advice == "") {
		t.Errorf("got %+v, want %s with %q and %q", f, l, text, advice)
	}
}

func TestDiskIsJudged(t *testing.T) {
	space := disk.Space{Size: 100 << 30, Free: 10 << 30, Files: 1 << 20, FreeFiles: 1 << 19}
	judgeRoom("d", space).is(t, LevelOK, "10240 of 102400 MB are free", "")
	judgeFiles("d", space).is(t, LevelOK, "524288 of 1048576 inodes are free", "")
	space.Free = 4 << 30
	space.FreeFiles = 30_000
	judgeRoom("d", space).is(t, LevelWarning, "4096 of", "keep_newest")
	judgeFiles("d", space).is(t, LevelWarning, "30000 of", "inodes")
	space.Free = 255 << 20
	space.FreeFiles = 999
	judgeRoom("d", space).is(t, LevelWrong, "255 of", "make room")
	judgeFiles("d", space).is(t, LevelWrong, "999 of", "inodes")
	space.Files, space.FreeFiles = 0, 0
	judgeFiles("d", space).is(t, LevelOK, "not counted", "")
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
	for skew, want := range map[time.Duration]Level{
		0: LevelOK, -4 * time.Second: LevelOK, 7 * time.Second: LevelOK,
		-5 * time.Second: LevelWarning, 19 * time.Second: LevelWarning, -19 * time.Second: LevelWarning,
		24 * time.Second: LevelWrong, -20 * time.Second: LevelWrong, 24 * time.Hour: LevelWrong,
	} {
		f := judgeSkew("http://u", before, after, before.Truncate(time.Second).Add(skew))
		advice := "timedatectl"
		if want == LevelOK {
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
	st, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Root: repo.Raw(trust.RoleRoot)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := st.Commit(t.Context(), repo); err != nil {
		t.Fatal(err)
	}
	return &checked{store: st}, at
}

func TestExpiryIsJudged(t *testing.T) {
	p, begun := newChecked(t)
	const day = 24 * time.Hour
	for _, c := range []struct {
		after  time.Duration
		role   trust.Role
		level  Level
		text   string
		advice string
	}{
		{time.Hour, trust.RoleRoot, LevelOK, "version 1", ""},
		{time.Hour, trust.RoleTimestamp, LevelOK, "version 1", ""},
		{7 * day / 2, trust.RoleTimestamp, LevelOK, "version 1", ""},
		{4 * day, trust.RoleTimestamp, LevelWrong, "not renewed", "online_key"},
		{8 * day, trust.RoleTimestamp, LevelWrong, "expired", "online_key"},
		{8 * day, trust.RoleSnapshot, LevelOK, "version 1", ""},
		{16 * day, trust.RoleSnapshot, LevelWrong, "not renewed", "online_key"},
		{340 * day, trust.RoleTargets, LevelWarning, "version 1", "boxsign renew --list"},
		{340 * day, trust.RoleRoot, LevelWarning, "version 1", "boxsign root renew"},
		{400 * day, trust.RoleRoot, LevelWrong, "expired", "boxsign root renew"},
	} {
		p.now = func() time.Time { return begun.Add(c.after) }
		p.judgeExpiry(p.store.Repository(), c.role).is(t, c.level, c.text, c.advice)
	}
	p.settings.Upstream = []string{"http://u"}
	p.now = func() time.Time { return begun.Add(8 * day) }
	p.judgeExpiry(p.store.Repository(), trust.RoleTimestamp).is(t, LevelWrong, "expired", "the upstream must renew it")
}

func TestClockIsJudged(t *testing.T) {
	p, begun := newChecked(t)
	const day = 24 * time.Hour
	mirrors, checked := settings.Server{}, settings.Server{ClockChecked: begun.Add(20 * day)}
	mirrors.Upstream = []string{"http://u"}
	for _, c := range []struct {
		after    time.Duration
		settings settings.Server
		level    Level
		text     string
		advice   string
	}{
		{0, settings.Server{}, LevelOK, "neither behind", ""},
		{-2 * time.Minute, settings.Server{}, LevelOK, "neither behind", ""}, // the origin signs
		{-time.Hour, settings.Server{}, LevelWrong, "timestamp 1 was issued at", "boxsign rotate online"},
		{-time.Hour, mirrors, LevelWrong, "timestamp 1 was issued at", "timedatectl"},
		{29 * day, settings.Server{}, LevelOK, "neither behind", ""},
		{31 * day, settings.Server{}, LevelWrong, "31 days after", "clock_checked"}, // the origin refuses to sign
		{31 * day, checked, LevelOK, "neither behind", ""},
		{31 * day, mirrors, LevelOK, "not behind", ""},
	} {
		p.settings, p.now = c.settings, func() time.Time { return begun.Add(c.after) }
		p.clock(t.Context())[0].is(t, c.level, c.text, c.advice)
	}
}
