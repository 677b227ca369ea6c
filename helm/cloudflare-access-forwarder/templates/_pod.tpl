{{/* The pod of a StatefulSet or a Deployment: metadata and spec. */}}
{{- define "forwarder.pod" -}}
metadata:
  labels:
    {{- include "forwarder.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- if not .Values.existingConfigMap.name }}
    checksum/config: {{ include "forwarder.checksum" . }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "forwarder.serviceAccount" . }}
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- include "forwarder.everyPod" . | nindent 2 }}
  containers:
    - name: forwarder
      {{- include "forwarder.everyContainer" . | nindent 6 }}
      args: [run]
      ports:
        - name: admin
          containerPort: {{ include "forwarder.port" . }}
          protocol: TCP
        {{- with include "forwarder.logpushPort" . }}
        - name: logpush
          containerPort: {{ . }}
          protocol: TCP
        {{- end }}
      {{- range $probe, $path := dict "startup" "/livez" "liveness" "/livez" "readiness" "/readyz" }}
      {{ $probe }}Probe:
        httpGet:
          path: {{ $path }}
          port: admin
          scheme: {{ include "forwarder.scheme" $ }}
        {{- toYaml (get $.Values.probes $probe) | nindent 8 }}
      {{- end }}
      {{- with .Values.lifecycle }}
      lifecycle:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "forwarder.volumes" (dict "root" . "config" (include "forwarder.configMap" .) "secret" (include "forwarder.fullname" .)) | nindent 4 }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if include "forwarder.postgres" . }}
  # One node, and if possible one zone, may die.
  topologySpreadConstraints:
    {{- range $key, $unsatisfiable := dict "kubernetes.io/hostname" "DoNotSchedule" "topology.kubernetes.io/zone" "ScheduleAnyway" }}
    - topologyKey: {{ $key }}
      whenUnsatisfiable: {{ $unsatisfiable }}
      maxSkew: 1
      # During an update the old pods do not count.
      matchLabelKeys: [pod-template-hash]
      labelSelector:
        matchLabels:
          {{- include "forwarder.selector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* What the pods of the forwarder and of its Job have in common. */}}
{{- define "forwarder.everyPod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.extraInitContainers }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "forwarder.everyContainer" -}}
image: {{ include "forwarder.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - name: FORWARDER_CONFIG
    value: /etc/forwarder/config.yaml
  {{- if include "forwarder.passesPushesOn" . }}
  - name: POD_IP
    valueFrom:
      fieldRef:
        fieldPath: status.podIP
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: config
    mountPath: /etc/forwarder
    readOnly: true
  # The state is in a subfolder, which the forwarder creates with mode 0700: the mount itself
  # belongs to root.
  - name: state
    mountPath: /var/lib/forwarder
  - name: tmp
    mountPath: /tmp
  {{- if include "forwarder.hasSecrets" . }}
  - name: secrets
    mountPath: {{ .Values.secrets.mountPath }}
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Takes root, and the names of the ConfigMap and of the Secret of secrets.inline. */}}
{{- define "forwarder.volumes" -}}
{{- $values := .root.Values -}}
- name: config
  configMap:
    name: {{ .config }}
    {{- if $values.existingConfigMap.name }}
    items:
      - key: {{ $values.existingConfigMap.key }}
        path: config.yaml
    {{- end }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- if include "forwarder.hasSecrets" .root }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- if $values.secrets.inline }}
      - secret:
          name: {{ .secret }}
      {{- end }}
      {{- with $values.secrets.existingSecret }}
      - secret:
          name: {{ . }}
      {{- end }}
{{- end }}
{{- if include "forwarder.postgres" .root }}
# Lock and control socket of this replica; the journal is in the database.
- name: state
  emptyDir:
    sizeLimit: 64Mi
{{- else if not $values.persistence.enabled }}
- name: state
  emptyDir:
    sizeLimit: {{ $values.persistence.size }}
{{- else if $values.persistence.existingClaim }}
- name: state
  persistentVolumeClaim:
    claimName: {{ $values.persistence.existingClaim }}
{{- end }}
{{- with $values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
