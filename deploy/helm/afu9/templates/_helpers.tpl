{{- define "afu9.name" -}}
{{- if contains "afu9" .Release.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-afu9" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "afu9.labels" -}}
app.kubernetes.io/name: afu9
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "afu9.meta" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{ include "afu9.labels" . }}
{{- end }}

{{- define "afu9.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "afu9.rights" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "afu9.account" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Slowly in, quickly out: the same for every autoscaler. */}}
{{- define "afu9.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - {type: Percent, value: 100, periodSeconds: 15}
    - {type: Pods, value: 4, periodSeconds: 15}
scaleDown:
  stabilizationWindowSeconds: 300
  policies:
    - {type: Pods, value: 1, periodSeconds: 60}
{{- end }}

{{/* A Deployment and its PodDisruptionBudget. Takes root, role, env, ports, mounts, volumes: lists of what only this role has. */}}
{{- define "afu9.role" -}}
{{- $ := .root }}
{{- $own := index $.Values .role }}
{{- $labels := printf "%s\napp.kubernetes.io/component: %s" (include "afu9.labels" $) .role | fromYaml }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "afu9.name" $ }}-{{ .role }}
  labels:
    {{- include "afu9.meta" $ | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
spec:
  {{- if and (not (kindIs "invalid" $own.replicas)) (not (and (eq .role "worker") $.Values.autoscaling.kind)) }}
  replicas: {{ $own.replicas }}
  {{- end }}
  selector:
    matchLabels: {{- toYaml $labels | nindent 6 }}
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 25%, maxUnavailable: 0}
  template:
    metadata:
      labels: {{- toYaml $labels | nindent 8 }}
      annotations:
        checksum/config: {{ list $.Values.settings $.Values.mcpServers | toJson | sha256sum }}
    spec:
      {{- with $.Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      serviceAccountName: {{ include "afu9.name" $ }}
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: {{ add (int $.Values.settings.AFU9_DRAIN_SECONDS) 10 }}
      securityContext:
        {{- include "afu9.account" $ | nindent 8 }}
        fsGroup: 10001
      topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- toYaml $labels | nindent 14 }}
        {{- end }}
      containers:
        - name: {{ .role }}
          image: {{ include "afu9.image" $ }}
          {{- with $.Values.image.pullPolicy }}
          imagePullPolicy: {{ . }}
          {{- end }}
          args: [{{ .role }}]
          envFrom:
            - configMapRef: {name: {{ include "afu9.name" $ }}}
          env:
            {{- range list "DATABASE_URL" "REDIS_URL" }}
            - name: {{ . }}
              valueFrom: {secretKeyRef: {name: {{ $.Values.secrets.fleet }}, key: {{ . }}}}
            {{- end }}
            {{- with concat .env $own.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            {{- with .ports }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            - {name: metrics, containerPort: {{ $.Values.settings.AFU9_METRICS_PORT }}}
          startupProbe:
            httpGet: {path: /healthz, port: metrics}
            periodSeconds: 2
            failureThreshold: 60
          livenessProbe:
            httpGet: {path: /healthz, port: metrics}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          readinessProbe:
            httpGet: {path: /readyz, port: metrics}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 2
          resources: {{- toYaml $own.resources | nindent 12 }}
          securityContext: {{- include "afu9.rights" $ | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- with .mounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - {name: tmp, emptyDir: {sizeLimit: 256Mi}}
        {{- with .volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "afu9.name" $ }}-{{ .role }}
  labels:
    {{- include "afu9.meta" $ | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- toYaml $labels | nindent 6 }}
{{- end }}
