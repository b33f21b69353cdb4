// Package page renders the status page of a server: what is served, which boxes get it, and what a person should see
// to. It knows nothing of HTTP. All text comes through html/template, and the page needs neither its style nor its
// script.
package page

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
)

//go:embed files
var files embed.FS

var tmpl = template.Must(template.ParseFS(files, "files/page.html"))

// Style returns the style sheet of the page.
func Style() []byte { return file("page.css") }

// Script returns the script of the page.
func Script() []byte { return file("page.js") }

func file(name string) []byte {
	body, err := files.ReadFile("files/" + name)
	if err != nil {
		panic(err) // it is part of the program
	}
	return body
}

// Render returns one page in HTML, by its number from 1 to Pages.
func (s Source) Render(f Facts, number int) []byte {
	var body bytes.Buffer
	if err := tmpl.Execute(&body, s.model(f, number)); err != nil {
		panic(fmt.Errorf("status page: %w", err)) // a fault of the template, whose branches are all tested
	}
	return body.Bytes()
}
