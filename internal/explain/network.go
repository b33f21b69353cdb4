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

// Network rewords the error of an HTTP request, without the URL, which the caller names.
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
		return Reword(err, untrusted(err))
	case errors.As(err, &plain), errors.Is(err, http.ErrSchemeMismatch):
		return Reword(err, "it does not speak TLS: is it http:// rather than https://?")
	case errors.As(err, &alert):
		return Reword(err, "it refuses TLS: "+strings.TrimPrefix(alert.Error(), "tls: "))
	case errors.As(err, &name) && name.IsNotFound:
		return Reword(err, name.Name+": no such host")
	case errors.As(err, &name):
		return Reword(err, name.Name+": the name server did not answer")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return Reword(err, "no answer in time")
	case errors.As(err, &op):
		return Reword(err, inSystem(op))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Reword(err, "the connection was cut")
	case strings.Contains(text, "malformed HTTP"):
		return Reword(err, "it does not answer in HTTP")
	case strings.Contains(text, "stopped after 10 redirects"):
		return Reword(err, "it redirects without end")
	}
	for _, prefix := range []string{"net/http: ", "http: ", "http2: ", "tls: ", "x509: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	if text == err.Error() {
		return err
	}
	return Reword(err, text)
}

// inSystem returns the message of the operating system about a connection, with its address.
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

// untrusted returns the reason why a certificate is not trusted, "" for any other error.
func untrusted(err error) string {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &authority):
		return "its certificate is not signed by an authority that is trusted here: name the authority with ca_file or $SSL_CERT_FILE"
	case errors.As(err, &host):
		return "its certificate is not for " + host.Host
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired or is not valid yet: is the clock right?"
	case errors.As(err, &invalid):
		return "its certificate can't be used: " + strings.TrimPrefix(invalid.Error(), "x509: ")
	}
	return ""
}
