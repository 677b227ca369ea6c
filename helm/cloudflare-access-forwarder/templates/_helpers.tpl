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
{{- toYaml (merge $own $given .Values.settings) -}}
{{- end -}}

{{/* What no schema can say in a sentence. */}}
{{- define "forwarder.checks" -}}
{{- $postgres := include "forwarder.postgres" . -}}
{{- $replicas := int (include "forwarder.replicas" .) -}}
{{- if and (gt $replicas 1) (not $postgres) -}}
{{- fail (printf "replicas is %d; with a journal in a file only 1 (or 0, to pause) is possible: every further process would read the same logs and deliver every event again. Set settings.journal.type to postgres for standbys; to spread load, install the chart once for each account." $replicas) -}}
{{- end -}}
{{- if and $postgres .Values.persistence.existingClaim -}}
{{- fail "persistence.existingClaim is set, but with settings.journal.type postgres the journal is in the database and the pods have no volume: remove one of the two" -}}
{{- end -}}
{{- if empty .Values.accounts -}}
{{- fail "accounts is empty: name at least one Cloudflare account, for example --set accounts[0].account_id=ID --set accounts[0].api_token_file=/run/secrets/forwarder/cloudflare-api-token" -}}
{{- end -}}
{{- if empty .Values.sinks -}}
{{- fail "sinks is empty: name at least one destination, for example --set sinks.console.type=stdout" -}}
{{- end -}}
{{- if le (int .Values.terminationGracePeriodSeconds) 25 -}}
{{- fail (printf "terminationGracePeriodSeconds is %d; it must be more than the 25 s in which the forwarder settles what is under way" (int .Values.terminationGracePeriodSeconds)) -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled -}}
{{- fail "serviceMonitor and podMonitor are both enabled: every metric would be scraped twice; choose one" -}}
{{- end -}}
{{- end -}}

{{/* One endpoint of a ServiceMonitor or PodMonitor; takes root and monitor. */}}
{{- define "forwarder.endpoint" -}}
port: admin
path: /metrics
interval: {{ .monitor.interval }}
scrapeTimeout: {{ .monitor.scrapeTimeout }}
scheme: {{ include "forwarder.scheme" .root | lower }}
{{- with .monitor.authorization }}
authorization:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
