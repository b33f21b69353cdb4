package disk

import (
	"encoding/json"
	"fmt"
	"io/fs"

	"github.com/openpowerquality/box-update-server/internal/explain"
)

// WriteJSON writes v to a state file as a JSON object, which gets a checksum as its last field.
func (f FS) WriteJSON(path string, v any, perm fs.FileMode) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return f.WriteState(path, append(raw, '\n'), perm)
}

// ReadJSON returns what WriteJSON wrote, of at most limit bytes. damage and err are those of ReadState. After an error v is
// zero.
func ReadJSON[T any](path string, limit int64) (v T, damage, err error) {
	raw, damage, err := ReadState(path, limit, func(raw []byte) error { return parseJSON(raw, new(T)) })
	if err == nil {
		err = parseJSON(raw, &v)
	}
	if err != nil {
		var zero T
		return zero, nil, err
	}
	return v, damage, nil
}

func parseJSON(raw []byte, v any) error { return explain.JSON(raw, json.Unmarshal(raw, v)) }
