{{/* What the API server or the worker would refuse is refused here, with what to do. Types are in the schema. */}}
{{- define "forecart.check" -}}
{{- include "forecart.check.given" . -}}
{{- include "forecart.check.labels" . -}}
{{- include "forecart.check.mount" . -}}
{{- include "forecart.check.image" . -}}
{{- include "forecart.check.resources" . -}}
{{- include "forecart.check.topics" . -}}
{{- end -}}

{{- define "forecart.check.given" -}}
{{- $_ := required "bootstrapServers is missing: give Kafka's address, such as --set bootstrapServers=kafka:9092" .Values.bootstrapServers -}}
{{- if not .Values.bundle.volume -}}
{{- $claim := "--set bundle.volume.persistentVolumeClaim.claimName=forecart-bundles" -}}
{{- fail (printf "bundle.volume is missing: say where the model lies, such as %s" $claim) -}}
{{- end -}}
{{- end -}}

{{/* The StatefulSet finds its pods by these labels. */}}
{{- define "forecart.check.labels" -}}
{{- range $name, $value := include "forecart.selector" . | fromYaml -}}
{{- if hasKey $.Values.podLabels $name -}}
{{- fail (printf "podLabels has %s, by which the StatefulSet finds its pods: it is %s, leave it out" $name $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the bundle must not hide, and folders where nothing can be mounted. */}}
{{- define "forecart.check.mount" -}}
{{- $path := clean .Values.bundle.mountPath -}}
{{- $say := printf "bundle.mountPath is %s, which %%s: choose another folder, such as /bundle" .Values.bundle.mountPath -}}
{{- $program := list "/usr" "/bin" "/sbin" "/lib" "/lib64" "/opt/forecart" -}}
{{- $hidden := concat (list "/tmp" "/etc") $program -}}
{{- $closed := list "/proc" "/sys" "/dev" "/etc/forecart/kafka" "/run/secrets" "/var/run/secrets" -}}
{{- range concat $hidden $closed -}}
{{- if hasPrefix (trimSuffix "/" $path | printf "%s/") (printf "%s/" .) -}}
{{- fail (printf $say (printf "would hide %s" .)) -}}
{{- end -}}
{{- end -}}
{{- range $closed -}}
{{- if hasPrefix (printf "%s/" .) $path -}}
{{- fail (printf $say (printf "lies in %s, where nothing can be mounted" .)) -}}
{{- end -}}
{{- end -}}
{{- range $program -}}
{{- if hasPrefix (printf "%s/" .) $path -}}
{{- fail (printf $say (printf "lies in %s, among the program's files" .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Kubernetes drops a volume that it does not know without a word: the pod would find an empty folder. */}}
{{- define "forecart.check.image" -}}
{{- if hasKey .Values.bundle.volume "image" -}}
{{- $version := .Capabilities.KubeVersion.Version -}}
{{- $other := "or put the bundle into another volume, such as a persistentVolumeClaim" -}}
{{- if semverCompare "<1.31-0" $version -}}
{{- fail (printf "bundle.volume.image: Kubernetes %s has no image volumes: take 1.35 or newer, %s" $version $other) -}}
{{- else if and (semverCompare "<1.35-0" $version) (not .Values.bundle.imageVolumes) -}}
{{- fail (printf "bundle.volume.image: Kubernetes %s drops image volumes unless the feature gate ImageVolume is on for API server and kubelets: if it is, --set bundle.imageVolumes=true; else turn it on, %s" $version $other) -}}
{{- else if and (semverCompare "<1.33-0" $version) .Values.bundle.subPath -}}
{{- fail (printf "bundle.subPath: Kubernetes %s cannot mount a folder of an image: take 1.33 or newer, %s" $version $other) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Of devices and large pages none are shared: request and limit are one. */}}
{{- define "forecart.check.resources" -}}
{{- $limits := .Values.resources.limits | default dict -}}
{{- range $name, $asked := .Values.resources.requests -}}
{{- $whole := regexMatch "/|^hugepages-" $name -}}
{{- if hasKey $limits $name -}}
{{- $limit := get $limits $name -}}
{{- $asks := include "forecart.quantity" $asked | float64 -}}
{{- $may := include "forecart.quantity" $limit | float64 -}}
{{- if gt $asks $may -}}
{{- fail (printf "resources.requests.%s is %v, above its limit of %v: lower it, or raise resources.limits.%s" $name $asked $limit $name) -}}
{{- else if and $whole (ne $asks $may) -}}
{{- fail (printf "resources.requests.%s is %v, its limit %v: both must be the same" $name $asked $limit) -}}
{{- end -}}
{{- else if $whole -}}
{{- fail (printf "resources.requests.%s has no limit: give resources.limits.%s the same" $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A quantity of Kubernetes as a number: 0.5, 500m, 2Gi, 1e3. */}}
{{- define "forecart.quantity" -}}
{{- $text := toString . -}}
{{- $number := regexFind "^[0-9.]+([eE][+-]?[0-9]+)?" $text -}}
{{- $units := dict "" 1.0 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 -}}
{{- range $power, $unit := list "Ki" "Mi" "Gi" "Ti" "Pi" "Ei" -}}
{{- $value := 1024.0 -}}
{{- range until $power }}{{ $value = mulf $value 1024.0 }}{{ end -}}
{{- $_ := set $units $unit $value -}}
{{- end -}}
{{- mulf (float64 $number) (get $units (trimPrefix $number $text)) -}}
{{- end -}}

{{/* Each topic has one use; a changelog without a name of its own is named after the group. */}}
{{- define "forecart.check.topics" -}}
{{- $given := .Values.settings -}}
{{- $group := $given.group | default "forecart" -}}
{{- $changelog := $given.changelog_topic | default (printf "%s-changelog" $group) -}}
{{- if not (regexMatch "^[a-zA-Z0-9._-]{1,249}$" $changelog) -}}
{{- fail (printf "settings.group is %q, and %q no name of a changelog topic: name the group by letters, digits, . _ and - (239 at most), or give settings.changelog_topic" $group $changelog) -}}
{{- end -}}
{{- $seen := dict -}}
{{- range $name, $default := dict "events_topic" "events" "scores_topic" "scores" "dead_letters_topic" "dead-letters" "changelog_topic" $changelog "catalog_topic" "" -}}
{{- $topic := get $given $name | default $default -}}
{{- if and $topic (hasKey $seen $topic) -}}
{{- fail (printf "settings.%s and settings.%s name one topic, %s: give each a topic of its own" (get $seen $topic) $name $topic) -}}
{{- end -}}
{{- $_ := set $seen $topic $name -}}
{{- end -}}
{{- end -}}
