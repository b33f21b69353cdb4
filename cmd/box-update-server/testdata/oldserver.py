"""Behaves as the old server did, as far as its contract says: one request at a time, HTTP/1.0, a whole
archive in memory, no HEAD, no ranges, names sorted as text. It writes the address that it listens on to
standard output, and each request to standard error."""

import glob
import http.server
import json
import os
import re
import sys
import time

settings = json.loads(os.environ["BOX_UPDATE_SERVER_SETTINGS"])


def names():
    found = glob.glob(os.path.join(settings["updates_dir"], "opq-box-update-*.tar.bz2"))
    return sorted(os.path.basename(f) for f in found)


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, content_type, body, **more):
        self.send_response(status)
        self.send_header("Content-type", content_type)
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/":
            health = {"name": "Box Update Server", "ok": True, "timestamp": int(time.time()), "subcomponents": []}
            return self.answer(200, "application/json", json.dumps(health).encode())
        if self.path == "/ls":
            return self.answer(200, "text/plain", "\n".join(names()).encode())
        if self.path == "/version" and names():
            version = re.search("[0-9]+", names()[-1]).group()
            return self.answer(200, "text/plain", version.encode())
        if self.path == "/latest" and names():
            return self.answer(303, "text/plain", b"", Location="/update/" + names()[-1])
        name = self.path.removeprefix("/update/")
        if self.path.startswith("/update/") and name in names():
            with open(os.path.join(settings["updates_dir"], name), "rb") as f:
                body = f.read()
            return self.answer(
                200,
                "application/octet-stream",
                body,
                Content_Disposition='attachment; filename="%s"' % name,
                Content_Length=str(len(body)),
            )
        self.answer(404, "text/plain", b"Resource not found.")


server = http.server.HTTPServer(("127.0.0.1", settings.get("port", 0)), Handler)
print("%s:%d" % server.server_address, flush=True)
server.serve_forever()
