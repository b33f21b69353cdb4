package disk_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

func TestCreateFileFunc(t *testing.T) {
	broken := errors.New("broken")
	say := func(text string, err error) func(*os.File) error {
		return func(file *os.File) error {
			_, werr := io.WriteString(file, text)
			return errors.Join(err, werr)
		}
	}
	for _, c := range []struct {
		name  string
		old   string // "" for no file
		write func(*os.File) error
		want  string // "" for no file
		err   error
	}{
		{"new", "", say("new", nil), "new", nil},
		{"exists", "old", say("new", nil), "old", fs.ErrExist},
		{"write fails", "", say("new", broken), "", broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			if c.old != "" {
				if err := os.WriteFile(path, []byte(c.old), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := (disk.FS{}).CreateFileFunc(path, 0o644, c.write); !errors.Is(err, c.err) {
				t.Errorf("got error %v, want %v", err, c.err)
			}
			if got, _ := os.ReadFile(path); string(got) != c.want {
				t.Errorf("got content %q, want %q", got, c.want)
			}
			names, err := os.ReadDir(dir)
			if err != nil || len(names) > 1 || len(names) == 1 && names[0].Name() != "file" {
				t.Errorf("the directory holds %v (error %v), want the file alone", names, err)
			}
		})
	}
}

func TestCreateFileFuncReportsFaults(t *testing.T) {
	fault := errors.New("fault")
	for _, op := range []disk.Op{disk.OpCreate, disk.OpWrite, disk.OpSync, disk.OpLink, disk.OpSyncDir} {
		fs := disk.FS{Hook: func(o disk.Op, _ string) (bool, error) {
			if o == op {
				return false, fault
			}
			return true, nil
		}}
		path := filepath.Join(t.TempDir(), "file")
		err := fs.CreateFileFunc(path, 0o644, func(file *os.File) error { _, err := file.WriteString("x"); return err })
		if !errors.Is(err, fault) {
			t.Errorf("%s: got error %v, want %v", op, err, fault)
		}
	}
}
