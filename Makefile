# Everything here needs Go, make and git; `race` a C compiler too, `web` and
# `web-check` Node.js and npm, `e2e` these, Chromium, promtool, nginx, HAProxy and
# systemd, `k8s-e2e` etcd and Linux, and `image` a builder (it says which). Nothing else is
# assumed.

SHELL := bash
.DEFAULT_GOAL := help

# Pinned, so that the same tree gives the same verdict everywhere.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
HELM := helm.sh/helm/v3/cmd/helm@v3.22.0
# Has the types of ServiceMonitor and PrometheusRule that a server takes. It is the newest whose
# files the proxy of modules has; the newer Go types of helm/test are another module.
PROMETHEUS_OPERATOR := github.com/prometheus-operator/prometheus-operator@v0.85.0
# Where the vulnerability database is; empty means where govulncheck looks.
VULNDB ?=

# The oldest Node.js that web and e2e take: below it eventsource 4 does not want to run,
# and oidc-provider 9 cannot. The latter calls 22 the oldest that it supports.
NODE := 20
# The browser of e2e: Chromium, by whatever name it has here.
CHROMIUM ?= chromium
# What tries the alerts, and the proxies of e2e.
PROMTOOL ?= promtool
NGINX    ?= nginx
HAPROXY  ?= haproxy
# What the API server of k8s-e2e stores in.
ETCD ?= etcd
# A folder for screenshots of the bell, to be looked at; empty keeps those of what fails.
SHOTS ?=

# How long each fuzz target runs.
FUZZTIME ?= 30s

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BIN     ?= bin/peal
IMAGE   ?= ghcr.io/pealhq/peal
TAG     ?= $(VERSION)

.PHONY: help
help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: dev
dev: build ## run all of peal in one process: ARGS='--listen 127.0.0.1:9090'
	@exec $(BIN) dev $(ARGS)

.PHONY: test
test: ## run all tests
	go test -p 3 ./...

.PHONY: race
race: ## run all tests with the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race -timeout 20m ./...

# Fails, and says so, where there is no Node.js that is new enough.
have_node = [[ $$(node -p 'parseInt(process.versions.node)' 2>/dev/null) -ge $(NODE) ]] && npm --version >/dev/null 2>&1 || \
	{ echo "$@: please install Node.js $(NODE) or later, and npm; here is $$(node --version 2>/dev/null || echo none)" >&2; exit 1; }

# What it makes is part of the tree, so that `go build` alone is enough.
.PHONY: web
web: ## make the browser client again, after a change in web/src or node/openapi.yaml (needs Node.js and npm)
	@$(have_node)
	cd web && npm ci && npm run build

.PHONY: web-check
web-check: ## check and test the browser client, and that it is made of its sources (needs Node.js and npm)
	@$(have_node)
	cd web && npm ci && npm run check

# A module of its own: see cmd/peal/e2e/doc.go.
.PHONY: e2e
e2e: export PATH := $(PATH):/usr/sbin
e2e: build ## run other people's clients, issuer and proxies, the bell in a browser, and the alerts, against the binary: SHOTS=folder (needs Node.js, npm, Chromium, promtool, nginx, HAProxy and systemd)
	@$(have_node)
	@for tool in '$(CHROMIUM)' '$(PROMTOOL)' '$(NGINX)' '$(HAPROXY)' systemd-analyze; do command -v "$$tool" >/dev/null || \
		{ echo "e2e: please install Chromium, promtool (of Prometheus), nginx, haproxy and systemd, or say CHROMIUM=FILE and so on; there is no $$tool" >&2; exit 1; }; done
	cd cmd/peal/e2e && npm ci
	go -C cmd/peal/e2e test -count=1 ./... -args -peal $(abspath $(BIN)) -chromium '$(CHROMIUM)' -promtool '$(PROMTOOL)' -nginx '$(NGINX)' -haproxy '$(HAPROXY)' $(if $(SHOTS),-shots '$(abspath $(SHOTS))')

# A module of its own: see helm/test/doc.go.
.PHONY: helm-check
helm-check: build ## lint and render the Helm chart, and look at what comes out
	@GOBIN=$(CURDIR)/bin/tools go install $(HELM)
	go -C helm/test test -count=1 ./... -args -helm $(CURDIR)/bin/tools/helm -peal $(abspath $(BIN))

# No part of .ci/run: to build Kubernetes takes minutes, and gigabytes of Go's caches. What is
# built is in helm/k8s/go.mod, and says its version, by which Helm judges it.
.PHONY: k8s-e2e
k8s-e2e: build ## show the Helm chart to a real Kubernetes API server, and install, upgrade, roll back and uninstall it there (needs etcd, and minutes the first time)
	@command -v '$(ETCD)' >/dev/null || { echo "k8s-e2e: please install etcd (apt-get install etcd-server), or say ETCD=FILE; there is no $(ETCD)" >&2; exit 1; }
	@GOBIN=$(CURDIR)/bin/tools go install $(HELM)
	go -C helm/k8s mod tidy -diff
	@version=$$(go -C helm/k8s list -m -f '{{.Version}}' k8s.io/kubernetes) && echo "k8s-e2e: Kubernetes $$version" && \
		GOBIN=$(CURDIR)/bin/tools CGO_ENABLED=0 go -C helm/k8s install -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$version" tool
	@go mod download $(PROMETHEUS_OPERATOR)
	go -C helm/test test -tags k8s -count=1 -timeout 20m -v -run '^TestServer' ./... -args -helm $(CURDIR)/bin/tools/helm -peal $(abspath $(BIN)) \
		-etcd '$(ETCD)' -kube-apiserver $(CURDIR)/bin/tools/kube-apiserver -kubectl $(CURDIR)/bin/tools/kubectl \
		-gateway-api "$$(go -C helm/test list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)" -prometheus-operator "$$(go env GOMODCACHE)/$(PROMETHEUS_OPERATOR)"

# How long a model test runs, and its seed; 0 chooses one. Without
# the race detector, for more connections: `make race` runs it too, for 6 s.
TIME ?= 10m
SEED ?= 0

.PHONY: model
model: ## run the model test of the feed for long: TIME=10m SEED=…
	go test -run '^TestModel$$' -count 1 -v -timeout 0 ./bus -model.time $(TIME) -model.seed $(SEED)

.PHONY: list-model
list-model: ## run the model test of lists of tickets for long: TIME=10m SEED=…
	go test -run '^TestListModel$$' -count 1 -v -timeout 0 ./node -list.time $(TIME) -list.seed $(SEED)

# The size of the test of kills.
EVENTS  ?= 10000
TICKETS ?= 200

.PHONY: kills
kills: ## kill workers, nodes and NATS while events are sent: EVENTS=10000 TICKETS=200 SEED=…
	go test -run '^TestEventsSurviveKills$$' -count 1 -v -timeout 0 ./cmd/peal -kill.events $(EVENTS) -kill.tickets $(TICKETS) -kill.pause 2s -kill.seed $(SEED)

# The size of a run of faults.
USERS       ?= 500
CONNECTIONS ?= 1500
RATE        ?= 200
EVERY       ?= 15s
FAULTS      ?=

# As root, with iproute2 and nftables, each process has a network of its own.
.PHONY: torture
torture: ## let everything break that may, in a cluster of processes: TIME=5m SEED=… USERS=500 CONNECTIONS=1500 RATE=200 EVERY=15s FAULTS='node killed,…'
	go test -run '^TestTorture$$' -count 1 -v -timeout 0 ./cmd/peal/torture -torture.time $(TIME) -torture.seed $(SEED) \
		-torture.users $(USERS) -torture.connections $(CONNECTIONS) -torture.rate $(RATE) -torture.every $(EVERY) -torture.faults '$(FAULTS)'

ROUNDS ?= 50

.PHONY: limit
limit: ## connect 200 devices of a user at once to a cluster, and have 10,000 vanish: ROUNDS=50
	go test -run '^TestLimit$$' -count 1 -v -timeout 0 ./cmd/peal/torture -limit.rounds $(ROUNDS)

NATS_TOOL ?= github.com/nats-io/natscli/nats@v0.5.1

.PHONY: regions
regions: ## kill one of two regions under load, and promote the other by the commands of docs/multi-region.md (needs jq)
	@command -v jq >/dev/null || { echo "regions: please install jq" >&2; exit 1; }
	@test -x bin/tools/nats || GOBIN=$(abspath bin/tools) go install $(NATS_TOOL)
	PEAL_TEST_REGIONS=1 PATH="$(abspath bin/tools):$$PATH" go test -run '^TestRegionsUnderLoad$$' -count 1 -v -timeout 0 ./cmd/peal

.PHONY: inbox-model
inbox-model: ## run the model test of list, count and read state for long: TIME=10m SEED=…
	go test -run '^TestInboxModel$$' -count 1 -v -timeout 0 ./bus -model.time $(TIME) -model.seed $(SEED)

# One "package target" line for each fuzz target of the tree.
fuzz_list = go test -list '^Fuzz' ./... | \
	awk '/^Fuzz/ { name[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, name[i]; n = 0 }'

.PHONY: fuzz-list
fuzz-list: ## list the fuzz targets
	@set -o pipefail; $(fuzz_list)

# go test takes one target at a time. Before Go 1.27 it may report the end of
# -fuzztime itself as a failure (https://go.dev/issue/75804): no input, only a
# bare "context deadline exceeded". Then the target's stored inputs decide.
.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME (30s) each
	@set -euo pipefail; \
	list=$$($(fuzz_list)); \
	[[ -n $$list ]] || { echo "fuzz: no targets found" >&2; exit 1; }; \
	out=$$(mktemp); trap 'rm -f "$$out"' EXIT; \
	while read -r pkg name; do \
		echo "fuzz: $$pkg $$name, $(FUZZTIME)"; \
		if go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$pkg" </dev/null 2>&1 | tee "$$out"; then continue; fi; \
		grep -qx '    context deadline exceeded' "$$out" && ! grep -Eq 'Failing input|panic:|fatal error:' "$$out" \
			|| { echo "fuzz: $$name found something" >&2; exit 1; }; \
		echo "fuzz: $$name only met the end of its time (go.dev/issue/75804); its stored inputs again:"; \
		go test -count 1 -run "^$$name\$$" "$$pkg" </dev/null; \
	done <<<"$$list"

# docs/reliability.md tells what they are and how to add one.
.PHONY: mutants
mutants: ## plant bugs, each of which a test must see: MUTANT=name for one, THIRD=0, 1 or 2 for every third
	@set -o pipefail; go test -tags mutants -count=1 -timeout 30m -parallel 4 -v \
		-run '^TestMutants$$$(if $(MUTANT),/^$(MUTANT)$$)' . $(if $(THIRD),-args -mutants.third $(THIRD)) | grep --line-buffered -v '^==='

.PHONY: lint
lint: ## check formatting, vet, staticcheck and the module files
	@files=$$(gofmt -l .); [[ -z $$files ]] || { echo "lint: not formatted (gofmt -w):" $$files >&2; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	go vet -tags mutants .
	go run $(STATICCHECK) -tags mutants .
	go mod tidy -diff
	go mod verify
	go -C cmd/peal/e2e vet ./...
	go -C cmd/peal/e2e run $(STATICCHECK) ./...
	go -C cmd/peal/e2e mod tidy -diff
	go -C helm/test vet ./...
	go -C helm/test run $(STATICCHECK) ./...
	go -C helm/test vet -tags k8s ./...
	go -C helm/test run $(STATICCHECK) -tags k8s ./...
	go -C helm/test mod tidy -diff

# Exit status 3 is a finding. Without its database govulncheck knows nothing,
# which is said and is no failure: a machine without that host can still build.
.PHONY: vuln
vuln: ## look for known vulnerabilities in what is called
	@set -euo pipefail; \
	GOBIN=$(CURDIR)/bin/tools go install $(GOVULNCHECK); \
	err=$$(mktemp); trap 'rm -f "$$err"' EXIT; \
	status=0; bin/tools/govulncheck $(if $(VULNDB),-db $(VULNDB)) ./... 2>"$$err" || status=$$?; \
	cat "$$err" >&2; \
	if [[ $$status == 1 ]] && grep -q 'fetching vulnerabilities' "$$err"; then \
		echo "vuln: NOT CHECKED: the vulnerability database cannot be reached from here"; \
	else \
		exit $$status; \
	fi

.PHONY: build
build: ## build the static binary bin/peal
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN) ./cmd/peal

# The image is for Linux whatever this machine is; GOARCH=arm64 crosses.
.PHONY: image
image: ## build the container image: IMAGE=… TAG=… [GOARCH=…]
	@deploy/image.sh builder >/dev/null
	@mkdir -p dist/image/data
	@GOOS=linux $(MAKE) --no-print-directory build BIN=dist/image/peal
	@chmod 0755 dist/image dist/image/data dist/image/peal # whatever the umask
	deploy/image.sh build $(IMAGE):$(TAG) $(VERSION)

.PHONY: image-check
image-check: ## run the image that was built, as its own user
	deploy/image.sh check $(IMAGE):$(TAG) $(VERSION)
