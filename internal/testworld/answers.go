package testworld

import (
	"io"
	"net/http"
)

// Short is an answer that announces more than it sends.
func Short(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "900")
	_, _ = io.WriteString(w, "{")
}

// Endless is an answer without an end.
func Endless(w http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := w.Write(make([]byte, 64<<10)); err != nil {
			return
		}
	}
}

// NotHTTP is what another protocol says.
func NotHTTP(w http.ResponseWriter, _ *http.Request) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n")
		c.Close()
	}
}
