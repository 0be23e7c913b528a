package dispatch

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"github.com/pealhq/peal"
)

// check parses a template and tries it on samples. A branch that no sample takes could
// still fail for some event, so each expression is tried by itself too, whatever it
// stands in. What then still slips through is an or of a text and a comparison, taken
// for a text.
func (r *Rules) check(p part, typ peal.Type, source string) (*template.Template, error) {
	t, err := template.New(p.String()).Funcs(functions).Parse(source)
	if err != nil {
		return nil, plain(err)
	}
	if len(t.Templates()) != 1 || t.Tree == nil {
		return nil, errors.New("{{define}} and {{block}} are not for these templates")
	}
	w := walk{}
	if err := w.nodes(t.Root); err != nil {
		return nil, err
	}
	for _, ev := range samples() {
		for _, why := range w.combinations() {
			f := factsOf(&ev, told{typ, why})
			for _, pipe := range w.pipes {
				if err := pipe.Execute(io.Discard, f); err != nil {
					return nil, plain(err)
				}
			}
			var b strings.Builder
			if err := t.Execute(&b, f); err != nil {
				return nil, plain(err)
			}
			s := strings.TrimSpace(b.String())
			if p != actionURL || s == "" {
				continue
			}
			if err := peal.CheckActionURL(s, r.actionHosts); err != nil {
				return nil, fmt.Errorf("makes %q: %w (does it use path and query?)", s, err)
			}
		}
	}
	return t, nil
}

// plain is an error of text/template without what we say already.
func plain(err error) error {
	return errors.New(strings.TrimPrefix(err.Error(), "template: "))
}

// walk goes through a template. It refuses what could make one run long or fail, and
// gathers what is tried of the rest.
type walk struct {
	pipes []*template.Template // each expression, as a template of its own
	asks  []peal.Reason        // the reasons for which it asks
}

// combinations returns the combinations of the reasons that make a difference.
func (w *walk) combinations() []why {
	all := []why{0}
	for _, r := range w.asks {
		for _, c := range all {
			all = append(all, c|only(r))
		}
	}
	return all
}

func (w *walk) nodes(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	for _, n := range list.Nodes {
		if err := w.node(n); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) node(n parse.Node) error {
	switch n := n.(type) {
	case *parse.TextNode, *parse.CommentNode:
		return nil
	case *parse.ActionNode:
		return w.pipe(n.Pipe)
	case *parse.IfNode:
		if err := w.pipe(n.Pipe); err != nil {
			return err
		}
		if err := w.nodes(n.List); err != nil {
			return err
		}
		return w.nodes(n.ElseList)
	}
	head, _, _ := strings.Cut(n.String(), "}}")
	return fmt.Errorf("%s}} is not for these templates, which have no other control than {{if}}", head)
}

func (w *walk) pipe(p *parse.PipeNode) error {
	if len(p.Decl) > 0 {
		return fmt.Errorf("{{%s}}: variables are not for these templates", p)
	}
	for _, c := range p.Cmds {
		if err := w.command(c); err != nil {
			return fmt.Errorf("{{%s}}: %w", p, err)
		}
	}
	t, err := template.New("expression").Funcs(functions).Parse("{{" + p.String() + "}}")
	if err != nil {
		return plain(err)
	}
	w.pipes = append(w.pipes, t)
	return nil
}

// allowed are the functions that a template may call. Of the other ones that are
// built in some fail for some data, such as index, and one calls what it is given.
var allowed = []string{"and", "or", "not", "eq", "ne", "path", "query"}

func (w *walk) command(c *parse.CommandNode) error {
	args := c.Args
	if isIs(args[0]) {
		return w.is(args[1:])
	}
	for _, arg := range args {
		switch n := arg.(type) {
		case *parse.StringNode, *parse.BoolNode, *parse.NumberNode:
		case *parse.PipeNode:
			if err := w.pipe(n); err != nil {
				return err
			}
		case *parse.IdentifierNode:
			if !slices.Contains(allowed, n.Ident) {
				return fmt.Errorf("%s is not a function of these templates, which are %s", n, strings.Join(allowed, " "))
			}
		case *parse.FieldNode:
			if isIs(n) {
				return w.is(nil)
			}
			if err := field(n.Ident); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s is not for these templates", n)
		}
	}
	return nil
}

func isIs(n parse.Node) bool {
	f, ok := n.(*parse.FieldNode)
	return ok && slices.Equal(f.Ident, []string{"Is"})
}

// is checks the arguments of .Is: the name of a reason, written out.
func (w *walk) is(args []parse.Node) error {
	if len(args) == 1 {
		if s, ok := args[0].(*parse.StringNode); ok && slices.Contains(peal.Reasons(), peal.Reason(s.Text)) {
			if r := peal.Reason(s.Text); !slices.Contains(w.asks, r) {
				w.asks = append(w.asks, r)
			}
			return nil
		}
	}
	return fmt.Errorf(".Is wants one of %q, and parentheses around both where it is not alone", peal.Reasons())
}

// field checks that facts have a text, or a true or false, of a name.
func field(names []string) error {
	of := reflect.TypeFor[facts]()
	for i, name := range names {
		if of.Kind() != reflect.Struct {
			return fmt.Errorf(".%s has no fields", strings.Join(names[:i], "."))
		}
		f, ok := of.FieldByName(name)
		if !ok || !f.IsExported() {
			return fmt.Errorf("there is no .%s", strings.Join(names[:i+1], "."))
		}
		of = f.Type
	}
	if of.Kind() == reflect.Struct {
		return fmt.Errorf(".%s is no text, but its fields are", strings.Join(names, "."))
	}
	return nil
}

// samples are events on which templates are tried: one that says no more than it
// must, one that says everything, and one that says everything as nobody would
// expect.
func samples() []peal.TicketEvent {
	at := peal.EventTime{Timestamp: peal.NewTimestamp(time.Date(2025, 7, 10, 13, 0, 0, 0, time.UTC))}
	least := peal.TicketEvent{
		ID: "1", OccurredAt: at,
		Ticket: peal.Ticket{ID: "1", Number: "INC-1", Title: "VPN"},
	}
	most := peal.TicketEvent{
		ID: "2", OccurredAt: at,
		Actor: &peal.EventActor{Actor: peal.Actor{ID: "user-abc", Name: "Jane Smith"}},
		Ticket: peal.Ticket{
			ID: "12345", Number: "INC-2024-001234", Title: "VPN Connection Issue",
			Category: "Network", Priority: "high", Status: "open", AssigneeID: peal.UserRef{ID: "user-1"},
		},
		PreviousStatus: "open", NewStatus: "pending", MergedInto: "67890",
		Comment:  peal.EventComment{ID: "c1", Text: "See the log."},
		Approval: peal.EventApproval{ID: "a1", Decision: "approved"},
		SLA:      peal.EventSLA{Type: "response", Target: at},
	}
	odd := most
	const nasty = `/ //a\b "c" 'd' <e> {{f}} %zz ?g=#h&i ü 😀`
	odd.Actor = &peal.EventActor{Actor: peal.Actor{ID: nasty, Name: nasty}}
	odd.Ticket = peal.Ticket{
		ID: nasty, Number: nasty, Title: nasty, Category: nasty, Priority: nasty, Status: nasty, AssigneeID: peal.UserRef{ID: nasty},
	}
	odd.PreviousStatus, odd.NewStatus, odd.MergedInto = nasty, nasty, nasty
	odd.Comment = peal.EventComment{ID: nasty, Text: nasty + "\n\t" + nasty, Internal: true}
	odd.Approval = peal.EventApproval{ID: nasty, Decision: "rejected"}
	odd.SLA = peal.EventSLA{Type: "resolution", Target: at}
	return []peal.TicketEvent{least, most, odd}
}
