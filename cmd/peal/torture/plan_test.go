//go:build linux

package torture_test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth/issuer"
)

// plan is what the processes of clients and publishers are told: a file, whose name is
// their argument.
type plan struct {
	Dir    string // of the history
	Issuer string // directory of its keys
	URL    string // of the issuer
	Nodes  []node
	Users  []member
	Key    string // of the digests
	Seed   uint64

	// Of clients.
	Devices  []int // of each user
	SlowOnes int   // one in so many devices stops reading when told to
	TokenFor [2]time.Duration
	StaysFor time.Duration // on average, until a device leaves and comes back
	MarksIn  time.Duration // on average, between two marks of a device

	// Of publishers.
	Rate    int // publications a second
	Workers int
	Events  int // in a hundred publications: those that are ticket events
}

// node is where to connect.
type node struct{ Name, Address string }

// member is a user of a tenant.
type member struct {
	Realm, Tenant, ID string
}

// String is what histories call the user. The namespace has the name of the realm.
func (m member) String() string { return m.Tenant + "/" + m.Realm + "/" + m.ID }

// members makes users, each id of which is there in every tenant and namespace.
func members(n int) []member {
	all := make([]member, n)
	for i := range all {
		p := placements[i%len(placements)]
		all[i] = member{p.Realm, p.Tenant, fmt.Sprint("user-", i/len(placements))}
	}
	return all
}

// seal is what makes a notification that of its owner, and of nobody else: part of
// its title.
func (p *plan) seal(m member, number int, publication string) string {
	mac := hmac.New(sha256.New, []byte(p.Key))
	fmt.Fprintf(mac, "%v\n%d\n%s", m, number, publication)
	return strconv.Itoa(number) + ":" + hex.EncodeToString(mac.Sum(nil)[:10])
}

// unseal finds in a title which of a user's notifications it is. The error says whose
// it may be.
func (p *plan) unseal(m member, title, publication string) (number int, err error) {
	for part := range strings.FieldsSeq(title) {
		digits, _, _ := strings.Cut(part, ":")
		n, err := strconv.Atoi(digits)
		if err == nil && hmac.Equal([]byte(part), []byte(p.seal(m, n, publication))) {
			return n, nil
		}
	}
	return 0, fmt.Errorf("publication %s, which is not theirs: %q", publication, title)
}

func readPlan(file string) (*plan, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p := new(plan)
	return p, json.Unmarshal(b, p)
}

// minter mints tokens.
type minter struct{ issuer *issuer.Issuer }

func (p *plan) minter() (minter, error) {
	i, err := openIssuer(p.Issuer, p.URL)
	return minter{i}, err
}

// header is that of a request of a user.
func (m minter) header(who member, ttl time.Duration, roles ...string) (http.Header, error) {
	token, err := m.issuer.Mint(who.Realm, issuer.Claims{Subject: who.ID, Tenants: []peal.Tenant{peal.Tenant(who.Tenant)}, Roles: roles, TTL: ttl})
	return http.Header{"Authorization": {"Bearer " + token}, "Realmname": {who.Realm}, "X-Tenantid": {who.Tenant}}, err
}

// api is the base of the service's paths.
const api = "/api/v2/ticketing"

// obey calls do for each line of standard input and prints what it returns, until the
// input ends: with the process that has started this one.
func obey(do func(verb, rest string) string) {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		verb, rest, _ := strings.Cut(in.Text(), " ")
		fmt.Println(do(verb, rest))
	}
}

// crew is goroutines that end together.
type crew struct {
	sync.WaitGroup
	stop chan struct{}
	once sync.Once
}

func newCrew() *crew { return &crew{stop: make(chan struct{})} }

func (c *crew) end() {
	c.once.Do(func() { close(c.stop) })
	c.Wait()
}

// over reports whether the crew has ended after a pause, or before.
func (c *crew) over(pause time.Duration) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-c.stop:
		return true
	case <-t.C:
		return false
	}
}

// some is a random part of a time.
func some(r *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(r.Int64N(max(int64(d), 1)))
}

// roles are what this binary can be besides a test: by its first argument.
var roles = map[string]func(*plan) error{"clients": runClients, "publisher": runPublisher}

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && roles[os.Args[1]] != nil {
		p, err := readPlan(os.Args[2])
		if err == nil {
			err = roles[os.Args[1]](p)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
