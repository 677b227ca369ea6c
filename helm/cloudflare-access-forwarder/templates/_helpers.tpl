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
{{- if gt (int .Values.replicas) 1 -}}
{{- fail (printf "replicas is %d; only 1 (or 0, to pause) is possible: every further process would read the same logs and deliver every event again. To spread load, install the chart once for each account." (int .Values.replicas)) -}}
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
