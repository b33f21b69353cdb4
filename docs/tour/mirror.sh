# A mirror needs no key. It needs the root, which comes from the signer and not from the origin.
cp R/metadata/1.root.json .
sha256sum 1.root.json
box-update-server mirror http://127.0.0.1:8151 --root 1.root.json --data-dir M --listen 127.0.0.1:8152 2> mirror.log &
until curl -fs http://127.0.0.1:8152/readyz; do sleep 1; done
box-update-server status --data-dir M
curl 'http://127.0.0.1:8152/readyz?verbose'
box-update-server export --data-dir M updates.export
