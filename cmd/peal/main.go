// Command peal delivers ticket notifications to browsers and apps over
// Server-Sent Events. Run it without arguments for its commands.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	// The rules of time zones, and the roots of trust, for images that bring none
	// of their own.
	_ "time/tzdata"

	_ "golang.org/x/crypto/x509roots/fallback"
)

// version is set when a release is built.
var version = "dev"

// command is one of the words after peal.
type command struct {
	name    string
	usage   string // what follows the name
	summary string
	run     func(ctx context.Context, c *call) error
}

func commands() []command {
	return []command{
		{"dev", "[flags]", "run everything in one process: embedded JetStream, an issuer of tokens, a demo page", dev},
		{"serve", "--realms FILE (--nats URL | --data DIR) [flags]", "run a node", serve},
		{"publish", "--to USER [--to USER]… [--type TYPE] [flags]", "publish a notification", publish},
		{"tail", "--user USER [flags]", "follow a user's notifications", tail},
		{"inbox", "COMMAND [flags]", "list, count and mark a user's notifications, and show or set their preferences", inbox},
		{"token", "--user USER [flags] | explain [flags] [TOKEN]",
			"print a token of the issuer that dev runs, or explain what a service makes of a token", token},
		{"admin", "COMMAND [flags]", "calls of the admin port of a running service, and care for its NATS cluster", admin},
		{"doctor", "[flags of serve] [--through URL]",
			"find out what is wrong, and what to do about it: configuration, NATS, realm keys, machine, proxy", runDoctor},
		{"bench", "[--connections N] [--rate N] [--duration D] [--storm | --slow] [flags]",
			"measure a service: latency, memory, CPU, and whether anything is lost", runBench},
		{"config", "check|print [flags]", "check the configuration, or print what is in force", config},
		{"version", "", "print the version", printVersion},
	}
}

// call is one run of a command.
type call struct {
	command
	args   []string
	getenv func(string) string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	again  context.Context // ends with the second signal to stop
}

// usageError is a mistake of whoever typed the command: exit status 2.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

func main() {
	ctx, again, stop := untilSignals()
	defer stop()
	os.Exit(run(ctx, again, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// untilSignals returns a context that ends with the first SIGINT or SIGTERM,
// and one that ends with the second.
func untilSignals() (first, second context.Context, stop func()) {
	first, cancelFirst := context.WithCancel(context.Background())
	second, cancelSecond := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		// The third ends the process, as if nobody listened.
		defer signal.Stop(signals)
		for _, cancel := range []context.CancelFunc{cancelFirst, cancelSecond} {
			select {
			case <-signals:
				cancel()
			case <-done:
				return
			}
		}
	}()
	return first, second, func() {
		close(done)
		cancelFirst()
		cancelSecond()
	}
}

// run runs the command that args name and returns the exit status.
func run(ctx, again context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		help(stderr)
		return 2
	}
	if args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		help(stdout)
		return 0
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		err := c.run(ctx, &call{command: c, args: args[1:], getenv: getenv, stdin: stdin, stdout: stdout, stderr: stderr, again: again})
		return status(stderr, c.name, err)
	}
	return status(stderr, "", usagef("there is no command %q: run peal help for the list", args[0]))
}

// status tells of an error in one line and returns the exit status.
func status(stderr io.Writer, name string, err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) || errors.Is(err, errStopped) {
		return 0
	}
	prefix := strings.TrimSpace("peal " + name)
	// It may quote what a service has answered, or a file that others have written.
	fmt.Fprintf(stderr, "%s: %s\n", prefix, plain(strings.ReplaceAll(err.Error(), "\n", "; ")))
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

func help(w io.Writer) {
	fmt.Fprint(w, "peal tells people in real time what happened to their tickets.\n\nusage: peal COMMAND [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-8s  %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\nEvery command has --help.\n")
}

// under is the call of a subcommand, which the first argument has named.
func (c *call) under(sub command) *call {
	s := *c
	s.command, s.args = sub, c.args[1:]
	s.name = c.name + " " + sub.name
	return &s
}

// choose runs the subcommand that the first argument names.
func (c *call) choose(ctx context.Context, subs []command) error {
	var names []string
	for _, sub := range subs {
		if len(c.args) > 0 && c.args[0] == sub.name {
			return sub.run(ctx, c.under(sub))
		}
		names = append(names, "peal "+c.name+" "+sub.name)
	}
	if slices.ContainsFunc(c.args, func(a string) bool { return a == "help" || a == "-h" || a == "-help" || a == "--help" }) {
		fmt.Fprintf(c.stdout, "usage: peal %s %s\n\n%s\n\n", c.name, c.usage, c.summary)
		for _, sub := range subs {
			fmt.Fprintf(c.stdout, "  %-8s  %s\n", sub.name, sub.summary)
		}
		fmt.Fprint(c.stdout, "\nEach has --help.\n")
		return nil
	}
	return usagef("say %s: see peal %s --help", strings.Join(names, " or "), c.name)
}

// flags makes the flag set of the command.
func (c *call) flags() *flag.FlagSet {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are told once, by status
	return fs
}

// parse reads the flags; nothing may follow them. On --help it prints the
// flags and returns flag.ErrHelp.
func (c *call) parse(fs *flag.FlagSet, args []string) error {
	if err := c.parseFlags(fs, args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return usagef("unexpected argument %q: see peal %s --help", fs.Arg(0), c.name)
	}
	return nil
}

// parseBoth reads flags, and arguments that stand before, between and after them.
func (c *call) parseBoth(fs *flag.FlagSet) (args []string, err error) {
	for rest := c.args; ; {
		if err := c.parseFlags(fs, rest); err != nil || fs.NArg() == 0 {
			return args, err
		}
		args, rest = append(args, fs.Arg(0)), fs.Args()[1:]
	}
}

// parseFlags reads flags up to the first argument.
func (c *call) parseFlags(fs *flag.FlagSet, args []string) error {
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(c.stdout, "usage: peal %s %s\n\n%s\n\n", c.name, c.usage, c.summary)
		fs.SetOutput(c.stdout)
		fs.PrintDefaults()
		return err
	}
	if err != nil {
		return usagef("%v: see peal %s --help", err, c.name)
	}
	return nil
}

// isGiven reports whether a flag was given, whatever its value.
func isGiven(fs *flag.FlagSet, name string) (given bool) {
	fs.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

func printVersion(_ context.Context, c *call) error {
	if err := c.parse(c.flags(), c.args); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.stdout, version)
	return err
}
