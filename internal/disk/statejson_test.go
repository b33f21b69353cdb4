package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Whatever bit of a JSON state turns, it is read as it was written, and damage to its fields is told.
func TestJSONStateBits(t *testing.T) {
	type state struct {
		Block int `json:"block"`
	}
	path := filepath.Join(t.TempDir(), "state.json")
	if _, _, err := ReadJSON[state](path, 100); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, want %v", err, fs.ErrNotExist)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(FS{}.WriteJSON(path, state{7}, 0o600))
	must(FS{}.WriteJSON(path, state{1234}, 0o600))
	good, err := os.ReadFile(path)
	must(err)
	for bit := range 8 * len(good) {
		bad := append([]byte{}, good...)
		bad[bit/8] ^= 1 << (bit % 8)
		must(os.WriteFile(path, bad, 0o600))
		v, damage, err := ReadJSON[state](path, 100)
		told := errors.Is(damage, ErrDamaged)
		if err != nil || v.Block != 1234 || bit/8 < len(`{"block":1234`) && !told {
			t.Fatalf("bit %d: got %+v, %v, %v", bit, v, damage, err)
		}
	}
}
