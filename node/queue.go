package node

import (
	"fmt"
	"net/http"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

const maxMembers = 5000

// membership is the body of PUT …/queue/{queueId}. A list that is not given is none:
// nobody empties a queue by leaving something out.
type membership struct {
	Members []peal.UserRef `json:"members"` // nil: not given
}

// setQueue answers PUT …/queue/{queueId}: it remembers who the members of a queue
// are, instead of those it had, for events that name it from then on.
func (n *Node) setQueue(w http.ResponseWriter, r *request) error {
	queue := r.params.ByName("queueId")
	if err := peal.CheckID("queueId", queue); err != nil {
		return err
	}
	var body membership
	caller, refused, err := n.identify(w, r, auth.Publish, &body)
	if err != nil {
		return err
	}
	if err := body.validate(); err != nil {
		return err
	}
	if refused != nil {
		return refused
	}
	t := caller.Inbox.Tenant
	members, err := inboxes(n.verifier.Directory(), t, "members", body.Members)
	if err != nil {
		return err
	}
	if err := n.sighted(); err != nil {
		return err
	}
	if err := n.bus.SetQueue(r.Context(), t, queue, members); err != nil {
		return err
	}
	distinct := make(map[peal.Inbox]bool)
	for _, in := range members {
		distinct[in] = true
	}
	return answerJSON(w, http.StatusOK, queueSize{len(distinct)})
}

// queueSize is the answer of setQueue.
type queueSize struct {
	Members int `json:"members"`
}

// validate holds the body against the bounds, as far as that needs no caller.
func (m membership) validate() error {
	if m.Members == nil {
		return peal.Invalid("members", "must be given, if only as an empty list")
	}
	if len(m.Members) > maxMembers {
		return peal.Invalid("members", fmt.Sprintf("must be at most %d", maxMembers))
	}
	return checkUsers("members", m.Members)
}
