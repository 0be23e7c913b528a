package bench

import (
	"testing"
	"time"
)

func TestSchedulePlansWhatIsDueInTime(t *testing.T) {
	for _, tt := range []struct {
		name          string
		users, group  int
		rate          float64
		d             time.Duration
		posts         int
		notifications int
		last          time.Duration // the last post is due
	}{
		{"one each", 4, 1, 10, time.Second, 10, 10, 900 * time.Millisecond},
		{"more users than notifications", 1000, 1, 10, time.Second, 10, 10, 900 * time.Millisecond},
		{"groups", 4, 2, 10, time.Second, 5, 10, 800 * time.Millisecond},
		{"a smaller last group", 5, 2, 10, time.Second, 6, 10, 900 * time.Millisecond},
		{"a post goes to its whole group", 4, 4, 10, time.Second, 3, 12, 800 * time.Millisecond},
		{"a group of more than all", 3, 100, 3, time.Second, 1, 3, 0},
		{"part of a notification is one", 1, 1, 3, 500 * time.Millisecond, 2, 2, time.Second / 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSchedule(tt.users, tt.group, tt.rate, tt.d)
			if s.posts != tt.posts || s.notifications() != tt.notifications {
				t.Errorf("%d posts, %d notifications, want %d and %d", s.posts, s.notifications(), tt.posts, tt.notifications)
			}
			if got := s.due(s.posts - 1); got.Round(time.Millisecond) != tt.last.Round(time.Millisecond) {
				t.Errorf("the last is due after %v, want %v", got, tt.last)
			}
			told := make(map[int]int) // user → notifications
			sum := 0
			for post := range s.posts {
				group, round := s.place(post)
				if again, planned := s.post(group, round); again != post || !planned {
					t.Errorf("post %d is round %d of group %d, which is post %d, planned: %v", post, round, group, again, planned)
				}
				if post > 0 && s.due(post) <= s.due(post-1) {
					t.Errorf("post %d is due at %v, the one before at %v", post, s.due(post), s.due(post-1))
				}
				first, end := s.members(group)
				for user := first; user < end; user++ {
					if told[user] != round {
						t.Errorf("post %d is round %d for user %d, who was told %d times", post, round, user, told[user])
					}
					told[user]++
					sum++
				}
			}
			if sum != tt.notifications {
				t.Errorf("users were told %d times, want %d", sum, tt.notifications)
			}
			if group, round := s.place(s.posts); true {
				if _, planned := s.post(group, round); planned {
					t.Errorf("a post after the last is planned")
				}
			}
		})
	}
}
