package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// newTerminal opens a terminal of so many columns: what the user has before them,
// and what the command has.
func newTerminal(t *testing.T, columns int) (user, command *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { user.Close() })
	number, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(columns)})
	}
	if err != nil {
		t.Fatal(err)
	}
	if command, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { command.Close() })
	return user, command
}

// onTerminal runs the binary on a terminal, types something, and returns what was
// to be seen, the echo too, and the exit status.
func onTerminal(t *testing.T, columns int, typed string, args ...string) (seen string, status int) {
	t.Helper()
	user, command := newTerminal(t, columns)
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "PEAL_TEST_AS_BINARY=1", "PEAL_TOKEN=secret", "TZ=UTC")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = command, command, command
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	command.Close() // the command's own remain
	if _, err := user.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	b.ReadFrom(user) // ends with an error, when the command has ended
	cmd.Wait()
	return strings.ReplaceAll(b.String(), "\r\n", "\n"), cmd.ProcessState.ExitCode()
}

func TestInboxKnowsATerminal(t *testing.T) {
	s := newInboxServer(t, 200, "", `{"notifications":[{"id":"n1","type":"comment","ticketNumber":"INC-1","title":"The printer is on fire","priority":"medium","createdAt":"2025-07-10T12:35:00.000Z","read":false}],"next":null}`)
	for _, columns := range []int{0, 64} {
		cut := map[int]string{0: "The printer is on fire", 64: "The printer is…"}[columns]
		seen, status := onTerminal(t, columns, "", "inbox", "list", "--url", s.URL)
		want := "TIME                 TYPE     PRIORITY  TICKET  TITLE\n2025-07-10 12:35  ●  comment  medium    INC-1   " + cut + "\n"
		if diff := cmp.Diff(want, seen); diff != "" || status != 0 {
			t.Errorf("%d columns: exit status %d (-want +got):\n%s", columns, status, diff)
		}
	}
	seen, status := onTerminal(t, 64, "", "inbox", "list", "--url", s.URL, "--json")
	if status != 0 || !strings.HasPrefix(seen, `{"notifications":[{"id":"n1"`) {
		t.Errorf("--json: exit status %d, %q", status, seen)
	}
}

func TestDropAsksOnATerminal(t *testing.T) {
	const page = `{"deadLetters":[{"id":"a-1","buried":"2025-07-10T12:35:00.000Z","reason":"because\u001b[2J"},{"id":"a-2"}],"next":null}`
	for _, tt := range []struct {
		name   string
		typed  string
		args   []string
		status int
		asked  int
		want   string
	}{
		{"one", "a-1\n", []string{"drop", "a-1"}, 0, 1, "erases dead letter a-1 at "},
		{"two", "2\n", []string{"drop", "a-1", "a-2"}, 0, 2, "erases 2 dead letters at "},
		{"all", "2\n", []string{"drop", "--all"}, 0, 3, "erases 2 dead letters at "},
		{"all of a tenant", "2\n", []string{"drop", "--all", "--tenant", string(tenantShared)}, 0, 3, "erases 2 dead letters of tenant " + string(tenantShared) + " at "},
		{"another number", "3\n", []string{"drop", "--all"}, 1, 1, "nothing was erased"},
		{"yes", "yes\n", []string{"drop", "a-1"}, 1, 0, "nothing was erased"},
		{"unasked", "", []string{"drop", "--all", "--yes"}, 0, 3, `{"dropped":2}`},
		{"a table", "", []string{"list"}, 0, 1, "REASON\na-1 "},
		{"no table", "", []string{"list", "--json"}, 0, 1, `{"deadLetters":[{"id":"a-1"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newAdminServer(t, 200, "application/json", page)
			seen, status := onTerminal(t, 80, tt.typed, append([]string{"admin", "dead"}, append(tt.args, "--admin", s.URL)...)...)
			if status != tt.status || len(s.asked) != tt.asked || !strings.Contains(seen, tt.want) || strings.Contains(seen, "\x1b") {
				t.Errorf("exit status %d, asked %q, seen %q, want %d, %d and %q", status, s.asked, seen, tt.status, tt.asked, tt.want)
			}
		})
	}
}

func TestDurableListKnowsATerminal(t *testing.T) {
	s := newAdminServer(t, 200, "application/json", `{"durables":[{"id":"S.durable_x_0","tenant":"`+string(tenantShared)+`","namespace":"acme","user":"ja\u001b[2Jne","name":"wall","route":"list/updates","created":"2025-07-10T12:35:00.000Z","lastUsed":"2025-07-10T12:35:00.000Z","pending":7}],"next":"S.durable_x_0"}`)
	seen, status := onTerminal(t, 120, "", "admin", "durable", "list", "--admin", s.URL)
	for _, want := range []string{"PENDING", "wall", "list/updates", "S.durable_x_0", "--after S.durable_x_0"} {
		if !strings.Contains(seen, want) {
			t.Errorf("seen %q, want %q in it", seen, want)
		}
	}
	if status != 0 || strings.Contains(seen, "\x1b") {
		t.Errorf("exit status %d, seen %q", status, seen)
	}
}

func TestPurgeAsksOnATerminal(t *testing.T) {
	tenant := string(tenantShared)
	for _, tt := range []struct {
		name   string
		typed  string
		args   []string
		status int
		asked  int
		want   string
	}{
		{"a user", "jane\n", []string{"--user", "jane"}, 0, 1, "all that is kept of user jane in tenant " + tenant},
		{"a tenant", tenant + "\n", nil, 0, 1, "all that is kept of tenant " + tenant},
		{"another name", "joe\n", []string{"--user", "jane"}, 1, 0, "nothing was erased"},
		{"yes", "yes\n", nil, 1, 0, "nothing was erased"},
		{"the end", "\x04", nil, 1, 0, "nothing was erased"},
		{"unasked", "", []string{"--yes"}, 0, 1, "{}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newAdminServer(t, 200, "application/json", "{}")
			seen, status := onTerminal(t, 80, tt.typed, append([]string{"admin", "purge", "--admin", s.URL, "--tenant", tenant}, tt.args...)...)
			if status != tt.status || len(s.asked) != tt.asked || !strings.Contains(seen, tt.want) {
				t.Errorf("exit status %d, asked %q, seen %q, want %d, %d and %q", status, s.asked, seen, tt.status, tt.asked, tt.want)
			}
		})
	}
}

func TestEpochAsksOnATerminal(t *testing.T) {
	listen := freeAddress(t)
	startNATS(t, listen, t.TempDir())
	args := []string{"--nats", "nats://" + listen}
	config := filepath.Join(t.TempDir(), "peal.yaml")
	if err := os.WriteFile(config, []byte("replicas: 1\npartitions: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := do(t, nil, append([]string{"admin", "ensure", "--config", config}, args...)...); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	for _, tt := range []struct {
		name   string
		typed  string
		args   []string
		status int
		want   string
		raised int
	}{
		{"another region", "eu\n", nil, 1, "nothing was changed", 0},
		{"yes", "yes\n", nil, 1, "nothing was changed", 0},
		{"the region", "local\n", nil, 0, "PEAL_INBOX_local_1: epoch ", 8},
		{"unasked", "", []string{"--yes"}, 0, "8 streams have a new epoch", 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen, status := onTerminal(t, 80, tt.typed, append(append([]string{"admin", "epoch"}, args...), tt.args...)...)
			if status != tt.status || !strings.Contains(seen, tt.want) || strings.Count(seen, ": epoch ") != tt.raised {
				t.Errorf("exit status %d, seen %q, want %d, %q and %d streams", status, seen, tt.status, tt.want, tt.raised)
			}
		})
	}
}
