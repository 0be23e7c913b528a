//go:build linux

package torture_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program on a host, which can be killed and started again.
type process struct {
	host *host
	name string
	args []string // the program first
	env  []string // besides that of this process
	log  string   // a file, to which each start adds

	mu    sync.Mutex // protects the rest
	cmd   *exec.Cmd  // nil while it does not run
	in    io.WriteCloser
	out   *bufio.Reader
	pipe  io.Closer // below out
	ended chan struct{}
}

// starter starts processes by one thread that lasts as long as this process does: the
// system kills a process with the thread that has started it. So nothing is left
// behind, however this process ends.
type starter chan func()

func newStarter(t *testing.T) starter {
	s := make(starter)
	t.Cleanup(func() { close(s) })
	go func() {
		runtime.LockOSThread()
		for do := range s {
			do()
		}
	}()
	return s
}

// start starts the program.
func (p *process) start(s starter) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	fmt.Fprintf(log, "--- %s started at %s\n", p.name, time.Now().Format(time.RFC3339Nano))
	cmd := p.host.command(p.args[0], p.args[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	started := make(chan error)
	s <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	go func() { cmd.Process.Wait(); close(ended) }()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.in, p.out, p.pipe, p.ended = cmd, in, bufio.NewReader(out), out, ended
	return nil
}

// line reads a line of what the program prints, within a time.
func (p *process) line(within time.Duration) (string, error) {
	type result struct {
		text string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		text, err := p.out.ReadString('\n')
		read <- result{text, err}
	}()
	select {
	case r := <-read:
		if r.err != nil {
			return "", fmt.Errorf("%s said nothing: %w: see %s", p.name, r.err, p.log)
		}
		return r.text, nil
	case <-time.After(within):
		return "", fmt.Errorf("%s said nothing for %v: see %s", p.name, within, p.log)
	}
}

// ask writes a line to the program and reads its answer.
func (p *process) ask(line string, within time.Duration) (string, error) {
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		return "", fmt.Errorf("%s does not listen: %w: see %s", p.name, err, p.log)
	}
	return p.line(within)
}

// signal sends a signal to the program, if it runs.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		p.cmd.Process.Signal(s)
	}
}

// stop ends the program by a signal, and waits for its end; after the time it kills.
func (p *process) stop(s syscall.Signal, within time.Duration) (inTime bool) {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	if cmd == nil {
		return true
	}
	cmd.Process.Signal(s)
	inTime = true
	select {
	case <-ended:
	case <-time.After(within):
		inTime = false
		cmd.Process.Signal(syscall.SIGCONT)
		cmd.Process.Kill()
		<-ended
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.in.Close()
	p.pipe.Close()
	p.cmd = nil
	return inTime
}

// runs reports whether the program runs.
func (p *process) runs() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// binaries builds the programs under test into a directory.
func binaries(t *testing.T, dir string) (peal, nats string) {
	t.Helper()
	peal, nats = filepath.Join(dir, "peal"), filepath.Join(dir, "nats-server")
	for name, pkg := range map[string]string{peal: "github.com/pealhq/peal/cmd/peal", nats: "github.com/nats-io/nats-server/v2"} {
		build := exec.Command("go", "build", "-trimpath", "-o", name, pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, out)
		}
	}
	return peal, nats
}
