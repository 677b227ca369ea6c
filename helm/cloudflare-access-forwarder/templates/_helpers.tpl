{{- define "forwarder.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 52 characters: a StatefulSet's pods carry a label with this name and a hash. */}}
{{- define "forwarder.fullname" -}}
{{- $name := include "forwarder.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "forwarder.selector" -}}
app.kubernetes.io/name: {{ include "forwarder.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "forwarder.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "forwarder.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of a pod that no selector of the forwarder may find; takes root and suffix. */}}
{{- define "forwarder.besides" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "forwarder.name" .root | trunc 55 | trimSuffix "-" }}-{{ .suffix }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Takes the weight of a hook that runs before an install or upgrade. */}}
{{- define "forwarder.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{- define "forwarder.inline" -}}
{{- range $key, $text := .Values.secrets.inline }}
{{ $key }}: {{ $text | toString | b64enc | quote }}
{{- end }}
{{- end -}}

{{/* Not empty if the journal is in PostgreSQL, so that several replicas may run. */}}
{{- define "forwarder.postgres" -}}
{{- if eq (default dict .Values.settings.journal).type "postgres" }}yes{{ end -}}
{{- end -}}

{{/* What kubectl is given for a pod of the forwarder. */}}
{{- define "forwarder.target" -}}
{{- $name := include "forwarder.fullname" . -}}
{{- if include "forwarder.postgres" . }}deployment/{{ $name }}{{ else }}{{ $name }}-0{{ end -}}
{{- end -}}

{{/* The ConfigMap with the settings file. */}}
{{- define "forwarder.configMap" -}}
{{- default (include "forwarder.fullname" .) .Values.existingConfigMap.name -}}
{{- end -}}

{{- define "forwarder.replicas" -}}
{{- if not (kindIs "invalid" .Values.replicas) -}}
{{- int .Values.replicas -}}
{{- else -}}
{{- ternary 2 1 (not (empty (include "forwarder.postgres" .))) -}}
{{- end -}}
{{- end -}}

{{- define "forwarder.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "forwarder.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "forwarder.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "forwarder.port" -}}
{{- regexFind "[0-9]+$" .Values.settings.admin.listen -}}
{{- end -}}

{{/* The port of the receiver of Logpush; empty if the settings have none. */}}
{{- define "forwarder.logpushPort" -}}
{{- with .Values.settings.logpush }}{{ regexFind "[0-9]+$" .listen }}{{ end -}}
{{- end -}}

{{/* Not empty if a replica may get pushes that another one owns. */}}
{{- define "forwarder.passesPushesOn" -}}
{{- if and (include "forwarder.postgres" .) (include "forwarder.logpushPort" .) }}yes{{ end -}}
{{- end -}}

{{- define "forwarder.scheme" -}}
{{- ternary "HTTPS" "HTTP" (not (empty .Values.settings.admin.tls)) -}}
{{- end -}}

{{- define "forwarder.hasSecrets" -}}
{{- if or .Values.secrets.existingSecret .Values.secrets.inline }}yes{{ end -}}
{{- end -}}

{{/* The forwarder's settings file. */}}
{{- define "forwarder.settings" -}}
{{- $own := dict "version" 1 "state_dir" "/var/lib/forwarder/state" -}}
{{- $given := dict "accounts" .Values.accounts "sinks" .Values.sinks -}}
{{- $default := dict -}}
{{- if include "forwarder.postgres" . -}}
{{- $journal := dict "fleet" (printf "%s/%s" .Release.Namespace .Release.Name) -}}
{{- /* Where every revision is the first (Argo CD), the database keeps the order by itself. */ -}}
{{- if gt (int .Release.Revision) 1 -}}
{{- $_ := set $journal "settings_generation" (int .Release.Revision) -}}
{{- end -}}
{{- $_ := set $default "journal" $journal -}}
{{- end -}}
{{- if include "forwarder.passesPushesOn" . -}}
{{- $_ := set $default "logpush" (dict "peer" (dict "host" "${POD_IP}")) -}}
{{- end -}}
{{- toYaml (merge $own $given (deepCopy .Values.settings) $default) -}}
{{- end -}}

{{/* What a new pod is needed for. Secrets are no part of it: their files are read again. */}}
{{- define "forwarder.checksum" -}}
{{- $settings := include "forwarder.settings" . | fromYaml -}}
{{- if .Values.settings.reload_on_change -}}
{{- $fixed := pick $settings "version" "state_dir" "admin" "logpush" "tracing" -}}
{{- $journal := omit (default dict $settings.journal) "settings_generation" -}}
{{- $settings = merge $fixed (dict "journal" $journal "log" (pick (default dict $settings.log) "format")) -}}
{{- end -}}
{{- toYaml $settings | sha256sum -}}
{{- end -}}

{{/* Bytes of `2GiB`, `8Gi` or `500MB`; nothing if it is no size. */}}
{{- define "forwarder.bytes" -}}
{{- $units := dict "" 1 "K" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $text := . | toString -}}
{{- if regexMatch "^[0-9.]+ ?[KMGT]?i?B?$" $text -}}
{{- $unit := regexFind "[KMGT]i?" $text -}}
{{- mulf (regexFind "^[0-9.]+" $text | float64) (get $units $unit) | int64 -}}
{{- end -}}
{{- end -}}

{{/* An Ingress that leads to one port of a Service; takes root, name, port and ingress. */}}
{{- define "forwarder.ingress" -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "forwarder.labels" .root | nindent 4 }}
  {{- with .ingress.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- if .ingress.tlsSecret }}
  tls:
    - hosts: [{{ .ingress.host | quote }}]
      secretName: {{ .ingress.tlsSecret }}
  {{- end }}
  rules:
    - host: {{ .ingress.host | quote }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {{ .name }}
                port:
                  name: {{ .port }}
{{- end -}}

{{/* Where the runbook can be read: the address of the values, or the status page's behind its Ingress. */}}
{{- define "forwarder.runbook" -}}
{{- if .Values.prometheusRule.runbook -}}
{{- .Values.prometheusRule.runbook -}}
{{- else if .Values.ingress.enabled -}}
https://{{ .Values.ingress.host }}/runbook
{{- end -}}
{{- end -}}

{{/* One endpoint of a ServiceMonitor or PodMonitor; takes root and monitor. */}}
{{- define "forwarder.endpoint" -}}
port: admin
path: /metrics
interval: {{ .monitor.interval }}
scrapeTimeout: {{ .monitor.scrapeTimeout }}
scheme: {{ include "forwarder.scheme" .root | lower }}
{{- with .monitor.relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.authorization }}
authorization:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
