package sse_test

import (
	"strings"
	"time"

	"github.com/pealhq/peal/sse"
)

// reference interprets a whole stream the way the standards put it, step by
// step and without regard to memory. It shares no code with the Reader.
// It knows no bounds.
func reference(stream []byte) (events []sse.Event, lastID string) {
	text := strings.TrimPrefix(decodeUTF8(stream), "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	lines := strings.Split(text, "\n")

	var data, name, id, blockID string
	var retry time.Duration
	for _, line := range lines[:len(lines)-1] { // the last has no end
		if line == "" {
			lastID = id
			if data != "" {
				events = append(events, sse.Event{
					ID: blockID, Name: sse.Name(name), Data: []byte(strings.TrimSuffix(data, "\n")), Retry: retry,
				})
			}
			data, name, blockID, retry = "", "", "", 0
			continue
		}
		if strings.HasPrefix(line, ":") {
			continue
		}
		field, value := line, ""
		if i := strings.Index(line, ":"); i >= 0 {
			field, value = line[:i], line[i+1:]
			value = strings.TrimPrefix(value, " ")
		}
		switch field {
		case "event":
			name = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				id, blockID = value, value
			}
		case "retry":
			if value != "" && strings.Trim(value, "0123456789") == "" {
				retry = milliseconds(value)
			}
		}
	}
	return events, lastID
}

// milliseconds reads digits; more than a Duration holds is the most whole
// milliseconds that it does.
func milliseconds(digits string) time.Duration {
	const most = "9223372036854"
	digits = strings.TrimLeft(digits, "0")
	if len(digits) > len(most) || len(digits) == len(most) && digits > most {
		digits = most
	}
	var n time.Duration
	for _, c := range digits {
		n = 10*n + time.Duration(c-'0')
	}
	return n * time.Millisecond
}

// decodeUTF8 is the state machine of WHATWG Encoding, "8.1.1 UTF-8 decoder".
func decodeUTF8(in []byte) string {
	var out strings.Builder
	var point rune
	needed, seen := 0, 0
	lower, upper := byte(0x80), byte(0xbf)
	for i := 0; i < len(in); i++ {
		b := in[i]
		if needed == 0 {
			switch {
			case b <= 0x7f:
				out.WriteByte(b)
			case b >= 0xc2 && b <= 0xdf:
				needed, point = 1, rune(b&0x1f)
			case b >= 0xe0 && b <= 0xef:
				if b == 0xe0 {
					lower = 0xa0
				}
				if b == 0xed {
					upper = 0x9f
				}
				needed, point = 2, rune(b&0xf)
			case b >= 0xf0 && b <= 0xf4:
				if b == 0xf0 {
					lower = 0x90
				}
				if b == 0xf4 {
					upper = 0x8f
				}
				needed, point = 3, rune(b&0x7)
			default:
				out.WriteRune('\ufffd')
			}
			continue
		}
		if b < lower || b > upper {
			needed, seen, lower, upper = 0, 0, 0x80, 0xbf
			out.WriteRune('\ufffd')
			i-- // the byte begins something else
			continue
		}
		lower, upper = 0x80, 0xbf
		point = point<<6 | rune(b&0x3f)
		if seen++; seen == needed {
			out.WriteRune(point)
			needed, seen = 0, 0
		}
	}
	if needed > 0 {
		out.WriteRune('\ufffd')
	}
	return out.String()
}
