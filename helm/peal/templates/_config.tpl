{{- /*
peal.yaml of one workload: what values say in config, and what the chart sets. Called with
root and role: edge, dispatch, node or admin.
*/}}
{{- define "peal.config" -}}
{{- $v := .root.Values -}}
{{- with $v.config }}
{{- toYaml . }}
{{ end -}}
region: {{ $v.region }}
{{- if ne .role "admin" }}
listen: ":8080"
# Probes and Prometheus reach it there; see networkPolicy.
admin: ":8081"
realms: /etc/peal/realms.yaml
{{- end }}
{{- if eq .role "node" }}
data: /data
{{- else }}
{{- if ne .role "admin" }}
roles: {{ .role }}
{{- end }}
{{- with $v.nats.urls }}
nats:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with fromYaml (include "peal.natsSecret" (dict "root" .root "role" .role "what" "credsSecret")) }}
{{- if .name }}
nats-creds: /etc/peal/nats.creds
{{- end }}
{{- end }}
{{- if $v.nats.tls.caSecret.name }}
nats-ca: /etc/peal/nats-ca.pem
{{- end }}
{{- if $v.nats.tls.certSecret.name }}
nats-cert: /etc/peal/nats-cert.pem
nats-key: /etc/peal/nats-key.pem
{{- end }}
{{- end }}
{{- if and $v.tls.secretName (ne .role "admin") (ne .role "dispatch") }}
tls-cert: /etc/peal/tls.crt
tls-key: /etc/peal/tls.key
{{- end }}
{{- end }}

{{- /*
The Secret, and its key, as which a role comes to NATS: name and key, the name empty where
there is none. Called with root, role, and what: urlsSecret or credsSecret.
*/}}
{{- define "peal.natsSecret" -}}
{{- $all := get .root.Values.nats .what -}}
{{- if eq .role "admin" -}}
{{- $own := get .root.Values.nats.admin .what -}}
name: {{ default $all.name $own.name | quote }}
key: {{ $own.key | quote }}
{{- else if eq .role "node" -}}
name: ""
{{- else -}}
name: {{ $all.name | quote }}
key: {{ get $all (printf "%sKey" .role) | quote }}
{{- end -}}
{{- end }}

{{- /* The realms file. */}}
{{- define "peal.realms" -}}
realms:
  {{- toYaml .Values.realms | nindent 2 }}
{{- with .Values.tenants }}
tenants:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /*
/etc/peal: one volume of all files, which the kubelet replaces as a whole. Called with root,
role, and config: the name of the ConfigMap with peal.yaml.
*/}}
{{- define "peal.files" -}}
{{- $v := .root.Values -}}
name: files
projected:
  # Read by the group of the pod, which is peal's own.
  defaultMode: 0440
  sources:
    - configMap:
        name: {{ .config }}
        items:
          - key: peal.yaml
            path: peal.yaml
    {{- if ne .role "admin" }}
    - configMap:
        name: {{ default (printf "%s-realms" (include "peal.fullname" .root)) $v.existingRealms.configMap | quote }}
        items:
          - key: {{ ternary $v.existingRealms.key "realms.yaml" (ne $v.existingRealms.configMap "") | quote }}
            path: realms.yaml
    {{- with $v.issuerCA.configMap }}
    - configMap:
        name: {{ . | quote }}
        items:
          - key: {{ $v.issuerCA.key | quote }}
            path: issuer-ca.pem
    {{- end }}
    {{- end }}
    {{- if ne .role "node" }}
    {{- with fromYaml (include "peal.natsSecret" (dict "root" .root "role" .role "what" "credsSecret")) }}
    {{- if .name }}
    - secret:
        name: {{ .name | quote }}
        items:
          - key: {{ .key | quote }}
            path: nats.creds
    {{- end }}
    {{- end }}
    {{- with $v.nats.tls.caSecret }}
    {{- if .name }}
    - secret:
        name: {{ .name | quote }}
        items:
          - key: {{ .key | quote }}
            path: nats-ca.pem
    {{- end }}
    {{- end }}
    {{- with $v.nats.tls.certSecret }}
    {{- if .name }}
    - secret:
        name: {{ .name | quote }}
        items:
          - key: {{ .certKey | quote }}
            path: nats-cert.pem
          - key: {{ .keyKey | quote }}
            path: nats-key.pem
    {{- end }}
    {{- end }}
    {{- end }}
    {{- if and $v.tls.secretName (ne .role "admin") (ne .role "dispatch") }}
    - secret:
        name: {{ $v.tls.secretName | quote }}
        items:
          - key: tls.crt
            path: tls.crt
          - key: tls.key
            path: tls.key
    {{- end }}
{{- end }}
