package peal

import "slices"

// Type is a type of notification.
type Type string

// The types. What each is for and who is told is in the API contract.
const (
	Assignment       Type = "assignment"
	Reassignment     Type = "reassignment"
	StatusChange     Type = "statusChange"
	Comment          Type = "comment"
	Mention          Type = "mention"
	SLAWarning       Type = "slaWarning"
	SLABreach        Type = "slaBreach"
	Approval         Type = "approval"
	ApprovalDecision Type = "approvalDecision"
	Escalation       Type = "escalation"
	Merge            Type = "merge"
	Resolution       Type = "resolution"
	Reopened         Type = "reopened"
	WatchAdded       Type = "watchAdded"
)

// types maps every type to its default priority, in the contract's order.
var types = []struct {
	t Type
	p Priority
}{
	{Assignment, High},
	{Reassignment, Medium},
	{StatusChange, Medium},
	{Comment, Medium},
	{Mention, High},
	{SLAWarning, High},
	{SLABreach, Urgent},
	{Approval, High},
	{ApprovalDecision, Medium},
	{Escalation, High},
	{Merge, Low},
	{Resolution, Medium},
	{Reopened, Medium},
	{WatchAdded, Low},
}

// Types lists the types, in the contract's order.
func Types() []Type {
	ts := make([]Type, len(types))
	for i, row := range types {
		ts[i] = row.t
	}
	return ts
}

// Valid reports whether t is one of Types.
func (t Type) Valid() bool { return t.DefaultPriority() != "" }

// DefaultPriority is the priority of a notification whose publisher names
// none; "" for what is not a type.
func (t Type) DefaultPriority() Priority {
	for _, row := range types {
		if row.t == t {
			return row.p
		}
	}
	return ""
}

// byStrength lists the types, the strongest first, in the contract's order.
var byStrength = []Type{
	SLABreach, Escalation, Approval, Mention, Assignment, Reassignment, SLAWarning,
	ApprovalDecision, Resolution, Reopened, StatusChange, Comment, Merge, WatchAdded,
}

// StrongerThan reports whether a user whom one event concerns as t and as u is told
// of it as t. Both are of Types. No type is stronger than itself.
func (t Type) StrongerThan(u Type) bool {
	return slices.Index(byStrength, t) < slices.Index(byStrength, u)
}

// Priority is how much a notification matters.
type Priority string

// The priorities, from the lowest.
const (
	Low    Priority = "low"
	Medium Priority = "medium"
	High   Priority = "high"
	Urgent Priority = "urgent"
)

// Priorities lists the priorities, from the lowest.
func Priorities() []Priority { return []Priority{Low, Medium, High, Urgent} }

// Valid reports whether p is one of Priorities.
func (p Priority) Valid() bool { return p.rank() >= 0 }

// rank is the place of p among Priorities; -1 for what is none.
func (p Priority) rank() int { return slices.Index(Priorities(), p) }
