package archive

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestLinksStayInside makes the trees that the rules accept on a real disk and follows each link.
func TestLinksStayInside(t *testing.T) {
	base := t.TempDir()
	inside, outside := 0, 0
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		if err != nil {
			r.Fatal(err)
		}
		links, refused := plantLinks(r, dir)
		outside += refused
		for _, link := range links {
			to, err := filepath.EvalSymlinks(link)
			if err != nil {
				continue // leads nowhere, or in a circle
			}
			if inside++; to != filepath.Join(dir, "top") && !strings.HasPrefix(to, filepath.Join(dir, "top")+"/") {
				r.Errorf("%s of %q leads to %s", link, links, to)
			}
		}
	})
	if inside == 0 || outside == 0 {
		t.Errorf("%d links led inside and %d were refused; want some of each", inside, outside)
	}
}

// plantLinks makes directories and links below dir/top, as far as the rules accept them, and returns
// the links and how many were refused.
func plantLinks(r *rapid.T, dir string) (links []string, refused int) {
	rules := newTree("top", Limits{}.withDefaults())
	element := rapid.SampledFrom([]string{"a", "b", "c"})
	step := rapid.SampledFrom([]string{"a", "b", "c", "..", ".", ""})
	for range rapid.IntRange(1, 12).Draw(r, "entries") {
		path := filepath.Join(append([]string{"top"}, rapid.SliceOfN(element, 1, 3).Draw(r, "path")...)...)
		h := tar.Header{Typeflag: tar.TypeDir, Name: path + "/"}
		if rapid.Bool().Draw(r, "link") {
			target := strings.Join(rapid.SliceOfN(step, 1, 4).Draw(r, "target"), "/")
			h = tar.Header{Typeflag: tar.TypeSymlink, Name: path, Linkname: target}
		}
		if err := rules.add(&h); err != nil {
			refused++
			continue
		}
		links = append(links, placeEntry(r, filepath.Join(dir, path), h)...)
	}
	return links, refused
}

// placeEntry makes the directory or link at path, and returns path if it is a link.
func placeEntry(r *rapid.T, path string, h tar.Header) []string {
	made := path
	if h.Typeflag == tar.TypeSymlink {
		made = filepath.Dir(path)
	}
	if err := os.MkdirAll(made, 0o700); err != nil {
		r.Fatal(err)
	}
	if h.Typeflag != tar.TypeSymlink {
		return nil
	}
	if err := os.Symlink(h.Linkname, path); err != nil {
		r.Fatal(err)
	}
	return []string{path}
}
