{{- /* What the schema can't say: the messages name the key. */}}
{{- define "peal.checks" -}}
{{- $v := .Values -}}
{{- $full := include "peal.fullname" . -}}
{{- if not (regexMatch `^[a-z]([-a-z0-9]*[a-z0-9])?$` $full) -}}
  {{- fail (printf "%q, of the release and nameOverride, can't be the name of a Service: set fullnameOverride to one of lower case letters, digits and -, with a letter first" $full) -}}
{{- end -}}
{{- with regexFind `-(ensure|internal|edge|dispatch|realms|dashboard)$` $full -}}
  {{- fail (printf "%q ends as the chart's own names do, so that objects of a release %q would be called the same: set fullnameOverride to one that does not end in %s" $full (trimSuffix . $full) .) -}}
{{- end -}}
{{- range $key, $instead := fromYaml (include "peal.owned" .) -}}
  {{- if hasKey $v.config $key -}}
    {{- fail (printf "config.%s: the chart sets it by itself: %s" $key $instead) -}}
  {{- end -}}
{{- end -}}
{{- include "peal.bounds" . -}}
{{- if and $v.existingRealms.configMap (or $v.realms $v.tenants) -}}
  {{- fail "realms and existingRealms.configMap exclude each other: keep the one that holds the realms" -}}
{{- end -}}
{{- /* Not in the schema, whose messages show the value. */ -}}
{{- range $i, $url := $v.nats.urls -}}
  {{- if contains "@" $url -}}
    {{- fail (printf "nats.urls.%d: has a user or password: put it into a Secret and name that in nats.urlsSecret" $i) -}}
  {{- end -}}
  {{- if not (regexMatch `^(nats|tls|ws|wss)://[^/?#, ]+$` $url) -}}
    {{- fail (printf "nats.urls.%d: must be a URL such as tls://n1.example.com:4222" $i) -}}
  {{- end -}}
{{- end -}}
{{- if and $v.nats.urls $v.nats.urlsSecret.name -}}
  {{- fail "nats.urls and nats.urlsSecret.name exclude each other: the Secret would win" -}}
{{- end -}}
{{- if and $v.tls.secretName (or $v.ingress.enabled $v.httpRoute.enabled) -}}
  {{- fail "tls.secretName: Ingress and HTTPRoute speak plain HTTP to the pods: use ingress.tlsSecretName, or the Gateway's listener" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
  {{- fail (printf "autoscaling.minReplicas: %d is more than autoscaling.maxReplicas, %d" (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- if and $v.service.externalTrafficPolicy (eq $v.service.type "ClusterIP") -}}
  {{- fail "service.externalTrafficPolicy: is of the types LoadBalancer and NodePort" -}}
{{- end -}}
{{- end }}

{{- /* Keys of the configuration file that are not for config:, and what is in their place. */}}
{{- define "peal.owned" -}}
listen: see service.port
admin: it is always port 8081 of the pod, and a network policy keeps others away
tls-cert: see tls.secretName
tls-key: see tls.secretName
data: see embedded.persistence
nats: see nats.urls and nats.urlsSecret
nats-creds: see nats.credsSecret
nats-ca: see nats.tls.caSecret
nats-cert: see nats.tls.certSecret
nats-key: see nats.tls.certSecret
nats-listen: see embedded.natsListen
realms: see realms and existingRealms
region: see region
roles: see mode
{{- end }}

{{- /* Times that peal refuses at its start: it would be a pod at night that says so. */}}
{{- define "peal.bounds" -}}
{{- $config := .Values.config -}}
{{- with $config.heartbeat -}}
  {{- $seconds := include "peal.time" (list . "config.heartbeat") | float64 -}}
  {{- if or (lt $seconds 1.0) (gt $seconds 60.0) -}}
    {{- fail (printf "config.heartbeat: %s must be 1s to 1m" .) -}}
  {{- end -}}
{{- end -}}
{{- with $config.retain -}}
  {{- if lt (include "peal.time" (list . "config.retain") | float64) 60.0 -}}
    {{- fail (printf "config.retain: %s must be at least 1m" .) -}}
  {{- end -}}
{{- end -}}
{{- with index $config "max-connection-age" -}}
  {{- $seconds := include "peal.time" (list . "config.max-connection-age") | float64 -}}
  {{- if and (gt $seconds 0.0) (lt $seconds 60.0) -}}
    {{- fail (printf "config.max-connection-age: %s must be at least 1m; 0 is without a bound" .) -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{- /* Seconds of a duration of Go, such as 1m30s, rounded up. Called as peal.time is. */}}
{{- define "peal.seconds" -}}
{{- ceil (include "peal.time" . | float64) | int -}}
{{- end }}

{{- /*
Seconds of a duration of Go, with what is less than one. Called with a list: the value, and
the key to name if it is none.
*/}}
{{- define "peal.time" -}}
{{- $text := index . 0 | toString -}}
{{- if eq $text "0" -}}
0
{{- else -}}
{{- if not (regexMatch `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$` $text) -}}
  {{- fail (printf "%s: %q must be a duration such as 30s or 1m30s" (index . 1) $text) -}}
{{- end -}}
{{- $units := dict "ns" 0.000000001 "us" 0.000001 "µs" 0.000001 "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll `[0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h)` $text -1 -}}
  {{- $number := regexFind `^[0-9.]+` . -}}
  {{- $sum = addf $sum (mulf (float64 $number) (get $units (trimPrefix $number .))) -}}
{{- end -}}
{{- printf "%.9f" $sum -}}
{{- end -}}
{{- end }}

{{- /* How long a pod may take to end, in seconds. The defaults are those of peal. */}}
{{- define "peal.grace" -}}
{{- $t := .Values.termination -}}
{{- $delay := include "peal.seconds" (list (dig "drain-delay" "5s" .Values.config) "config.drain-delay") | int -}}
{{- $window := include "peal.seconds" (list (dig "drain-window" "30s" .Values.config) "config.drain-window") | int -}}
{{- $needed := add $t.preStopSeconds $delay $window $t.marginSeconds | int -}}
{{- $grace := int $t.gracePeriodSeconds -}}
{{- if and $grace (lt $grace $needed) -}}
  {{- fail (printf "termination.gracePeriodSeconds: %d is less than a pod needs: %d for preStopSeconds, drain-delay, drain-window and marginSeconds. Who is killed leaves its users' slots taken for 45 s" $grace $needed) -}}
{{- end -}}
{{- $grace | default $needed -}}
{{- end }}

{{- /*
Nine tenths of a memory limit, in bytes: the garbage collector then works harder before the
kernel kills. Nothing where there is no limit, or one that is written in another way.
*/}}
{{- define "peal.memory" -}}
{{- $text := . | toString -}}
{{- if regexMatch `^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$` $text -}}
{{- $number := regexFind `^[0-9.]+` $text -}}
{{- $units := dict "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 -}}
{{- printf "%.0f" (floor (mulf (float64 $number) (get $units (trimPrefix $number $text)) 0.9)) -}}
{{- end -}}
{{- end }}
