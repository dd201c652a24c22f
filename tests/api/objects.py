"""A realistic set of objects, one of each kind that the platform uses, written as people write them.

Spellings that a server rewrites are on purpose: 1000m, 1024Mi, stringData, empty values, a null timestamp.
"""

from platformlib.kube import parse
from platformlib.kube.objects import Object

TEXT = """
apiVersion: v1
kind: Namespace
metadata: {name: $ns, creationTimestamp: null}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: $ns}
value: 1000
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: $ns}
provisioner: rancher.io/local-path
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: $ns}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web, namespace: $ns, annotations: {}}
data: {empty: "", date: 2024-01-01, text: "a\\nb\\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: web, namespace: $ns}
type: Opaque
stringData: {password: not-to-be-seen}
data: {user: YWRtaW4=}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: $ns}
rules:
- {apiGroups: [""], resources: [nodes, pods], verbs: [get, list, watch]}
- {nonResourceURLs: [/metrics], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: $ns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: $ns}
subjects: [{kind: ServiceAccount, name: web, namespace: $ns}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: web, namespace: $ns}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: web, namespace: $ns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: web}
subjects: [{kind: ServiceAccount, name: web, namespace: $ns}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: web, namespace: $ns}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: $ns
  resources: {requests: {storage: 1024Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: $ns}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http, name: http}]
---
apiVersion: v1
kind: Service
metadata: {name: base, namespace: $ns}
spec:
  clusterIP: None
  selector: {app: base}
  ports: [{port: 9090}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: $ns}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, creationTimestamp: null}
    spec:
      serviceAccountName: web
      securityContext: {}
      containers:
      - name: web
        image: registry.k8s.io/pause:3.10
        args: [--verbose, --port=80]
        env:
        - {name: EMPTY, value: ""}
        - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        ports: [{containerPort: 80, name: http}]
        resources: {requests: {cpu: 1000m, memory: 1024Mi}, limits: {memory: "1073741824"}}
        readinessProbe: {httpGet: {path: /, port: http}}
        volumeMounts: [{name: scratch, mountPath: /tmp}, {name: config, mountPath: /etc/web}]
      volumes:
      - {name: scratch, emptyDir: {}}
      - {name: config, configMap: {name: web, defaultMode: 0644}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: base, namespace: $ns}
spec:
  serviceName: base
  selector: {matchLabels: {app: base}}
  template:
    metadata: {labels: {app: base}}
    spec:
      containers:
      - {name: base, image: registry.k8s.io/pause:3.10, volumeMounts: [{name: data, mountPath: /data}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 0.5Gi}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: $ns}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      hostNetwork: true
      tolerations: [{operator: Exists}]
      containers:
      - name: agent
        image: registry.k8s.io/pause:3.10
        ports: [{containerPort: 9100, hostPort: 9100}]
        securityContext: {runAsNonRoot: true, runAsUser: 65534, readOnlyRootFilesystem: true}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web, namespace: $ns}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: $ns}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 1
  maxReplicas: 3
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: $ns}
spec:
  rules:
  - host: web.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: $ns}
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: web, namespace: $ns}
spec: {hard: {pods: "20", requests.cpu: "2000m"}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: web, namespace: $ns}
spec: {limits: [{type: Container, default: {cpu: 0.5, memory: 256Mi}, defaultRequest: {cpu: 100m}}]}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.$ns.test.io}
spec:
  group: $ns.test.io
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              size: {anyOf: [{type: integer}, {type: string}], x-kubernetes-int-or-string: true}
              cpu: {type: string}
              mode: {type: string, default: fast}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
---
apiVersion: $ns.test.io/v1
kind: Widget
metadata: {name: one, namespace: $ns}
spec: {size: 1000m, cpu: 1000m}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.$ns.test.io}
spec:
  group: metrics.$ns.test.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: web, namespace: $ns}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: $ns}
webhooks:
- name: check.test.io
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  clientConfig: {service: {name: web, namespace: $ns, path: /check}}
  rules: [{apiGroups: [none.test.io], apiVersions: ["*"], operations: [CREATE], resources: [nothing]}]
"""


def realistic(namespace: str) -> list[Object]:
    """The set, in a namespace of its own."""
    return parse(TEXT.replace("$ns", namespace))


def pick(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """One object of a set."""
    return next(obj for obj in objects if obj["kind"] == kind and name in (None, obj["metadata"]["name"]))
