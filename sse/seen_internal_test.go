package sse

import (
	"strconv"
	"strings"
	"testing"
)

func TestWindowRemembersTheLastIDs(t *testing.T) {
	var w window
	w.resize(3)
	for i := range 10 {
		w.add(strconv.Itoa(i))
	}
	for i := range 10 {
		if got, want := w.contains(strconv.Itoa(i)), i >= 7; got != want {
			t.Errorf("contains %d: %v, want %v", i, got, want)
		}
	}
	if len(w.ids) != 3 || len(w.has) != 3 {
		t.Errorf("holds %d and %d ids, want 3", len(w.ids), len(w.has))
	}

	w.resize(3)
	if !w.contains("9") {
		t.Error("forgot an id without need")
	}
	w.resize(-1)
	if w.add("a"); w.contains("a") || w.contains("9") {
		t.Error("remembers although it is off")
	}
}

func TestWindowTakesNoIDThatANotificationCannotHave(t *testing.T) {
	var w window
	w.resize(3)
	for _, id := range []string{"", strings.Repeat("x", 129)} {
		if w.add(id); w.contains(id) {
			t.Errorf("remembers an id of %d bytes", len(id))
		}
	}
}
