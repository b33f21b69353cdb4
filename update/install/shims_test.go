package install_test

import (
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/update/install"
)

// What asks for a reboot is noted, and nothing else; the real program gets the rest as it came.
func TestShims(t *testing.T) {
	for line, want := range map[string]struct {
		asked bool
		real  string // what the real program was called with
	}{
		"reboot":                         {true, ""},
		"reboot -f":                      {true, ""},
		"poweroff":                       {true, ""},
		"halt -p":                        {true, ""},
		"shutdown -r now 'see you soon'": {true, ""},
		"shutdown -k now":                {false, ""},
		"shutdown -c":                    {false, ""},
		"reboot; shutdown -c":            {false, ""},
		"shutdown -c; reboot":            {true, ""},
		"init 6":                         {true, ""},
		"telinit 0":                      {true, ""},
		"init q":                         {false, "init_q"},
		"telinit -t 3 3":                 {false, "telinit_-t_3_3"},
		"systemctl reboot":               {true, ""},
		"systemctl --no-wall -f reboot":  {true, ""},
		"systemctl poweroff":             {true, ""},
		"systemctl soft-reboot":          {true, ""},
		"systemctl start reboot.target":  {true, ""},
		"systemctl isolate --no-block poweroff.target": {true, ""},
		"systemctl":                            {false, "systemctl"},
		"systemctl daemon-reload":              {false, "systemctl_daemon-reload"},
		"systemctl restart 'a b' c":            {false, "systemctl_restart_a_b_c"},
		"systemctl start mauka.service":        {false, "systemctl_start_mauka.service"},
		"systemctl restart reboot":             {false, "systemctl_restart_reboot"},
		"systemctl is-active reboot.target":    {false, "systemctl_is-active_reboot.target"},
		"systemctl --quiet enable boxup.timer": {false, "systemctl_--quiet_enable_boxup.timer"},
		"sh -c 'exec reboot' & wait":           {true, ""},
		"env -i PATH=\"$PATH\" sh -c reboot":   {true, ""},
		"(systemctl reboot) > /dev/null 2>&1":  {true, ""},
		"echo reboot":                          {false, ""},
	} {
		t.Run(line, func(t *testing.T) {
			b := newBox(t)
			s := b.mustInstall(script(t, 7, "#!/bin/sh\nset -eu\n"+line+"\n"))
			if asked := s.Reboot != nil && s.Reboot.Asked; asked != want.asked {
				t.Errorf("reboot is %+v, want asked %t", s.Reboot, want.asked)
			}
			if got := strings.Join(b.told("real"), "\n"); got != want.real {
				t.Errorf("the real program ran as %q, want %q", got, want.real)
			}
		})
	}
}

// A path with anything in it is one word of a shim.
func TestShimsQuote(t *testing.T) {
	b := newBox(t)
	b.c.Dir += "/it's $(a) state;"
	if s := b.mustInstall(script(t, 7, "#!/bin/sh\nset -e\nreboot\n")); s.Reboot == nil {
		t.Error("the reboot isn't noted")
	}
}

func TestRebootPolicy(t *testing.T) {
	asks, quiet := "#!/bin/sh\nreboot\n", "#!/bin/sh\n"
	seed := func(text string) parcel { return packHeaders(t, 7, seedHeaders(7, text)) }
	built := func(text string) parcel { return script(t, 7, text) }
	for _, c := range []struct {
		policy install.RebootPolicy
		pack   func(text string) parcel
		text   string
		want   *install.Reboot
	}{
		{install.RebootDefault, built, asks, due(true)},
		{install.RebootDefault, built, quiet, nil},
		{install.RebootDefault, seed, asks, due(true)},
		{install.RebootDefault, seed, quiet, due(false)},
		{install.RebootAlways, built, quiet, due(false)},
		{install.RebootAsked, seed, quiet, nil},
		{install.RebootAsked, seed, asks, due(true)},
		{install.RebootNever, seed, quiet, nil},
		{install.RebootNever, built, asks, &install.Reboot{Asked: true, Since: epoch, Boot: "first boot"}},
	} {
		b := newBox(t)
		b.c.Reboot = c.policy
		b.c.RebootCommand = []string{"shutdown", "-r", "in a minute"}
		s := b.mustInstall(c.pack(c.text))
		if (s.Reboot == nil) != (c.want == nil) || s.Reboot != nil && *s.Reboot != *c.want {
			t.Errorf("%q, %q: reboot is %+v, want %+v", c.policy, c.text, s.Reboot, c.want)
		}
		b.reboots(c.want != nil && c.want.Due)
	}
}

func due(asked bool) *install.Reboot {
	return &install.Reboot{Due: true, Asked: asked, Since: epoch, Boot: "first boot"}
}

// reboots checks that there is a reboot exactly where one is due, by another process too, and none after
// the machine has booted.
func (b *box) reboots(due bool) {
	b.t.Helper()
	var want []string
	for range 2 {
		b.with(func(i *install.Installer) {
			did, err := i.Reboot(b.t.Context())
			must(b.t, err)
			if did != due {
				b.t.Errorf("reboot is %t, want %t", did, due)
			}
		})
		if due {
			want = append(want, "shutdown_-r_in_a_minute")
		}
		b.wantTold("real", want...)
	}
	b.c.BootID = "second boot"
	s := b.with(func(i *install.Installer) {
		if did, err := i.Reboot(b.t.Context()); did || err != nil {
			b.t.Errorf("after the boot: %t, %v", did, err)
		}
	})
	if s.Reboot != nil {
		b.t.Errorf("after the boot reboot is %+v", s.Reboot)
	}
	b.wantTold("real", want...)
}

func TestRebootFails(t *testing.T) {
	b := newBox(t)
	b.c.Reboot, b.c.RebootCommand = install.RebootAlways, []string{"sh", "-c", "pwd; exit 4"}
	b.mustInstall(script(t, 7, ran))
	s := b.with(func(i *install.Installer) {
		if did, err := i.Reboot(t.Context()); did || err == nil || !strings.HasSuffix(err.Error(), "exit status 4: /\n") {
			t.Errorf("reboot is %t, %v", did, err)
		}
	})
	if s.Reboot == nil || !s.Reboot.Due {
		t.Errorf("reboot is %+v, want it due", s.Reboot)
	}
}

// A reboot that is due stays due when another update is installed before it.
func TestRebootStaysDue(t *testing.T) {
	b := newBox(t)
	b.c.Reboot = install.RebootAsked
	b.mustInstall(script(t, 7, ran+"reboot\n"))
	if s := b.mustInstall(script(t, 8, ran)); s.Reboot == nil || !s.Reboot.Due {
		t.Errorf("reboot is %+v, want it due", s.Reboot)
	}
}

// The archives of boxsign build are told from others by how they begin.
func TestBuiltOrNot(t *testing.T) {
	built := []header{
		{"opq-box-update-7/", 0o755, 7, ""},
		{"opq-box-update-7/VERSION", 0o644, 7, "7\n"},
		{"opq-box-update-7/install_update.sh", 0o755, 7, "#!/bin/sh\n"},
	}
	for name, c := range map[string]struct {
		change func(h []header)
		built  bool
	}{
		"as built":           {func([]header) {}, true},
		"VERSION not second": {func(h []header) { h[1], h[2] = h[2], h[1] }, false},
		"lower case":         {func(h []header) { h[1].name = "opq-box-update-7/version" }, false},
		"time of VERSION":    {func(h []header) { h[1].time++ }, false},
		"time of the third":  {func(h []header) { h[2].time++ }, false},
		"mode of the top":    {func(h []header) { h[0].mode = 0o775 }, false},
		"mode of VERSION":    {func(h []header) { h[1].mode = 0o664 }, false},
	} {
		b := newBox(t)
		b.c.Reboot = install.RebootDefault
		h := append([]header{}, built...)
		c.change(h)
		if s := b.mustInstall(packHeaders(t, 7, h)); (s.Reboot == nil) != c.built {
			t.Errorf("%s: reboot is %+v", name, s.Reboot)
		}
	}
}
