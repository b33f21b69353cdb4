// Package docs writes the man pages and shell completions of a command, for Debian packages. All but this comment is built only with
// the tag docs, so that the programs themselves don't have what only the pages say:
//
//	go run -tags docs ./cmd/boxsign DIR
//
// writes
//
//	DIR/man/boxsign.1, DIR/man/boxsign-publish.1, …   one page per command
//	DIR/man/boxup.json.5                              the configuration
//	DIR/bash/boxsign, DIR/zsh/_boxsign, DIR/fish/boxsign.fish
//
// The date on the pages is $SOURCE_DATE_EPOCH if that is set, else today.
package docs
