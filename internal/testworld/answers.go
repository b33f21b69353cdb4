package testworld

import (
	"io"
	"net/http"
)

// Short answers with fewer bytes than its Content-Length announces.
func Short(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "900")
	_, _ = io.WriteString(w, "{")
}

// Endless answers with a body that never ends.
func Endless(w http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := w.Write(make([]byte, 64<<10)); err != nil {
			return
		}
	}
}

// NotHTTP answers with the greeting of another protocol.
func NotHTTP(w http.ResponseWriter, _ *http.Request) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n")
		c.Close()
	}
}
