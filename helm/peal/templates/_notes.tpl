{{- /* What Helm prints after an installation. A template of its own, so that it can be tested. */}}
{{- define "peal.notes" -}}
{{- $full := include "peal.fullname" . -}}
{{- $url := "" -}}
{{- $away := false -}}
{{- if .Values.ingress.enabled -}}
  {{- /* Tokens go by https; where its certificate is, each proxy has its own ways to say. */ -}}
  {{- $url = printf "https://%s" (first .Values.ingress.hosts | replace "*" "www") -}}
{{- else if and .Values.httpRoute.enabled .Values.httpRoute.hostnames -}}
  {{- $url = printf "https://%s" (first .Values.httpRoute.hostnames) -}}
{{- else -}}
  {{- $away = true -}}
  {{- $url = printf "%s://localhost:8080" (ternary "https" "http" (ne .Values.tls.secretName "")) -}}
{{- end -}}
{{- $realm := "REALM" -}}
{{- $tenant := "TENANT" -}}
{{- with .Values.realms -}}
  {{- $realm = (first .).name -}}
  {{- range . -}}
    {{- if and (eq $tenant "TENANT") (kindIs "slice" .tenants) -}}
      {{- $realm = .name -}}
      {{- $tenant = first .tenants -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
peal doctor --through {{ $url }} --realm {{ $realm }} --tenant {{ $tenant }}

says what a client meets on its way here, and what to do about it; with PEAL_TOKEN in its
environment also whether events come at once, and whether anything cuts what is silent.
{{- if $away }} Nothing
leads here from outside yet, so first:

    kubectl -n {{ .Release.Namespace }} port-forward service/{{ $full }} 8080:{{ int64 .Values.service.port }}
{{- end }}

What the pods stand on, from within one:

    kubectl -n {{ .Release.Namespace }} exec {{ ternary (printf "statefulset/%s" $full) (printf "deployment/%s-edge" $full) (eq .Values.mode "embedded") }} -- /peal doctor --config /etc/peal/peal.yaml

The status page, then at http://localhost:8081/:

    kubectl -n {{ .Release.Namespace }} port-forward {{ ternary (printf "statefulset/%s" $full) (printf "deployment/%s-edge" $full) (eq .Values.mode "embedded") }} 8081
{{- if and .Values.ingress.enabled (eq .Values.ingress.preset "traefik") }}

Traefik hands events on at once, unless a buffering middleware is on the way, and cuts none as long
as entryPoints.NAME.transport.respondingTimeouts.writeTimeout is 0, its default.
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.adminFrom) }}

The network policy lets a Prometheus of this namespace in, and no other: networkPolicy.adminFrom.
{{- end }}
{{- if eq .Values.mode "embedded" }}

One pod has everything: while it is away, nothing is served. Its volume stays when the release is
uninstalled.
{{- end }}
{{- end }}
