#!/bin/sh
# Puts boxup in place: the program, the root that it trusts, its configuration, its service and timer.
# Nothing else is changed. It may run again: what is newer here is replaced, but a configuration that is
# there stays as it is unless it is empty, and so does a timer that was switched off or masked. Where a package
# brought boxup, its program, service and timer stay too.
#
# BOXUP_ROOT, where it is set, is the directory of another system to put it in. Then nothing is started.
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
root=${BOXUP_ROOT:-}
etc=$root/etc/boxup
units=$root/etc/systemd/system
packaged=
[ ! -e "$root/usr/bin/boxup" ] || packaged=yes

refuse() {
	echo "install_update.sh: $*; nothing was changed" >&2
	exit 1
}

# A unit that systemctl mask has switched off for good.
masked() { [ "$(readlink "$1" || true)" = /dev/null ]; }

# Others must not read the password of a mirror.
config_mode=644
case $(cat "$here/config.json" 2>/dev/null || true) in
*://*@*) config_mode=600 ;;
esac

# Calls $1 with each file, where it goes and its mode. The timer is last.
each() {
	"$1" "$here/root.json" "$etc/root.json" 644
	[ -s "$etc/config.json" ] || "$1" "$here/config.json" "$etc/config.json" "$config_mode"
	[ -z "$packaged" ] || return 0
	"$1" "$here/boxup" "$root/usr/local/bin/boxup" 755
	masked "$units/boxup.service" || "$1" "$here/boxup.service" "$units/boxup.service" 644
	masked "$units/boxup.timer" || "$1" "$here/boxup.timer" "$units/boxup.timer" 644
}

check() {
	[ -f "$1" ] || refuse "$1 is missing"
	[ ! -d "$2" ] || refuse "$2 is a directory"
}

beside() {
	mkdir -p "${2%/*}"
	(umask 077 && cp "$1" "$2.boxup-new")
	chmod "$3" "$2.boxup-new"
}

place() { mv -f "$2.boxup-new" "$2"; }

drop() { rm -f "$2.boxup-new"; }

each check
"$here/boxup" --version >/dev/null 2>&1 ||
	refuse "boxup does not run on this system: the update is for another architecture"
# Both are text of at most some kilobytes; cmp is not on every box.
if [ -s "$etc/root.json" ] && [ "$(cat "$here/root.json")" != "$(cat "$etc/root.json")" ]; then
	refuse "$etc/root.json is another root than the one of this update"
fi

# All is written before anything is put in place, so that a full disk leaves things as they were.
trap 'each drop' EXIT
trap 'exit 1' HUP INT TERM
each beside
[ -e "$units/boxup.timer" ] || [ -L "$units/boxup.timer" ] || enable=yes
sync
if [ "$packaged" ]; then
	each place
	trap - EXIT
	sync
	echo "boxup came by a package; its root and configuration are in place"
	exit
fi
# Enabled before it is there: where the power fails in between, the next run does not take it for a
# timer that was switched off.
if [ "${enable:-}" ]; then
	mkdir -p "$units/timers.target.wants"
	ln -sf ../boxup.timer "$units/timers.target.wants/boxup.timer"
fi
each place
trap - EXIT
sync

if [ -z "$root" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	if [ "${enable:-}" ]; then
		systemctl start boxup.timer
	fi
fi
echo "boxup is in place"
