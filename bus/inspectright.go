package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Right is something that a NATS user has to be allowed, and whether it is.
type Right struct {
	Kind    RightKind
	Subject string
	Err     error // nil: allowed; an ErrNotPermitted; or why it is not known
}

// RightKind is what a right is needed for.
type RightKind string

// The kinds, in the order in which Rights tells of them.
const (
	RightAsk     RightKind = "ask JetStream"  // for streams and consumers
	RightRead    RightKind = "read"           // what is stored
	RightListen  RightKind = "listen"         // to what is live
	RightPublish RightKind = "publish"        // what is to be stored
	RightWork    RightKind = "work on events" // pull and settle them
	RightDurable RightKind = "keep durable subscriptions"
	RightCreate  RightKind = "create streams" // only where one is missing
	RightAgain   RightKind = "create the bucket of connection slots again"
	RightPurge   RightKind = "purge" // for who erases a user or a tenant
)

// Unprobed are the subjects on which a process has to be allowed to publish though
// Rights can't find out: whoever listens would act on what comes there.
func (i *Inspector) Unprobed() []string {
	return []string{subject("purged", string(i.cfg.Region)), subject(keyRevoked)}
}

// Rights finds out what a process may do that answers clients and publishers (edge),
// that works on ticket events (dispatch), or both. Nothing is stored or changed by
// it: what is published names a stream that does not exist as the one it is for, or
// says nothing to whoever hears it, and requests lack what would make them do
// something.
func (i *Inspector) Rights(ctx context.Context, edge, dispatch bool) []Right {
	p := probes{inspector: i, region: i.cfg.Region, revoked: i.cfg.revokedBucket(i.cfg.Region), partitions: i.partitions(ctx)}
	p.common()
	if edge {
		p.edge(ctx)
	}
	if dispatch {
		p.dispatch()
	}
	p.request(RightCreate, "STREAM.CREATE."+eventStream(queue(p.region)), "{}") // of a stream of another name
	p.request(RightAgain, "STREAM.CREATE."+bucketStream(limitBucket(p.region)), "{}")
	return slices.Concat(p.requests(ctx), p.unheard(ctx), p.listen(ctx))
}

// Tokens of what does not exist: a tenant is never of zeros alone.
const nobody, nothing = "00000000-0000-0000-0000-000000000000", "doctor"

// foreign names no stream. Whatever is published for it is refused before it is
// stored.
const foreign = "PEAL_DOCTOR_NOWHERE"

// probes are what is to be found out.
type probes struct {
	inspector  *Inspector
	region     Region
	revoked    string // bucket
	partitions int

	asked    []Right // with requests, by index
	messages []*nats.Msg
	heard    []string // subjects to listen on
	quiet    []silent // what nobody answers
}

// silent is something to publish that nobody answers, and that nobody acts on.
type silent struct {
	kind          RightKind
	subject, body string
}

// say publishes something that nobody answers.
func (p *probes) say(kind RightKind, subject, body string) {
	p.quiet = append(p.quiet, silent{kind, subject, body})
}

// request asks JetStream for something that it refuses.
func (p *probes) request(kind RightKind, call, body string) {
	msg := nats.NewMsg("$JS.API." + call)
	msg.Data = []byte(body)
	p.ask(kind, msg)
}

// publish publishes something that no stream takes.
func (p *probes) publish(subject string) {
	msg := nats.NewMsg(subject)
	msg.Header.Set(jetstream.ExpectedStreamHeader, foreign)
	p.ask(RightPublish, msg)
}

func (p *probes) ask(kind RightKind, msg *nats.Msg) {
	p.asked, p.messages = append(p.asked, Right{Kind: kind, Subject: msg.Subject}), append(p.messages, msg)
}

// common is what every process needs.
func (p *probes) common() {
	r := string(p.region)
	for n := range p.partitions {
		p.request(RightAsk, "STREAM.INFO."+inboxStream(p.region, n), "")
		p.publish(subject("inbox", r, strconv.Itoa(n), nobody, nothing, escape(nothing)))
		p.read(inboxStream(p.region, n))
	}
	p.read(erasedStream(p.region))
	p.read(deadStream(p.region))
	p.request(RightWork, "STREAM.MSG.DELETE."+deadStream(p.region), "{") // of none
	p.read(bucketStream(prefBucket(p.region)))
	p.read(bucketStream(p.revoked))
	p.publish(keySubject(p.revoked, nothing))
	p.publish(subject("event", r, nobody, escape(nothing)))
	p.say(RightPublish, subject("roll", r), "") // a call that wants no answer
	p.heard = append(p.heard, subject("purged", r), subject(keyRevoked), subject("roll", r), subject("claimed", r))
}

// read asks any replica of a stream, and its leader, for a message that is not there.
func (p *probes) read(stream string) {
	p.request(RightRead, "DIRECT.GET."+stream, `{"seq":1,"next_by_subj":"peal.doctor"}`)
	p.request(RightRead, "DIRECT.GET."+stream+".peal.doctor", "")
	p.readLeader(stream)
}

func (p *probes) readLeader(stream string) {
	p.request(RightRead, "STREAM.MSG.GET."+stream, `{"last_by_subj":"peal.doctor"}`)
}

// edge is what who answers clients and publishers needs besides.
func (p *probes) edge(ctx context.Context) {
	r := string(p.region)
	p.read(ticketStream(p.region))
	p.read(bucketStream(limitBucket(p.region)))
	p.say(RightPublish, subject("claimed", r), "") // which names no claim
	p.publish(subject("erased", r))
	for _, bucket := range []string{prefBucket(p.region), queueBucket(p.region), limitBucket(p.region)} {
		p.publish(keySubject(bucket, nothing))
	}
	for _, stream := range []string{bucketStream(prefBucket(p.region)), bucketStream(queueBucket(p.region)), deadStream(p.region)} {
		p.purge(stream)
	}
	for n := range p.partitions {
		p.read(stateStream(p.region, n))
		p.purge(inboxStream(p.region, n))
		p.purge(stateStream(p.region, n))
		p.durables(inboxStream(p.region, n), subject("inbox", r, strconv.Itoa(n), nobody, nothing, escape(nothing)))
		p.publish(subject("state", r, strconv.Itoa(n), nobody, nothing, escape(nothing)))
		p.live(ctx, inboxStream(p.region, n), subject("live", r, strconv.Itoa(n)), nobody+"."+nothing+"."+escape(nothing))
		p.live(ctx, stateStream(p.region, n), subject("livestate", r, strconv.Itoa(n)), nobody+"."+nothing+"."+escape(nothing))
	}
	p.durables(ticketStream(p.region), subject("ticket", r, nobody))
	p.live(ctx, ticketStream(p.region), subject("liveticket", r), nobody)
}

// purge asks for what can't be had: no more than so many to be left, and those before a
// sequence.
func (p *probes) purge(stream string) {
	p.request(RightPurge, "STREAM.PURGE."+stream, `{"filter":"peal.doctor","seq":1,"keep":1}`)
}

// durables is what durable subscriptions need of a stream, if there may be any. There is no consumer of that
// name; nor would it be changed if there were.
func (p *probes) durables(stream, filter string) {
	if p.inspector.cfg.Durables < 0 {
		return
	}
	name := stream + "." + nothing
	p.request(RightDurable, "CONSUMER.INFO."+name, "")
	p.request(RightDurable, "CONSUMER.CREATE."+name+"."+filter, "{}") // for no stream
	p.request(RightDurable, "CONSUMER.DELETE."+name, "{")             // which must be empty
	p.request(RightDurable, "CONSUMER.LIST."+stream, "{")
	p.say(RightDurable, "$JS.API.CONSUMER.RESET."+name, "{") // only a consumer itself answers
	p.say(RightDurable, "$JS.ACK."+name+".0.0.0.0.0", "+WPI")
}

// live is the subject on which what a stream stores under a key is heard.
func (p *probes) live(ctx context.Context, stream, before, key string) {
	p.heard = append(p.heard, liveSubject(before, p.epoch(ctx, stream), key))
}

// epoch is that of a stream, or one that could be.
func (p *probes) epoch(ctx context.Context, stream string) Epoch {
	var info jetstream.StreamInfo
	_ = p.inspector.api(ctx, "STREAM.INFO."+stream, &info) // which is a finding of its own
	if e := info.Config.Metadata[metaEpoch]; len(e) == epochLen {
		return Epoch(e)
	}
	return newEpoch()
}

// dispatch is what who works on ticket events needs besides.
func (p *probes) dispatch() {
	stream := eventStream(queue(p.region))
	p.request(RightAsk, "STREAM.INFO."+stream, "")
	p.readLeader(stream)
	p.request(RightWork, "STREAM.MSG.DELETE."+stream, "{") // of none
	p.request(RightWork, "CONSUMER.LIST."+stream, "{")
	p.readLeader(bucketStream(queueBucket(p.region)))
	p.publish(subject("ticket", string(p.region), nobody))
	p.publish(subject("dead", string(p.region), nobody))
	for n := range workPartitions {
		name := workConsumer(n)
		p.request(RightAsk, "CONSUMER.INFO."+stream+"."+name, "")
		p.request(RightWork, "CONSUMER.CREATE."+stream+"."+name+"."+workFilter(queue(p.region), n), "{}") // for no stream
		p.request(RightWork, "CONSUMER.MSG.NEXT."+stream+"."+name, "{")                                   // which asks for nothing
	}
	p.say(RightWork, "$JS.ACK."+stream+"."+workConsumer(0)+".0.0.0.0.0", "+WPI") // of no message
}

// requests makes them all at once.
func (p *probes) requests(ctx context.Context) []Right {
	var asking sync.WaitGroup
	for n, msg := range p.messages {
		asking.Go(func() {
			// Where nothing of that name is there, it was not refused.
			if _, err := p.inspector.ask(ctx, msg); !errors.Is(err, nats.ErrNoResponders) {
				p.asked[n].Err = err
			}
		})
	}
	asking.Wait()
	return p.asked
}

// unheard publishes what nobody answers: what can be seen is that the server does not
// refuse it, which it would say before it answers a flush. Nothing else may be asked
// meanwhile.
func (p *probes) unheard(ctx context.Context) []Right {
	nc, rights := p.inspector.nc, make([]Right, len(p.quiet))
	for n, q := range p.quiet {
		r := Right{Kind: q.kind, Subject: q.subject}
		if r.Err = nc.Publish(q.subject, []byte(q.body)); r.Err == nil {
			r.Err = p.flush(ctx)
		}
		if refused := nc.LastError(); refused != nil && strings.Contains(refused.Error(), strconv.Quote(q.subject)) {
			r.Err = fmt.Errorf("%w to publish to %s", ErrNotPermitted, q.subject)
		}
		rights[n] = r
	}
	return rights
}

func (p *probes) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.inspector.cfg.Timeout)
	defer cancel()
	return p.inspector.nc.FlushWithContext(ctx)
}

// listen subscribes to what is live, where nothing will come.
func (p *probes) listen(ctx context.Context) []Right {
	nc := p.inspector.nc
	rights := make([]Right, len(p.heard))
	subs := make([]*nats.Subscription, len(p.heard))
	for n, s := range p.heard {
		rights[n] = Right{Kind: RightListen, Subject: s}
		if subs[n], rights[n].Err = nc.SubscribeSync(s); rights[n].Err == nil {
			defer subs[n].Unsubscribe()
		}
	}
	// What the server says to a subscription comes before its answer to a flush.
	flushed := p.flush(ctx)
	for n, sub := range subs {
		if rights[n].Err != nil {
			continue
		}
		if rights[n].Err = flushed; flushed != nil {
			continue
		}
		if _, err := sub.NextMsg(time.Millisecond); errors.Is(err, nats.ErrPermissionViolation) {
			rights[n].Err = fmt.Errorf("%w to subscribe to %s", ErrNotPermitted, rights[n].Subject)
		}
	}
	return rights
}
