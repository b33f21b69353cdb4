# A release signer packs an update, makes keys and a repository, and publishes.
mkdir meter
printf '#!/bin/sh\nmkdir -p ~/meter\ncp meter.conf ~/meter/\n' > meter/install_update.sh
echo 'sample_rate = 12000' > meter/meter.conf
boxsign build meter -o opq-box-update-1550190683.tar.bz2
# Once: the keys and an empty repository. Then the origin, which serves it.
boxsign init --keys K --repo R
# shows "[y/N]", "assphrase", "again", "fingerprint", "next:"
# at "[y/N]" type "y"
# at "K/root.pem: " type "mosaic-Tulip-93-harbor"
# at "again: " type "mosaic-Tulip-93-harbor"
# at "K/release.pem: " type "velvet-Orbit-27-lantern"
# at "again: " type "velvet-Orbit-27-lantern"
box-update-server serve --data-dir R --online-key K/online.pem --listen 127.0.0.1:8151 2> origin.log &
until curl -fs http://127.0.0.1:8151/readyz; do sleep 1; done
# For each update: publish it. This asks before it signs.
boxsign publish --keys K opq-box-update-1550190683.tar.bz2 http://127.0.0.1:8151
# at "[y/N]" type "y"
# at "K/release.pem: " type "velvet-Orbit-27-lantern"
boxsign status --keys K --repo http://127.0.0.1:8151
boxsign ls --keys K --repo http://127.0.0.1:8151
