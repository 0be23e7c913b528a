module github.com/pealhq/peal/cmd/peal/e2e

go 1.26.0

require (
	github.com/google/go-cmp v0.7.0
	github.com/launchdarkly/eventsource v1.11.0
	github.com/tmaxmax/go-sse v0.12.0
	go.uber.org/goleak v1.3.0
)

require golang.org/x/oauth2 v0.37.0

require go.yaml.in/yaml/v4 v4.0.0
