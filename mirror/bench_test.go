package mirror_test

import (
	"fmt"
	"testing"
)

// BenchmarkNothingNew is a sync with nothing new.
func BenchmarkNothingNew(b *testing.B) {
	for _, n := range []int{10, 2000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := newOrigin(b, numbered(n)...).newMirror(setup{})
			_, err := m.Sync(b.Context())
			must(b, err)
			for b.Loop() {
				_, err := m.Sync(b.Context())
				must(b, err)
			}
		})
	}
}

func numbered(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("opq-box-update-%d.tar.gz", 1000+i))
	}
	return names
}

// BenchmarkFirstCopy is the first sync of 2,000 small archives.
func BenchmarkFirstCopy(b *testing.B) {
	o := newOrigin(b, numbered(2000)...)
	for b.Loop() {
		m := o.newMirror(setup{})
		_, err := m.Sync(b.Context())
		must(b, err)
	}
}
