{{- /* What the objects of a release are called. */}}
{{- define "peal.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | include "peal.trim" -}}
{{- end }}

{{- /* 40 characters leave room for a suffix, and for the hash that Kubernetes gives a pod. */}}
{{- define "peal.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | include "peal.trim" -}}
{{- else if contains (include "peal.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | include "peal.trim" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "peal.name" .) | trunc 40 | include "peal.trim" -}}
{{- end -}}
{{- end }}

{{- /* A text without the dashes and dots that cutting it may leave at its end. */}}
{{- define "peal.trim" -}}
{{- regexReplaceAll `[-.]+$` . "" -}}
{{- end }}

{{- /* The workload that answers clients. */}}
{{- define "peal.public" -}}
{{- ternary "node" "edge" (eq .Values.mode "embedded") -}}
{{- end }}

{{- /* What a release selects its pods by. */}}
{{- define "peal.selector" -}}
app.kubernetes.io/name: {{ include "peal.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "peal.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "peal.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "peal.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end }}
