{{/* Labels of every object. */}}
{{- define "weir.labels" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/part-of: weir
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels of pods: nothing that changes with the chart's version, or pods would be replaced for it. */}}
{{- define "weir.podLabels" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/part-of: weir
{{- end }}

{{- define "weir.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "weir.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default "weir-agent" }}
{{- end }}

{{- define "weir.replacesKubeProxy" -}}
{{- if eq (toString .Values.kubeProxyReplacement) "true" -}}true{{- end -}}
{{- end }}

{{- define "weir.hasWireguardService" -}}
{{- if and .Values.encryption.enabled .Values.encryption.wireguard.userspaceFallback -}}true{{- end -}}
{{- end }}

{{/* What single values cannot be refused for. */}}
{{- define "weir.validate" -}}
{{- if and (include "weir.replacesKubeProxy" .) (not .Values.k8sServiceHost) -}}
{{- fail "kubeProxyReplacement needs k8sServiceHost: the ClusterIP by which pods are told to reach the API server is served by Weir itself, and by nobody before the agent has reached the API server" -}}
{{- end -}}
{{- if and (include "weir.replacesKubeProxy" .) (not .Values.loadBalancer.enabled) -}}
{{- fail "kubeProxyReplacement needs loadBalancer.enabled: without it nobody serves Services" -}}
{{- end -}}
{{- if and .Values.encryption.nodeEncryption (not .Values.encryption.enabled) -}}
{{- fail "encryption.nodeEncryption has no effect without encryption.enabled" -}}
{{- end -}}
{{- if and .Values.encryption.enabled (eq (toString .Values.bpf.hostLegacyRouting) "false") (not (include "weir.replacesKubeProxy" .)) -}}
{{- fail "bpf.hostLegacyRouting: false needs kubeProxyReplacement: answers to connections that kube-proxy translates would pass it by" -}}
{{- end -}}
{{- if and .Values.prometheus.podMonitor.enabled (not .Values.prometheus.enabled) -}}
{{- fail "prometheus.podMonitor needs prometheus.enabled: on the loopback address nobody else reaches the metrics" -}}
{{- end -}}
{{- $encryption := .Values.config.encryption | default dict -}}
{{- if and $encryption.enabled (not .Values.encryption.enabled) -}}
{{- fail "config.encryption.enabled needs encryption.enabled, which gives the pods what encryption takes; to switch it off and keep that, encryption.enabled: true with config.encryption.enabled: false" -}}
{{- end -}}
{{- $balancer := .Values.config.loadBalancer | default dict -}}
{{- if or (hasKey $balancer "enabled") (hasKey $balancer "kubeProxyReplacement") -}}
{{- fail "config.loadBalancer.enabled and config.loadBalancer.kubeProxyReplacement follow from loadBalancer.enabled and kubeProxyReplacement" -}}
{{- end -}}
{{- $metrics := .Values.config.metrics | default dict -}}
{{- if or (hasKey $metrics "enabled") (hasKey $metrics "listen") -}}
{{- fail "config.metrics.enabled and config.metrics.listen: kubelet asks there whether the agent is well, so they follow from prometheus.enabled, prometheus.address and prometheus.port" -}}
{{- end -}}
{{- end }}

{{/* The agent's configuration, as an object. */}}
{{- define "weir.config" -}}
{{- $v := .Values -}}
{{- $acceleration := dict "disabled" "off" "native" "native" "best-effort" "auto" "testing-only" "generic" -}}
{{- $cidr := $v.encryption.strictMode.cidr -}}
{{- $podCidrs := kindIs "slice" $cidr | ternary $cidr (ternary (list $cidr) (list) (not (empty $cidr))) -}}
{{- $strict := dict "enabled" $v.encryption.strictMode.enabled "podCidrs" $podCidrs -}}
{{- $wireguard := dict
      "implementation" (ternary "auto" "kernel" $v.encryption.wireguard.userspaceFallback)
      "persistentKeepalive" $v.encryption.wireguard.persistentKeepalive -}}
{{- $config := dict
      "devices" (dict "uplinks" $v.devices "xdpMode" (get $acceleration $v.loadBalancer.acceleration))
      "loadBalancer" (dict
        "enabled" $v.loadBalancer.enabled
        "kubeProxyReplacement" (eq (include "weir.replacesKubeProxy" .) "true")
        "externalClusterIP" $v.bpf.lbExternalClusterIP)
      "encryption" (dict
        "enabled" $v.encryption.enabled
        "node" $v.encryption.nodeEncryption
        "hostRouting" (ternary "bpf" "kernel" (eq (toString $v.bpf.hostLegacyRouting) "false"))
        "strictMode" $strict
        "wireguard" $wireguard)
      "flows" (dict "enabled" $v.hubble.enabled "capacity" $v.hubble.eventBufferCapacity)
      "metrics" (dict
        "listen" (printf "%s:%d" (ternary ($v.prometheus.address | default "0.0.0.0") "127.0.0.1" $v.prometheus.enabled) (int $v.prometheus.port))
        "allowRemoteWithoutTls" $v.prometheus.enabled)
      "log" (dict "level" (ternary "debug" "info" $v.debug.enabled)) -}}
{{- if $v.k8sServiceHost -}}
{{- $server := dict "host" $v.k8sServiceHost "port" (int $v.k8sServicePort) -}}
{{- $_ := set $config "source" (dict "kubernetes" (dict "apiServer" $server)) -}}
{{- end -}}
{{- mergeOverwrite $config (deepCopy $v.config) | toYaml -}}
{{- end }}

{{/* What pods of all DaemonSets share: the node's network, whatever is wrong with the node. */}}
{{- define "weir.podSpec" -}}
# Otherwise a Service named "weir" makes variables that look like settings.
enableServiceLinks: false
# Interfaces, routes and neighbours are the node's.
hostNetwork: true
# The cluster's DNS is a Service that Weir itself may have to serve first.
dnsPolicy: Default
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Of a container that has root's files and no more of root's privileges than those given. */}}
{{- define "weir.securityContext" -}}
{{- $values := index . 0 -}}
runAsUser: 0
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
{{- with $values.securityContext.seccompProfile }}
seccompProfile:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.securityContext.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
capabilities:
  drop: [ALL]
  add:
    {{- toYaml (rest .) | nindent 4 }}
{{- end }}

{{- define "weir.nodeName" -}}
- name: WEIR_NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}
