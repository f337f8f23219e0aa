{{- define "quadraft-cluster.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "quadraft-cluster.labels" -}}
app.kubernetes.io/name: quadraft
app.kubernetes.io/instance: {{ include "quadraft-cluster.fullname" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
