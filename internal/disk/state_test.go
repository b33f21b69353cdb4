package disk_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

const stateLimit = 1000

// contents are three contents of a state file, one after another, in each of its spellings.
var contents = map[string][3]string{
	"indented": {"{\n  \"a\": 1,\n  \"b\": \"x\"\n}\n", "{\n  \"a\": 2,\n  \"b\": \"y\"\n}\n", "{\n  \"a\": 3\n}\n"},
	"compact":  {`{"a":1}` + "\n", `{"a":2}` + "\n", `{"a":3,"b":"long"}` + "\n"},
	"lines":    {"1 one\n", "1 one\n2 two\n", "1 one\n2 two\n3 three\n"},
}

// checkState refuses what can't be a content.
func checkState(raw []byte) error {
	if bytes.HasPrefix(raw, []byte("{")) {
		var v struct{ A int }
		return json.Unmarshal(raw, &v)
	}
	for line := range bytes.Lines(raw) {
		if _, err := fmt.Sscanf(string(line), "%d ", new(int)); err != nil {
			return err
		}
	}
	return nil
}

func wantState(t *testing.T, path string, wantDamage bool, want ...string) {
	t.Helper()
	got, damage, err := disk.ReadState(path, stateLimit, checkState)
	if errors.Is(err, fs.ErrNotExist) {
		got, err = nil, nil
	}
	if err != nil {
		t.Fatalf("error is %v", err)
	}
	if (damage != nil) != wantDamage || damage != nil && !errors.Is(damage, disk.ErrDamaged) {
		t.Errorf("damage is %v, want it: %t", damage, wantDamage)
	}
	for _, w := range want {
		if string(got) == w {
			return
		}
	}
	t.Fatalf("state is %q (damage %v), want one of %q", got, damage, want)
}

func eachContents(t *testing.T, run func(t *testing.T, c [3]string)) {
	for name, c := range contents {
		t.Run(name, func(t *testing.T) { run(t, c) })
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := (disk.FS{}).WriteState(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Each step of a write fails once, carried out or not: the state is the one before or the new one, nothing counts as
// damaged, and the next write succeeds. What is left there can lose one file, whichever, and is still one of the two.
func TestStateFaults(t *testing.T) {
	fault := errors.New("fault")
	eachContents(t, func(t *testing.T, c [3]string) {
		for _, before := range []string{"", c[0]} {
			for i := 0; ; i++ {
				done := false
				for _, apply := range []bool{false, true} {
					path := filepath.Join(t.TempDir(), "state")
					if before != "" {
						write(t, path, before)
					}
					n := -1
					err := disk.FS{Hook: func(disk.Op, string) (bool, error) {
						if n++; n == i {
							return apply, fault
						}
						return true, nil
					}}.WriteState(path, []byte(c[1]), 0o600)
					if done = err == nil; done {
						wantState(t, path, false, c[1])
						continue
					}
					wantState(t, path, false, before, c[1])
					if raw, err := os.ReadFile(path); err == nil {
						if err := os.WriteFile(path, append(raw, '!'), 0o600); err != nil {
							t.Fatal(err)
						}
						wantState(t, path, true, before, c[1])
					}
					write(t, path, c[2])
					wantState(t, path, false, c[2])
				}
				if done {
					break
				}
			}
		}
	})
}

// Every bit of a state file and of its copy turns: the content stays.
func TestStateBits(t *testing.T) {
	eachContents(t, func(t *testing.T, c [3]string) {
		path := filepath.Join(t.TempDir(), "state")
		write(t, path, c[0])
		write(t, path, c[1])
		for _, file := range []string{path, disk.CopyPath(path)} {
			good, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			told := 0
			for bit := range 8 * len(good) {
				if _, err := f.WriteAt([]byte{good[bit/8] ^ 1<<(bit%8)}, int64(bit/8)); err != nil {
					t.Fatal(err)
				}
				got, damage, err := disk.ReadState(path, stateLimit, checkState)
				if _, err := f.WriteAt(good[bit/8:bit/8+1], int64(bit/8)); err != nil {
					t.Fatal(err)
				}
				var v struct{ A int }
				if json.Unmarshal([]byte(c[1]), &v) == nil {
					// The field's name may be another one: what it is about is intact.
					var w struct{ A int }
					if err := json.Unmarshal(got, &w); err != nil || w != v {
						t.Fatalf("%s, bit %d: state is %q, damage %v", file, bit, got, damage)
					}
				} else if string(got) != c[1] {
					t.Fatalf("%s, bit %d: state is %q, damage %v", file, bit, got, damage)
				}
				if err != nil {
					t.Fatal(err)
				}
				if damage != nil {
					told++
				}
			}
			if told < 8*(len(good)-30) {
				t.Errorf("%s: of %d turned bits %d are told", file, 8*len(good), told)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestStateBothDamaged(t *testing.T) {
	eachContents(t, func(t *testing.T, c [3]string) {
		path := filepath.Join(t.TempDir(), "state")
		write(t, path, c[0])
		for _, file := range []string{path, disk.CopyPath(path)} {
			if err := os.WriteFile(file, []byte("{}!"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, _, err := disk.ReadState(path, stateLimit, checkState); !errors.Is(err, disk.ErrDamaged) || got != nil {
			t.Errorf("got %q, error %v", got, err)
		}
		// What is written over damage is not taken for it, wherever a crash comes.
		write(t, path, c[1])
		wantState(t, path, false, c[1])
	})
}

// A damaged file without a copy is not one that is missing.
func TestStateDamagedWithoutCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := disk.ReadState(path, stateLimit, checkState); !errors.Is(err, disk.ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}

// A program without checksums wrote the file, or wrote it last; and a file can be longer than one should be.
func TestStateOfOthers(t *testing.T) {
	eachContents(t, func(t *testing.T, c [3]string) {
		path := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(path, []byte(c[0]), 0o600); err != nil {
			t.Fatal(err)
		}
		wantState(t, path, false, c[0])
		write(t, path, c[1])
		wantState(t, path, false, c[1])
		if err := os.WriteFile(path, []byte(c[2]), 0o600); err != nil {
			t.Fatal(err)
		}
		if c[0][0] == '{' {
			wantState(t, path, false, c[2])
		} else {
			wantState(t, path, true, c[1])
		}
		if err := os.WriteFile(path, bytes.Repeat([]byte(c[2]), stateLimit), 0o600); err != nil {
			t.Fatal(err)
		}
		wantState(t, path, true, c[1])
		if err := (disk.FS{}).RemoveState(path); err != nil {
			t.Fatal(err)
		}
		if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 0 {
			t.Errorf("left are %v, %v", names, err)
		}
	})
}

// A crash after the copy was replaced over a damaged file must not make the damage count.
func TestStateWrittenOverDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	write(t, path, "1 one\n")
	if err := os.WriteFile(path, []byte("1 oNe\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fault := errors.New("fault")
	err := disk.FS{Hook: func(_ disk.Op, p string) (bool, error) {
		if p == path {
			return false, fault
		}
		return true, nil
	}}.WriteState(path, []byte("1 one\n2 two\n"), 0o600)
	if !errors.Is(err, fault) {
		t.Fatal(err)
	}
	wantState(t, path, true, "1 one\n2 two\n")
}

// The checksum of a JSON object is one more field of it.
func TestStateIsJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for _, content := range []string{contents["indented"][0], contents["compact"][0], "{}\n"} {
		write(t, path, content)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			A        int
			B        string
			Checksum string
		}
		if err := json.Unmarshal(raw, &v); err != nil || content != "{}\n" && (v.A != 1 || len(v.Checksum) != 64) {
			t.Errorf("%s: %+v, %v", raw, v, err)
		}
		wantState(t, path, false, content)
	}
}

// A reader beside a writer, which has no lock, finds no damage.
func TestStateBesideWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	write(t, path, "0 zero\n")
	over := make(chan struct{})
	go func() {
		defer close(over)
		for n := range 40 {
			if err := (disk.FS{}).WriteState(path, fmt.Appendf(nil, "%d number\n", n), 0o600); err != nil {
				t.Error(err)
			}
		}
	}()
	for {
		_, damage, err := disk.ReadState(path, stateLimit, checkState)
		if damage != nil || err != nil {
			t.Fatal(damage, err)
		}
		select {
		case <-over:
			return
		default:
		}
	}
}
