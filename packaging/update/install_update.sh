#!/bin/sh
# Puts the boxup of this update in place of the one that runs this script, or, where another updater
# runs it, of the one in /usr/local/bin, where "boxsign bootstrap" puts it. BOXUP_PROGRAM says another.
# Nothing else is changed; it may run again.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

refuse() {
	echo "install_update.sh: $*; nothing was changed" >&2
	exit 1
}

case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
armv7* | armv8*) arch=armhf ;;
armv6*) arch=armv6 ;;
*) refuse "there is no boxup for $(uname -m)" ;;
esac
new=$here/boxup-linux-$arch
[ -f "$new" ] || refuse "boxup for $arch is not in this update"

running() {
	path=$(readlink "/proc/$PPID/exe" 2>/dev/null) || return 0
	path=${path% (deleted)} # where this script ran before
	[ "${path##*/}" != boxup ] || echo "$path"
}
to=${BOXUP_PROGRAM:-$(running)}
to=${to:-/usr/local/bin/boxup}
[ -f "$to" ] || refuse "there is no $to that could be replaced; boxsign bootstrap makes an update that installs it"
if command -v dpkg-query >/dev/null && dpkg-query -S "$to" >/dev/null 2>&1; then
	refuse "$to belongs to a package: upgrade that"
fi
"$new" --version >/dev/null || refuse "the boxup of this update does not run here"

trap 'rm -f "$to.new"' EXIT
trap 'exit 1' HUP INT TERM
cp "$new" "$to.new"
chmod 755 "$to.new"
sync
mv -f "$to.new" "$to"
sync
"$to" --version
