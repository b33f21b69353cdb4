package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	logDir  = "log"
	logName = "install.log"

	maxLog  = 1 << 20   // bytes after which a new log is begun
	oldLogs = 3         // older logs that are kept
	maxHead = 256 << 10 // bytes logged from the beginning of the output of one run
	maxTail = 64 << 10  // bytes logged from its end
	maxLine = 200       // bytes of the last line in a message
)

// runLog receives the output of one run and logs a bounded part of it. Its writes never fail: a program whose output
// is not read would be killed by that.
type runLog struct {
	file *os.File // nil if there is none or a write failed
	head int      // bytes of the head written to file
	all  int64    // bytes of output so far
	tail []byte   // the end of what came after the head, up to twice maxTail
	last []byte   // the end of the whole output, up to twice maxLine
}

// openLog begins the log of one run. If there can be no file, it returns an error and a log that can be used
// nevertheless.
func openLog(dir, title string) (*runLog, error) {
	path := filepath.Join(dir, logName)
	if err := rotate(path); err != nil {
		return &runLog{}, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return &runLog{}, err
	}
	l := &runLog{file: f}
	l.put([]byte(title + "\n"))
	return l, nil
}

// rotate renames the old logs if the current one is long enough.
func rotate(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || info.Size() < maxLog {
		return err
	}
	name := func(n int) string { return fmt.Sprintf("%s.%d", path, n) }
	for n := oldLogs; n > 1; n-- {
		if err := os.Rename(name(n-1), name(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.Rename(path, name(1))
}

// put writes to the file. After an error nothing more is written to it.
func (l *runLog) put(p []byte) {
	if l.file == nil {
		return
	}
	if _, err := l.file.Write(p); err != nil {
		l.file.Close() // incomplete already
		l.file = nil
	}
}

// Write logs or remembers the part of p that is kept. The error is always nil.
func (l *runLog) Write(p []byte) (int, error) {
	l.all += int64(len(p))
	l.last = appendEnd(l.last, p, maxLine)
	n := min(len(p), maxHead-l.head)
	l.put(p[:n])
	l.head += n
	if n < len(p) {
		l.tail = appendEnd(l.tail, p[n:], maxTail)
	}
	return len(p), nil
}

// appendEnd appends p to b and returns the end of both: at least their last size bytes, and at most twice as many.
func appendEnd(b, p []byte, size int) []byte {
	p = p[max(0, len(p)-size):]
	if len(b)+len(p) > 2*size {
		b = b[:copy(b, b[len(b)-size:])]
	}
	return append(b, p...)
}

// lastLine returns the last line of the output, at most maxLine bytes of it, "" if there was none.
func (l *runLog) lastLine() string {
	b := bytes.TrimSpace(l.last)
	b = b[bytes.LastIndexAny(b, "\r\n")+1:]
	return string(b[max(0, len(b)-maxLine):])
}

// saysNoSpace reports whether the end of the output has the system's message for a full disk or quota, which is in
// English because of LANG=C.
func (l *runLog) saysNoSpace() bool {
	end := bytes.ToLower(l.last)
	return bytes.Contains(end, []byte(unix.ENOSPC.Error())) || bytes.Contains(end, []byte(unix.EDQUOT.Error()))
}

// end writes the tail of the output and result, and closes the file.
func (l *runLog) end(result string) {
	tail := l.tail[max(0, len(l.tail)-maxTail):]
	if left := l.all - int64(l.head) - int64(len(tail)); left > 0 {
		l.put(fmt.Appendf(nil, "\n[%d bytes omitted]\n", left))
	}
	l.put(tail)
	if n := len(l.last); n > 0 && l.last[n-1] != '\n' {
		l.put([]byte("\n"))
	}
	l.put([]byte(result + "\n"))
	if l.file != nil {
		l.file.Close() // nothing depends on it
	}
}
