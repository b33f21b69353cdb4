package signer

import (
	"bytes"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// Paper is a backup that can be printed, and typed or scanned again:
//
//	1/14: C5JP 8S9E CNQQ 4WBE DXT6 2TBE E8PP 2VK5 CHJQ 6X1Q
//
// A line has its number, the number of lines, and up to 26 bytes of the backup with a checksum of 4 bytes, in
// Crockford's base 32, which has no I, L, O or U. The checksum is CRC-32C, big-endian, over both numbers (4 bytes
// each, big-endian) and the bytes of the line. It finds every single wrong character and every swap of two.
//
// Typed text may be in lower case, and may have O for 0, I or L for 1, and spaces anywhere. Empty lines and those that
// begin with # are ignored.
const (
	paperLine  = 26       // bytes of the backup in a line
	paperGroup = 4        // characters
	maxPaper   = 1 << 20  // bytes of text
	maxPrinted = 64 << 10 // bytes of a backup that is printed
	checkSize  = 4        // bytes of the checksum
)

var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// printPaper returns sealed as text.
func printPaper(sealed []byte) []byte {
	var out bytes.Buffer
	total := (len(sealed) + paperLine - 1) / paperLine
	for i := range total {
		data := sealed[i*paperLine : min(len(sealed), (i+1)*paperLine)]
		text := crockford.EncodeToString(append(bytes.Clone(data), paperCheck(i+1, total, data)...))
		fmt.Fprintf(&out, "%3d/%d:", i+1, total)
		for len(text) > 0 {
			n := min(paperGroup, len(text))
			fmt.Fprintf(&out, " %s", text[:n])
			text = text[n:]
		}
		out.WriteByte('\n')
	}
	return out.Bytes()
}

func paperCheck(number, total int, data []byte) []byte {
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(number)), uint32(total))
	return binary.BigEndian.AppendUint32(nil, crc32.Checksum(append(head, data...), crc32.MakeTable(crc32.Castagnoli)))
}

// maxMistakes is how many wrong lines one error names.
const maxMistakes = 20

// paperReader puts the bytes of the lines together.
type paperReader struct {
	next, total int // number of the line that must come next, and of lines
	data        []byte
	mistakes    []error
}

// parsePaper returns the backup that printPaper printed. The error names up to maxMistakes wrong lines, by their
// numbers in text.
func parsePaper(text []byte) ([]byte, error) {
	if len(text) > maxPaper {
		return nil, fmt.Errorf("expected at most %d bytes of text, got more", maxPaper)
	}
	lines := strings.Split(string(text), "\n")
	p := paperReader{next: 1, total: paperTotal(lines)}
	if p.total == 0 {
		return nil, errors.New("expected a backup, as boxsign backup writes or prints it")
	}
	for i, line := range lines {
		if hasData(line) {
			p.readLine(i+1, line)
		}
	}
	if p.next <= p.total {
		p.addMistake(fmt.Errorf("the end is missing: the last line is %d/%d", p.next-1, p.total))
	}
	if len(p.mistakes) > 0 {
		return nil, errors.Join(p.mistakes...)
	}
	return p.data, nil
}

// hasData reports whether a line of text is neither empty nor a comment.
func hasData(line string) bool {
	line = strings.TrimSpace(line)
	return line != "" && line[0] != '#'
}

// paperTotal returns the number of lines that most lines state, 0 if none states one. A mistyped number in one
// line must not make all others wrong.
func paperTotal(lines []string) int {
	votes, best := map[int]int{}, 0
	for _, line := range lines {
		if _, total, _, err := cutPaperLine(line); err == nil {
			if votes[total]++; votes[total] > votes[best] {
				best = total
			}
		}
	}
	return best
}

// cutPaperLine returns the two numbers of a line, both from 1, and the text that follows them.
func cutPaperLine(line string) (number, total int, rest string, err error) {
	head, rest, _ := strings.Cut(line, ":")
	first, second, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(head), " ", ""), "/")
	number, err = strconv.Atoi(first)
	if err == nil {
		total, err = strconv.Atoi(second)
	}
	if err != nil || number < 1 || total < number || total > maxPaper {
		return 0, 0, "", fmt.Errorf("expected two numbers and a colon, as in 1/34:, got %.20q", line)
	}
	return number, total, rest, nil
}

func (p *paperReader) addMistake(err error) {
	if len(p.mistakes) < maxMistakes {
		p.mistakes = append(p.mistakes, err)
	}
}

// readLine parses a line, which has the number at in the text, and appends its bytes. After a mistake it goes on with the
// next line.
func (p *paperReader) readLine(at int, line string) {
	number, total, rest, err := cutPaperLine(line)
	if err == nil && total == p.total && number > p.next {
		p.addMistake(fmt.Errorf("line %d: %d/%d is missing before it", at, p.next, p.total))
		p.next = number
	}
	if err == nil && (number != p.next || total != p.total) {
		err = fmt.Errorf("expected the line %d/%d, got %d/%d", p.next, p.total, number, total)
	}
	var data []byte
	if err == nil {
		data, err = parsePaperLine(rest, number, total)
	}
	if err != nil {
		p.addMistake(fmt.Errorf("line %d: %w", at, err))
	}
	p.data = append(p.data, data...)
	p.next++
}

// parsePaperLine parses the text that follows the two numbers of a line, and checks its checksum.
func parsePaperLine(typed string, number, total int) ([]byte, error) {
	text := strings.Map(paperDigit, typed)
	raw, err := crockford.DecodeString(text)
	if err != nil || len(raw) <= checkSize || crockford.EncodeToString(raw) != text {
		return nil, errors.New("a character is wrong, missing or too many")
	}
	data, sum := raw[:len(raw)-checkSize], raw[len(raw)-checkSize:]
	if !bytes.Equal(sum, paperCheck(number, total, data)) {
		return nil, errors.New("a character is wrong: the checksum does not fit")
	}
	if len(data) > paperLine || number < total && len(data) < paperLine {
		return nil, fmt.Errorf("expected %d bytes, got %d", paperLine, len(data))
	}
	return data, nil
}

// paperDigit maps a typed character to its one spelling, and white space to -1.
func paperDigit(r rune) rune {
	switch r {
	case ' ', '\t', '\r':
		return -1
	case 'O', 'o':
		return '0'
	case 'I', 'i', 'L', 'l':
		return '1'
	}
	if 'a' <= r && r <= 'z' {
		return r - 'a' + 'A'
	}
	return r
}
