#!/bin/sh
# Usage: before.sh FILE
#
# Makes before.tar.gz: one of each kind of data that programs of this project keep, made by the programs that come first in PATH.
# The one in the repository was made by an earlier version; every later version must read it. All paths in it
# begin with /srv/fleet, which must not exist.
set -eu
umask 022
file=$(realpath "$1")
mkdir /srv/fleet
cd /srv/fleet
export BOXSIGN_PASSPHRASE=correct-horse BOXSIGN_BACKUP_PASSPHRASE=battery-staple BOXSIGN_KEYS=keys
pids=
trap 'kill $pids 2>/dev/null || true' EXIT
serve() { # PORT ARGUMENT…: starts a server, and waits until it answers
	port=$1; shift
	box-update-server "$@" --listen "127.0.0.1:$port" 2>"log.$port" & pids="$pids $!"
	until grep -q listening "log.$port"; do kill -0 $!; sleep 0.1; done
}

mkdir one && printf '#!/bin/sh\nexit 0\n' >one/install_update.sh && chmod 755 one/install_update.sh
for n in 1 2 3 4; do boxsign build one -o meter-$n.tar.gz; done

# A repository with several roots, two updates, and one that was withdrawn.
boxsign init --repo repository --yes
cp repository/metadata/1.root.json .
boxsign add --repo repository --yes meter-1.tar.gz
boxsign add --repo repository --yes --rollout 5%,24h:100% --hardware rev2,rev3 meter-2.tar.gz
boxsign add --repo repository --yes meter-3.tar.gz
boxsign withdraw --repo repository --yes meter-1.tar.gz
boxsign rotate online --repo repository --yes

# From here on two people must sign a list. In the directory one waits for the second signature.
BOXSIGN_KEYS=second boxsign keygen release
boxsign root add-key --repo repository --yes release second/release.pub
boxsign root threshold --repo repository --yes release 2
BOXSIGN_KEYS=second boxsign cosign --repo repository --root 1.root.json --online-key keys/online.pem --yes
boxsign root threshold --repo repository --yes release 2
cp -r repository origin
boxsign add --repo repository --yes meter-4.tar.gz

# At the origin one waits that came over HTTP.
serve 18151 serve --data-dir origin --online-key keys/online.pem
boxsign publish --yes meter-4.tar.gz http://127.0.0.1:18151

# A mirror of it, and what a box keeps of it.
serve 18152 mirror http://127.0.0.1:18151 --root 1.root.json --data-dir mirror
until curl -fs -o list http://127.0.0.1:18152/updates.json; do sleep 0.1; done
mkdir box
boxup init --config box/config.json --state box/state --root 1.root.json --product meter --hardware rev2 \
	--root-fingerprint "$(sha256sum 1.root.json | cut -d' ' -f1)" http://127.0.0.1:18152
boxup update --config box/config.json --state box/state || test $? = 10 || test $? = 11
box-update-server export --data-dir origin export.tar


# A directory of signed archives, and a box that knows the release key alone.
mkdir updates cache
cp meter-2.tar.gz meter-3.tar.gz updates
boxsign sign updates/meter-2.tar.gz && boxsign sign updates/meter-3.tar.gz
serve 18153 serve --product meter --updates-dir updates --data-dir cache --release-key keys/release.pub
until curl -fs -o list http://127.0.0.1:18153/latest; do sleep 0.1; done
printf "{\"product\": \"meter\"}\n" >plainbox.json
boxup update --config plainbox.json --state plainbox --key keys/release.pub http://127.0.0.1:18153

kill $pids
wait $pids || true
pids=
rm -f list log.*
boxsign backup -o keys.backup
boxsign backup --print -o keys.paper
cd ..
tar -C /srv -czf "$file" --owner=0 --group=0 --numeric-owner fleet
rm -r /srv/fleet
