package install_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/update/install"
)

// stubborn is a script that leaves processes of all kinds, tells which, and doesn't end.
const stubborn = ran + `trap '' TERM
sleep 301 &
echo $! >> $HOME/pids
(trap '' TERM HUP; exec sleep 302) &
echo $! >> $HOME/pids
setsid sh -c 'echo $$ >> $HOME/pids; exec sleep 303' &
while [ $(wc -l < $HOME/pids) -lt 3 ]; do sleep 0.01; done
echo $$ >> $HOME/pids
touch $HOME/ready
while :; do sleep 304; done
`

// wantDead checks that the processes that a script told of are gone.
func (b *box) wantDead(n int) {
	b.t.Helper()
	pids := b.told("pids")
	if len(pids) != n {
		b.t.Fatalf("processes are %q, want %d", pids, n)
	}
	for _, pid := range pids {
		if alive(pid) {
			b.t.Errorf("process %s of %q runs", pid, pids)
		}
	}
}

func TestTimeLimit(t *testing.T) {
	b := newBox(t)
	b.c.Timeout = 2 * time.Second
	s := b.fails(script(t, 7, stubborn), install.ErrScript)
	b.wantDead(4)
	if want := "install_update.sh: time limit exceeded: 2s"; s.Failures[0].Reason != want || s.History[0].Outcome != install.OutcomeFailed {
		t.Errorf("status is %+v, want reason %q", s, want)
	}
}

// A script may end in order when its time is over.
func TestTerminated(t *testing.T) {
	b := newBox(t)
	b.c.Timeout, b.c.Grace = time.Second, 20*time.Second
	b.fails(script(t, 7, "#!/bin/sh\ntrap 'echo bye > $HOME/bye; exit 0' TERM\nsleep 300 & wait\n"), install.ErrScript)
	b.wantTold("bye", "bye")
}

func TestFailureLeavesNothingRunning(t *testing.T) {
	b := newBox(t)
	b.fails(script(t, 7, strings.Replace(stubborn, "touch", "exit 1 #", 1)), install.ErrScript)
	b.wantDead(4)
}

func TestCancelled(t *testing.T) {
	b := newBox(t)
	b.post("start", "echo $BOXUP_RESULT >> $HOME/post")
	p := script(t, 7, stubborn)
	f, err := os.Open(p.path)
	must(t, err)
	defer f.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the operator")
	i := b.open()
	ended := make(chan error)
	go func() {
		_, err := i.Install(ctx, p.v, f, install.Options{})
		ended <- err
	}()
	await(t, "the script", func() bool { _, err := os.Stat(filepath.Join(b.home, "ready")); return err == nil })
	cancel(cause)
	err = <-ended
	if !errors.Is(err, install.ErrScript) || !errors.Is(err, cause) {
		t.Errorf("error is %v", err)
	}
	s := i.Status()
	must(t, i.Close())
	b.tidy(s)
	b.wantDead(4)
	b.wantTold("post", "failed")
	if s.Failures[0].Count != 1 || s.History[0].Outcome != install.OutcomeInterrupted {
		t.Errorf("status is %+v", s)
	}
}

// A hook that something has open for writing for a moment is run after that.
func TestProgramThatIsWritten(t *testing.T) {
	b := newBox(t)
	b.post("20-start", "echo started >> $HOME/post")
	b.post("10-write", "(exec 9>>"+filepath.Join(b.c.PostHooks, "20-start")+"; touch $HOME/open; exec sleep 0.3) >/dev/null 2>&1 &\n"+
		"until [ -e $HOME/open ]; do sleep 0.01; done")
	b.mustInstall(script(t, 7, ran))
	b.wantTold("post", "started")
}

// One that stays open for writing is an error when its time is over.
func TestProgramThatStaysOpen(t *testing.T) {
	b := newBox(t)
	b.c.Timeout = 200 * time.Millisecond
	b.pre("10-stop", "true")
	f, err := os.OpenFile(filepath.Join(b.c.PreHooks, "10-stop"), os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	b.fails(script(t, 7, ran), syscall.ETXTBSY)
}

// What a script leaves in the background goes on, whether or not it holds the output open.
func TestBackground(t *testing.T) {
	for name, text := range map[string]string{
		"holds the output open": "sleep 300 &\n",
		"in a session":          "setsid sleep 300 &\n",
		"closes the output":     "sleep 300 > /dev/null 2>&1 &\nexec >&- 2>&-\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.mustInstall(script(t, 7, ran+text+"echo $! > $HOME/pids\n"))
			pid := b.told("pids")[0]
			if !alive(pid) {
				t.Error("the process is gone")
			}
			n, err := strconv.Atoi(pid)
			must(t, err)
			must(t, syscall.Kill(n, syscall.SIGKILL))
		})
	}
}

// However much a script writes, the log is small, and shows how it began and ended.
func TestHostileOutput(t *testing.T) {
	b := newBox(t)
	size := "1073741824"
	if testing.Short() {
		size = "10737418"
	}
	s := b.mustInstall(script(t, 7, ran+"echo it begins\nyes | head -c "+size+"\necho it ends >&2\n"))
	raw, err := os.ReadFile(s.Log)
	must(t, err)
	if len(raw) > 400<<10 {
		t.Errorf("log has %d bytes", len(raw))
	}
	for _, want := range []string{"== 2026-03-01T12:00:00Z opq-box-update-7.tar.gz install_update.sh\nit begins\ny\n", " bytes omitted]\n", "y\nit ends\n-- succeeded\n"} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("log lacks %q", want)
		}
	}
}

// An installation doesn't depend on its log.
func TestWithoutLog(t *testing.T) {
	b := newBox(t)
	must(t, b.open().Close())
	must(t, os.Mkdir(b.at("log", "install.log"), 0o755))
	b.mustInstall(script(t, 7, ran+"yes | head -c 1000000\n"))
	if info, err := os.Stat(b.at("log", "install.log")); err != nil || !info.IsDir() {
		t.Errorf("log is %v, %v", info, err)
	}
}
