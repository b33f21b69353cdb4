package explain

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// Network says what an error of a request over HTTP means. The URL is not in it: the caller names that.
func Network(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var (
		name  *net.DNSError
		op    *net.OpError
		plain tls.RecordHeaderError
		alert tls.AlertError
	)
	text := err.Error()
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case untrusted(err) != "":
		return said(err, untrusted(err))
	case errors.As(err, &plain), errors.Is(err, http.ErrSchemeMismatch):
		return said(err, "it does not speak TLS: is it http:// rather than https://?")
	case errors.As(err, &alert):
		return said(err, "it refuses TLS: "+strings.TrimPrefix(alert.Error(), "tls: "))
	case errors.As(err, &name) && name.IsNotFound:
		return said(err, name.Name+": no such host")
	case errors.As(err, &name):
		return said(err, name.Name+": the name server did not answer")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return said(err, "no answer in time")
	case errors.As(err, &op):
		return said(err, inSystem(op))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return said(err, "the connection was cut")
	case strings.Contains(text, "malformed HTTP"):
		return said(err, "it does not answer in HTTP")
	case strings.Contains(text, "stopped after 10 redirects"):
		return said(err, "it redirects without end")
	}
	for _, prefix := range []string{"net/http: ", "http: ", "http2: ", "tls: ", "x509: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	if text == err.Error() {
		return err
	}
	return said(err, text)
}

// inSystem returns what the operating system said of a connection, and of which.
func inSystem(op *net.OpError) string {
	reason := op.Err.Error()
	var call *os.SyscallError
	if errors.As(op.Err, &call) {
		reason = call.Err.Error()
	}
	if op.Op == "dial" && op.Addr != nil {
		return "connect to " + op.Addr.String() + ": " + reason
	}
	return reason
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// untrusted says why a certificate is not trusted, "" where that is not the error.
func untrusted(err error) string {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &authority):
		return "its certificate is signed by nobody who is trusted here: name its authority with ca_file or $SSL_CERT_FILE"
	case errors.As(err, &host):
		return "its certificate is not for " + host.Host
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired or is not valid yet: is the clock right?"
	case errors.As(err, &invalid):
		return "its certificate can't be used: " + strings.TrimPrefix(invalid.Error(), "x509: ")
	}
	return ""
}
