{{- define "quadraft-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "quadraft-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "quadraft-operator.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "quadraft-operator.selectorLabels" -}}
app.kubernetes.io/name: quadraft-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "quadraft-operator.labels" -}}
{{ include "quadraft-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* What the operator does in a namespace with clusters. */ -}}
{{- define "quadraft-operator.clusterRules" -}}
# Its own resources. It creates clusters for restores and backups for schedules, and deletes the
# backups that a schedule no longer keeps.
- apiGroups: [quadraft.dev]
  resources: [rdfclusters, rdfbackups, rdfbackupschedules, rdfrestores]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [quadraft.dev]
  resources: [rdfclusters/status, rdfbackups/status, rdfbackupschedules/status, rdfrestores/status]
  verbs: [get, update, patch]
- apiGroups: [quadraft.dev]
  resources: [rdfclusters/finalizers, rdfbackups/finalizers, rdfbackupschedules/finalizers, rdfrestores/finalizers]
  verbs: [update]
# What a cluster is made of.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps, serviceaccounts, persistentvolumeclaims]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, update, patch, delete]
# Recovery, backup and restore.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, update, patch, delete]
# Pods are made by others; the operator reads how they ended, and stops one to fence it or to bring
# it to a new version.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete]
# Whether the Service of a cluster leads to its members.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
