package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pealhq/peal"
)

// publish answers peal publish: it posts one notification.
func publish(ctx context.Context, c *call) error {
	fs := c.flags()
	t := c.target(fs)
	var to list
	fs.Var(&to, "to", "`USER` to tell; may be repeated")
	namespace := fs.String("namespace", "", "`NAMESPACE` of the users; by default the tenant's")
	n := peal.Notification{}
	fs.StringVar((*string)(&n.Type), "type", string(peal.Assignment), "`TYPE`: "+typeNames())
	fs.StringVar(&n.ID, "id", "", "notification `ID`; one that is repeated is stored once")
	fs.StringVar(&n.TicketID, "ticket", "12345", "ticket `ID`")
	fs.StringVar(&n.TicketNumber, "number", "INC-2024-001234", "ticket `NUMBER`")
	fs.StringVar(&n.Title, "title", "VPN Connection Issue", "`TEXT` of the title")
	fs.StringVar(&n.Message, "message", "", "`TEXT` of the message; by default one that suits the type")
	fs.StringVar((*string)(&n.Priority), "priority", "", "`PRIORITY`: low, medium, high, urgent; by default that of the type")
	fs.StringVar(&n.Category, "category", "", "`TEXT` of the category")
	if err := c.parse(fs, c.args); err != nil {
		return err
	}
	if len(to) == 0 {
		return usagef("--to USER is required")
	}
	if !n.Type.Valid() {
		return usagef("--type must be one of %s", typeNames())
	}
	if n.Message == "" {
		n.Message = fmt.Sprintf("%s: %s", n.Type, n.TicketNumber)
	}
	t.user, t.roles = "peal-publish", []string{rolePublish}
	headers, err := t.resolve()
	if err != nil {
		return err
	}
	header, err := headers(ctx)
	if err != nil {
		return err
	}
	var answer struct {
		ID         string `json:"id"`
		Stored     int    `json:"stored"`
		Duplicates int    `json:"duplicates"`
	}
	body := map[string]any{"recipients": recipients(to, *namespace), "notification": given(n)}
	if err := t.post(ctx, header, "/ticket/notification", body, &answer); err != nil {
		return err
	}
	return printJSON(c.stdout, answer)
}

func recipients(to []string, namespace string) []any {
	all := make([]any, len(to))
	for i, user := range to {
		all[i] = user
		if namespace != "" {
			all[i] = map[string]string{"id": user, "namespace": namespace}
		}
	}
	return all
}

// given is n without what the service is to fill in.
func given(n peal.Notification) map[string]any {
	m := map[string]any{
		"type": n.Type, "ticketId": n.TicketID, "ticketNumber": n.TicketNumber, "title": n.Title, "message": n.Message,
	}
	for key, v := range map[string]string{"id": n.ID, "priority": string(n.Priority), "category": n.Category} {
		if v != "" {
			m[key] = v
		}
	}
	return m
}

func typeNames() string {
	var names []string
	for _, t := range peal.Types() {
		names = append(names, string(t))
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}
