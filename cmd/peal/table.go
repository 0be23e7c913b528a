package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// defaultColumns is how wide a terminal is taken to be that does not say.
const defaultColumns = 80

// terminalOf reports whether what a command reads or writes is a terminal, and of
// how many columns.
func terminalOf(stream any) (columns int, is bool) {
	f, ok := stream.(*os.File)
	if !ok {
		return 0, false
	}
	if columns, is = terminal(f); columns <= 0 {
		columns = defaultColumns
	}
	return columns, is
}

// table prints rows with aligned columns, the last of which is cut to what is left
// of the terminal's. Every cell becomes plain.
func table(w io.Writer, columns int, rows [][]string) error {
	const gap, least = "  ", 10 // least is what the last column always has
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			row[i] = plain(cell)
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], width(row[i]))
		}
	}
	left := columns
	for _, w := range widths[:max(len(widths)-1, 0)] {
		left -= w + len(gap)
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			if i == len(widths)-1 {
				line.WriteString(clamp(cell, max(left, least)))
				break
			}
			line.WriteString(cell + strings.Repeat(" ", widths[i]-width(cell)) + gap)
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// plain is text that does nothing to a terminal: what others write must not move
// its cursor, nor turn the direction in which the rest of a line is read.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unseen(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
}

// unseen reports whether a terminal would do something with r, and not show it.
func unseen(r rune) bool {
	if r == '\u200c' || r == '\u200d' { // join letters and emoji
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// plainJSON is JSON that says the same and does nothing to a terminal but to break
// lines. What would is in strings only, where it can be escaped.
func plainJSON(b []byte) []byte {
	var plain []byte
	for _, r := range strings.ToValidUTF8(string(b), string(unicode.ReplacementChar)) {
		switch {
		case r == '\n' || !unseen(r):
			plain = utf8.AppendRune(plain, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			plain = fmt.Appendf(plain, `\u%04x\u%04x`, high, low)
		default:
			plain = fmt.Appendf(plain, `\u%04x`, r)
		}
	}
	return plain
}

// clamp cuts text to a width, and shows that it did.
func clamp(s string, most int) string {
	if width(s) <= most {
		return s
	}
	used := 0
	for i, r := range s {
		if used += runeWidth(r); used > most-1 { // the last is for the sign
			return strings.TrimRight(s[:i], " ") + "…"
		}
	}
	return s
}

// width is how many columns text takes.
func width(s string) (n int) {
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// wide are the letters that take two columns, in their larger blocks: East Asian
// scripts, their full-width forms, and emoji. Unicode has a table of them
// (EastAsianWidth.txt); this is as much of it as a title needs.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1},
		{Lo: 0x2e80, Hi: 0x303e, Stride: 1},
		{Lo: 0x3041, Hi: 0xa4cf, Stride: 1},
		{Lo: 0xac00, Hi: 0xd7a3, Stride: 1},
		{Lo: 0xf900, Hi: 0xfaff, Stride: 1},
		{Lo: 0xfe30, Hi: 0xfe6f, Stride: 1},
		{Lo: 0xff00, Hi: 0xff60, Stride: 1},
		{Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x1f300, Hi: 0x1faff, Stride: 1},
		{Lo: 0x20000, Hi: 0x3fffd, Stride: 1},
	},
}

func runeWidth(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}
