{{- /*
The pod of a workload, metadata and spec. Called with root, role (edge, dispatch, node or
admin), name (of the workload, and of its ConfigMap) and values (those of the workload).
*/}}
{{- define "peal.pod" -}}
{{- $root := .root -}}
{{- $v := .root.Values -}}
{{- $serves := ne .role "admin" -}}
metadata:
  labels:
    {{- with .values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- if $serves }}
    {{- include "peal.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
    {{- else }}
    # Another name, so that nothing that selects what serves selects this.
    app.kubernetes.io/name: {{ include "peal.name" $root }}-ensure
    app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
    {{- end }}
  {{- if or $serves .values.podAnnotations }}
  annotations:
    {{- with .values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- if $serves }}
    # peal.yaml is read at the start alone. The realms are read again when they change, and
    # are not in this sum: a new tenant restarts nobody.
    checksum/config: {{ include "peal.config" (dict "root" $root "role" .role) | sha256sum }}
  {{- end }}
spec:
  {{- with $v.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.serviceAccountName }}
  serviceAccountName: {{ . | quote }}
  {{- end }}
  automountServiceAccountToken: false
  # A Service that is called peal would otherwise put PEAL_… into the environment, where
  # peal looks for its settings.
  enableServiceLinks: false
  securityContext:
    {{- toYaml $v.podSecurityContext | nindent 4 }}
  {{- with .values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with .values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and $v.spread (or (eq .role "edge") (eq .role "dispatch")) }}
  topologySpreadConstraints:
    {{- range $v.spread }}
    - topologyKey: {{ . | quote }}
      maxSkew: 1
      # A lost zone must not keep its pods from starting in the others.
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "peal.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ $.role }}
      # Pods of an upgrade are spread among themselves, without those that are leaving.
      matchLabelKeys:
        - pod-template-hash
    {{- end }}
  {{- end }}
  {{- if $serves }}
  terminationGracePeriodSeconds: {{ include "peal.grace" $root }}
  {{- else }}
  restartPolicy: Never
  {{- end }}
  containers:
    - name: peal
      image: {{ include "peal.image" $root | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args:
        {{- if $serves }}
        - serve
        {{- else }}
        - admin
        - ensure
        {{- end }}
        - --config
        - /etc/peal/peal.yaml
        {{- if and (eq .role "node") .values.natsListen }}
        # Not in peal.yaml, which peal admin ensure reads too: it takes no such setting.
        - --nats-listen
        - {{ .values.natsListen | quote }}
        {{- end }}
      {{- $memory := include "peal.memory" (dig "limits" "memory" "" .values.resources) }}
      {{- $urls := fromYaml (include "peal.natsSecret" (dict "root" $root "role" .role "what" "urlsSecret")) }}
      {{- $ca := and $serves $v.issuerCA.configMap }}
      {{- $more := ternary $v.env (list) $serves }}
      {{- if or $memory $urls.name $ca $more }}
      env:
        {{- if $urls.name }}
        # In the environment, for they hold passwords, and a ConfigMap is not for those.
        - name: PEAL_NATS
          valueFrom:
            secretKeyRef:
              name: {{ $urls.name | quote }}
              key: {{ $urls.key | quote }}
        {{- end }}
        {{- with $memory }}
        # Nine tenths of the limit, for the kernel counts more than the heap.
        - name: GOMEMLIMIT
          value: {{ . | quote }}
        {{- end }}
        {{- if $ca }}
        - name: SSL_CERT_FILE
          value: /etc/peal/issuer-ca.pem
        {{- end }}
        {{- with $more }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      securityContext:
        {{- toYaml $v.securityContext | nindent 8 }}
      {{- with .values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $serves }}
      ports:
        - name: http
          containerPort: 8080
        - name: admin
          containerPort: 8081
      {{- with int $v.termination.preStopSeconds }}
      # Load balancers take time to hear that a pod leaves. There is no shell in the image,
      # so the kubelet sleeps.
      lifecycle:
        preStop:
          sleep:
            seconds: {{ . }}
      {{- end }}
      startupProbe:
        httpGet:
          path: /livez
          port: admin
        periodSeconds: 2
        # A JetStream of some gigabytes is read first, after a power cut in whole.
        failureThreshold: {{ ternary 300 30 (eq .role "node") }}
      livenessProbe:
        httpGet:
          path: /livez
          port: admin
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      {{- end }}
      volumeMounts:
        - name: files
          mountPath: /etc/peal
          readOnly: true
        {{- if eq .role "node" }}
        - name: data
          mountPath: /data
        {{- end }}
  volumes:
    - {{- include "peal.files" (dict "root" $root "role" .role "config" .name) | nindent 6 }}
{{- end }}
