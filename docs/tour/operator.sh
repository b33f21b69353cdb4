# An operator serves a directory of archives, as the old server did.
mkdir updates
cp opq-box-update-1550190683.tar.bz2 updates
BOX_UPDATE_SERVER_SETTINGS='{"listen": "127.0.0.1:8153", "updates_dir": "updates"}' box-update-server 2> plain.log &
# An archive is listed two seconds after it has stopped changing.
until curl -fs http://127.0.0.1:8153/version; do sleep 1; done
curl http://127.0.0.1:8153/ls
curl 'http://127.0.0.1:8153/readyz?verbose'
# The same from a file, which can be checked before the server starts.
echo '{"listen": "127.0.0.1:8153", "updates_dir": "updates"}' > server.json
box-update-server doctor --config server.json
