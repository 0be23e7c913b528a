package bench

import (
	"math"
	"time"
)

// schedule says what is published when, and to whom: posts go to the groups of
// users in turn, by the clock, whatever became of the posts before. A post is
// known by its number; all posts of one group to it are its rounds.
type schedule struct {
	users int     // told
	group int     // users told by one post; the last group may have fewer
	rate  float64 // notifications a second: a post is one for each user of its group
	posts int
}

// newSchedule plans posts for a duration: all that are due before its end.
func newSchedule(users, group int, rate float64, d time.Duration) schedule {
	s := schedule{users: users, group: min(group, users), rate: rate}
	notifications := math.Ceil(rate * d.Seconds())
	rounds := int(notifications) / users
	rest := int(notifications) % users
	s.posts = rounds*s.groups() + (rest+s.group-1)/s.group
	return s
}

// groups is how many groups the users are in.
func (s schedule) groups() int { return (s.users + s.group - 1) / s.group }

// place returns which group a post is for, and which of the group's posts it
// is, from 0.
func (s schedule) place(post int) (group, round int) {
	return post % s.groups(), post / s.groups()
}

// post returns the number of a group's post; false if it is not planned.
func (s schedule) post(group, round int) (int, bool) {
	n := round*s.groups() + group
	return n, n < s.posts
}

// members returns the users of a group: from first to before end.
func (s schedule) members(group int) (first, end int) {
	return group * s.group, min((group+1)*s.group, s.users)
}

// due returns when a post is to be published, from the begin of the schedule.
func (s schedule) due(post int) time.Duration {
	group, round := s.place(post)
	before := round*s.users + group*s.group // notifications
	return time.Duration(float64(before) / s.rate * float64(time.Second))
}

// notifications is how many one user or another is told of, altogether.
func (s schedule) notifications() int {
	group, rounds := s.place(s.posts)
	return rounds*s.users + min(group*s.group, s.users)
}
