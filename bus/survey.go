package bus

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Survey is how the streams and buckets of the region are, as their leaders have
// told of late.
type Survey struct {
	Streams []StreamState // those that feeds need first, then by name; buckets last

	Queue     Backlog
	QueueSeen time.Time // when that was so; zero if it was never seen
	QueueErr  error     // why the latest look at it failed; nil if it did not

	// Clock is how far the clock of NATS is ahead of this process's, at least
	// within ClockWithin. Both are 0 if it was not seen.
	Clock, ClockWithin time.Duration
}

// StreamState is how a stream is, or that of a bucket.
type StreamState struct {
	Name   string // of a bucket, its own
	Bucket bool
	Seen   time.Time // when the leader told what follows; zero if it never did
	Lack   Lack      // why the latest question was not answered by it; "" if it was
	Since  time.Time // of the lack; zero without one

	Messages, Bytes uint64
	MaxBytes        int64     // 0: no bound
	Refuses         bool      // what is new, when it is full; else the oldest are dropped
	Memory          bool      // it is in no file
	Oldest, Newest  time.Time // zero if it is empty
	Leader          string    // "" for a server alone
	Copies          int       // that it is to have, the leader's among them
	Replicas        []Replica // but for the leader
}

// Replica is a copy of a stream that does not lead.
type Replica struct {
	Server  string
	Current bool          // it has what the leader had of late
	Offline bool          // its server is not there
	Lag     uint64        // operations that it is behind
	Active  time.Duration // since it was heard of last
}

// replicasOf tells of the replicas that do not lead, by their names.
func replicasOf(c *jetstream.ClusterInfo) (all []Replica) {
	for _, r := range c.Replicas {
		all = append(all, Replica{Server: r.Name, Current: r.Current, Offline: r.Offline, Lag: r.Lag, Active: r.Active})
	}
	slices.SortFunc(all, func(a, b Replica) int { return strings.Compare(a.Server, b.Server) })
	return all
}

// Lack is why a stream's leader does not answer.
type Lack string

const (
	LacksAnswer Lack = "no answer" // within 2 s
	LacksLeader Lack = "no leader" // another says so
	LacksStream Lack = "not there"
	LacksRight  Lack = "refused" // an error of another kind
)

const (
	surveyEvery    = 2 * time.Second // at most
	surveyPatience = 2 * time.Second
	surveyAtOnce   = 16 // questions
)

// surveys keeps the latest survey.
type surveys struct {
	mu    sync.Mutex // protects the rest
	last  Survey
	began time.Time
	under chan struct{} // closed when the one under way ends; nil if none is
}

// Survey looks at the streams of the region, at most every 2 s. It returns when all
// have answered, or when ctx ends: then with what it knows by then.
func (b *Bus) Survey(ctx context.Context) Survey {
	s := &b.surveys
	s.mu.Lock()
	if s.last.Streams == nil {
		s.last.Streams = b.streamsToSurvey()
	}
	if s.under == nil && time.Since(s.began) >= surveyEvery && !b.isClosing() {
		s.began, s.under = time.Now(), make(chan struct{})
		b.done.Go(b.survey)
	}
	under := s.under
	s.mu.Unlock()
	if under != nil {
		select {
		case <-under:
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.last
	now.Streams = slices.Clone(now.Streams)
	return now
}

// streamsToSurvey names the streams of the region, and its buckets.
func (b *Bus) streamsToSurvey() (all []StreamState) {
	l := b.layout()
	for _, cfg := range l.streams() {
		all = append(all, StreamState{Name: cfg.Name})
	}
	order := []string{eventStream(queue(l.region)), inboxStream(l.region, 0), stateStream(l.region, 0)}
	rank := func(s StreamState) int {
		i := slices.IndexFunc(order, func(o string) bool { return kindOf(o) == kindOf(s.Name) })
		if i < 0 {
			return len(order)
		}
		return i
	}
	slices.SortStableFunc(all, func(a, b StreamState) int { return rank(a) - rank(b) })
	for _, cfg := range l.buckets() {
		all = append(all, StreamState{Name: cfg.Bucket, Bucket: true})
	}
	return all
}

// kindOf is what the name of a stream says of its kind: PEAL_INBOX.
func kindOf(stream string) string {
	parts := strings.SplitN(stream, "_", 3)
	return strings.Join(parts[:min(2, len(parts))], "_")
}

// survey asks for every stream at once, and for the queue.
func (b *Bus) survey() {
	ctx, cancel := context.WithTimeout(b.life, surveyPatience)
	defer cancel()
	s := &b.surveys
	s.mu.Lock()
	streams := slices.Clone(s.last.Streams)
	s.last.Clock, s.last.ClockWithin = 0, 0
	s.mu.Unlock()

	var asking sync.WaitGroup
	turns := make(chan struct{}, surveyAtOnce)
	for i, was := range streams {
		asking.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			is, ahead, within := b.askStream(ctx, was)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.last.Streams[i] = is
			if within > 0 && (s.last.ClockWithin == 0 || within < s.last.ClockWithin) {
				s.last.Clock, s.last.ClockWithin = ahead, within
			}
		})
	}
	asking.Go(func() {
		all, err := b.lookAtQueues(ctx, func(queue, map[int]uint64) error { return nil })
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.last.QueueErr = err; err == nil {
			s.last.Queue, s.last.QueueSeen = all, time.Now()
		}
	})
	asking.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.under)
	s.under = nil
}

// askStream asks the leader of a stream how it is, and what time it is there.
func (b *Bus) askStream(ctx context.Context, was StreamState) (is StreamState, ahead, within time.Duration) {
	lacks := func(why Lack) (StreamState, time.Duration, time.Duration) {
		if was.Lack == "" {
			was.Since = time.Now()
		}
		was.Lack = why
		return was, 0, 0
	}
	stream := was.Name
	if was.Bucket {
		stream = bucketStream(was.Name)
	}
	asked := time.Now()
	msg, err := b.read.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+stream, nil)
	if err != nil {
		return lacks(LacksAnswer)
	}
	took := time.Since(asked)
	var answer struct {
		Error *jetstream.APIError `json:"error"`
		jetstream.StreamInfo
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return lacks(LacksRight)
	}
	if answer.Error != nil {
		switch answer.Error.ErrorCode {
		case jetstream.JSErrCodeStreamNotFound:
			return lacks(LacksStream)
		case errCodeNoLeader:
			return lacks(LacksLeader)
		}
		return lacks(LacksRight)
	}
	if answer.Cluster != nil && answer.Cluster.Leader == "" {
		return lacks(LacksLeader) // a copy says so, which knows no more than what it has
	}
	is = StreamState{
		Name: was.Name, Bucket: was.Bucket, Seen: time.Now(),
		Messages: answer.State.Msgs, Bytes: answer.State.Bytes, MaxBytes: max(answer.Config.MaxBytes, 0),
		Refuses: answer.Config.Discard == jetstream.DiscardNew,
		Memory:  answer.Config.Storage == jetstream.MemoryStorage,
		Copies:  max(answer.Config.Replicas, 1),
	}
	if is.Messages > 0 {
		is.Oldest, is.Newest = answer.State.FirstTime, answer.State.LastTime
	}
	if c := answer.Cluster; c != nil {
		is.Leader, is.Replicas = c.Leader, replicasOf(c)
	}
	if at := answer.TimeStamp; !at.IsZero() {
		ahead, within = at.Sub(asked.Add(took/2)), took/2+time.Millisecond
	}
	return is, ahead, within
}

// errCodeNoLeader is the server's JSClusterNotAvailErr: the leader of all streams
// answers it, for a stream that has none.
const errCodeNoLeader jetstream.ErrorCode = 10008

// Link is a connection of this process to NATS.
type Link struct {
	Purpose string // live, read, write
	Up      bool
	Since   time.Time // it is up, or away
	Server  string    // the name of the server that it is connected to; "" while it is away
}

// Links tells of the connections to NATS.
func (b *Bus) Links() []Link {
	var all []Link
	for _, c := range []struct {
		purpose string
		nc      *nats.Conn
	}{{"live", b.live}, {"read", b.read}, {"write", b.write}} {
		l := Link{Purpose: c.purpose, Up: c.nc.IsConnected(), Server: c.nc.ConnectedServerName()}
		l.Since = b.health.since(whatConnection(c.purpose), b.began)
		all = append(all, l)
	}
	return all
}

// Lost is something of NATS that does not answer this process.
type Lost struct {
	What  string    // such as "stream NAME"
	Since time.Time // zero if nobody knows
}

// Lost tells what does not answer, but for connections, the oldest first.
func (b *Bus) Lost() []Lost {
	all := b.health.all()
	all = slices.DeleteFunc(all, func(l Lost) bool { return strings.HasPrefix(l.What, whatConnection("")) })
	for _, p := range b.publishers() {
		if p.stall.silent.Load() {
			all = append(all, Lost{What: "publishing to stream " + p.stall.stream})
		}
	}
	return all
}

// Writable returns why the JetStream in this process can't store anything at this
// moment; nil if it can, or if there is none in this process.
func (b *Bus) Writable() error { return b.writable() }
