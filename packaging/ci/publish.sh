#!/bin/sh
# Publishes an update from any CI:
#
#	publish.sh FILE [OPTION…]               publishes the archive FILE
#	publish.sh --build DIR FILE [OPTION…]   builds FILE from the directory DIR first
#
# OPTIONs are those of `boxsign publish`, such as --rollout 5%,24h:50%,72h:100%. It takes from the environment:
#
#	BOXSIGN_RELEASE_KEY        the release key: release.pem, as its text or as the path of a file
#	BOXSIGN_RELEASE_PASSPHRASE the passphrase of that key
#	BOXSIGN_ROOT               the root to trust: 1.root.json, as its text or as the path of a file; it is no secret
#	BOXSIGN_REPO               the URL of the origin
#
# Give a CI a release key of its own, never the root key: it can be replaced when the CI was broken into. If the root asks for more
# release keys than one, the list waits at the origin for the other signers, and this script names the command that they run.
#
# It is safe to run again, after any interruption: what is published already stays as it is. The key lies in memory or in a directory
# of its own, encrypted as ever, and is removed at the end, whatever the end is. Exit codes are those of boxsign: 0 done, or waiting
# for other signers; 1 failed; 2 usage; and 129, 130 or 143 after a signal.
set +x # a trace would show the passphrase
set -eu
umask 077

say() { echo "publish: $*" >&2; }
usage() {
	say "$@"
	say 'hint: publish.sh [--build DIR] FILE [OPTION…]'
	exit 2
}

source=
if [ "${1-}" = --build ]; then
	[ $# -ge 3 ] || usage 'expected a directory and the name of the archive after --build'
	source=$2
	shift 2
fi
case ${1-} in
'' | -*) usage 'expected the name of an archive' ;;
esac
archive=$1
shift

missing=
need() { # NAME VALUE WHAT
	[ -n "$2" ] || { missing=1 && say "$1 is not set: expected $3"; }
}
need BOXSIGN_RELEASE_KEY "${BOXSIGN_RELEASE_KEY-}" 'the text or the path of release.pem'
need BOXSIGN_RELEASE_PASSPHRASE "${BOXSIGN_RELEASE_PASSPHRASE-}" 'the passphrase of that key'
need BOXSIGN_ROOT "${BOXSIGN_ROOT-}" 'the text or the path of 1.root.json'
need BOXSIGN_REPO "${BOXSIGN_REPO-}" 'the URL of the origin'
[ -z "$missing" ] || exit 2
command -v boxsign >/dev/null || { say 'boxsign is not in PATH' && exit 1; }

# From here on only this shell knows the secrets, and boxsign where it signs: a shell exports a variable again that it got.
unset key passphrase root repo
key=$BOXSIGN_RELEASE_KEY passphrase=$BOXSIGN_RELEASE_PASSPHRASE root=$BOXSIGN_ROOT repo=$BOXSIGN_REPO
unset BOXSIGN_RELEASE_KEY BOXSIGN_RELEASE_PASSPHRASE BOXSIGN_ROOT_PASSPHRASE BOXSIGN_PASSPHRASE BOXSIGN_ROOT BOXSIGN_REPO BOXSIGN_KEYS

work=
clean() { [ -z "$work" ] || rm -rf "$work"; }
trap clean EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(mktemp -d /dev/shm/publish.XXXXXXXX 2>/dev/null) || work=$(mktemp -d)

# Writes a text, or copies the file that it is the path of. A key ends in a newline, which a CI may have cut.
place() { # TEXT BEGIN FILE [END]
	case $1 in
	"$2"*) printf "%s${4-}" "${1%"${4:+$newline}"}" >"$3" ;;
	*) cat -- "$1" >"$3" ;;
	esac 2>/dev/null || {
		say "expected a text that begins with $2, or the path of a file that can be read"
		exit 1
	}
}
newline='
'
mkdir "$work/K"
place "$key" '-----BEGIN' "$work/K/release.pem" '\n'
place "$root" '{' "$work/root.json"

[ -z "$source" ] || [ -e "$archive" ] || boxsign build "$source" -o "$archive"

# A list that waits already is left alone: another one in its place would lose its changes and the signatures that it has.
digest=$(sha256sum <"$archive") && digest=${digest%% *}
boxsign status --json --keys "$work/K" --root "$work/root.json" "$repo" >"$work/status"
pending() { sed -n '/^  "pending": \[/,/^  \]/p' "$work/status"; }
if pending | sed -n '/^      "added": \[/,/^      \]/p' | grep -q "\"digest\": \"$digest\""; then
	echo 'state: waiting for signatures' >"$work/result"
elif pending | awk '/^      "role": / { list = /"targets"/ } list && /^      "state": "waiting for signatures"/ { found = 1 } END { exit !found }'; then
	say "another list waits for signatures, which this one would replace: complete it with boxsign cosign, or give it up with boxsign abort"
	exit 1
else
	BOXSIGN_RELEASE_PASSPHRASE=$passphrase boxsign publish --yes --keys "$work/K" --root "$work/root.json" "$@" "$archive" "$repo" >"$work/result" || {
		code=$?
		cat "$work/result"
		exit $code
	}
fi
cat "$work/result"
if grep -q '^state: waiting for signatures$' "$work/result"; then
	say "the list needs more signatures: another signer runs: boxsign cosign $archive $repo"
	exit 0
fi
boxsign verify-repo --root "$work/root.json" "$repo"
