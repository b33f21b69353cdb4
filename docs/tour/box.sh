# A box is told once whom to trust and whom to ask. The fingerprint is the one that boxsign init printed.
mkdir box
boxup init --config box/config.json --state box/state --root 1.root.json http://127.0.0.1:8151 http://127.0.0.1:8152
# at "[y/N]" type "y"
# Is there an update? Then exit code 10 says so.
boxup check --config box/config.json
# exits 10
# All that a timer has to run.
boxup update --config box/config.json
cat ~/meter/meter.conf
boxup status --config box/config.json
# A box without boxup, as it always did; then with a check of the signature.
mkdir old-box
cp K/release.pub old-box
cd old-box
U=opq-box-update-1550190683.tar.bz2
wget -q http://127.0.0.1:8152/latest -O update.tar.bz2
curl -fsS -O http://127.0.0.1:8152/update/$U -O http://127.0.0.1:8152/update/$U.sha256 -O http://127.0.0.1:8152/update/$U.sig
sha256sum $U | cmp - $U.sha256
sha256sum $U > L && openssl pkeyutl -verify -pubin -inkey release.pub -rawin -in L -sigfile $U.sig
boxsign verify --key release.pub $U    # the same in one command
