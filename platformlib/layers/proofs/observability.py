"""Observability: every target answers, every node is measured, and a line that a pod writes comes back."""

from collections import Counter
from uuid import uuid4

import yaml

from platformlib.checks import Check, Found
from platformlib.layers.model import layer
from platformlib.layers.proofs import probe
from platformlib.layers.proofs.context import Context, Object, namespaces, pods_run, same
from platformlib.layers.render import render
from platformlib.layers.sources import NAMESPACE

LINE = "platformlib-probe-line"
WITHIN = 120  # seconds
LABELS = ("namespace", "pod", "container", "node", "app", "stream", "detected_level")
COREDNS = {"kubeadm": 2, "k3s": 1}  # replicas that the distribution starts
LOGS = f"kubectl -n {NAMESPACE} logs"


def checks(context: Context) -> list[Check]:
    """Pods, targets, rules, node metrics, resource metrics, logs."""
    objects = render(layer("observability"), context.settings)
    jobs, names, rules = targets(context), ", ".join(context.nodes), rule_names(objects)
    return [
        *(pods_run(context, namespace) for namespace in namespaces(objects)),
        Check(
            "scrape targets",
            ", ".join(f"{job} {count}" for job, count in jobs.items()),
            "target.prometheus.targets() has the error of each; then look at the pod behind it",
            lambda: _targets(context, jobs),
            patience=WITHIN,
        ),
        Check(
            "rules",
            f"{len(rules)} rules, all evaluated without an error",
            "target.prometheus.rules() has the error of each",
            lambda: _rules(context, rules),
            patience=WITHIN,
        ),
        Check(
            "node metrics",
            f"CPU and memory of {names}",
            "look at the kubelet targets of the missing nodes: target.prometheus.targets()",
            lambda: _measured(context),
            patience=WITHIN,
        ),
        Check(
            "resource metrics",
            f"metrics.k8s.io answers for {names}",
            "kubectl -n kube-system logs deploy/metrics-server; kubectl get apiservice v1beta1.metrics.k8s.io",
            lambda: _resource_metrics(context),
            patience=WITHIN,
        ),
        Check(
            "log line",
            f"a line that a pod writes is in Loki, with {', '.join(LABELS)}",
            f"{LOGS} loki-0; kubectl logs -A -l app.kubernetes.io/name=promtail",
            lambda: _line(context, uuid4().hex),
        ),
    ]


def targets(context: Context) -> dict[str, int]:
    """Scrape job → how many targets it must have. `pods` may have more: users annotate theirs."""
    nodes, routers = len(context.nodes), layer("cluster").has("kube-router", context.settings)
    return {
        "apiserver": 0 if context.settings.cluster.distribution == "k3s" else context.control_plane,
        "coredns": COREDNS.get(context.settings.cluster.distribution, 1),
        "kube-state-metrics": 1,
        "kubelet": 2 * nodes,  # /metrics and /metrics/cadvisor
        "loki": 1,
        "node-exporter": nodes,
        "pods": nodes if routers else 0,
        "prometheus": 1,
        "promtail": nodes,
    }


def _targets(context: Context, wanted: dict[str, int]) -> Found:
    found = context.prometheus.targets()
    up = Counter(found.loc[found["health"] == "up", "job"])
    short = [f"{job}: {up[job]} of {count} up" for job, count in wanted.items() if up[job] < count]
    down = found[found["health"] != "up"]
    short += [f"{job} {instance}: {error}" for job, instance, error in down[["job", "instance", "error"]].to_numpy()]
    return not short, "; ".join(short) or f"{len(found)} targets up"


def rule_names(objects: list[Object]) -> list[str]:
    """The names of the rules among the layer's objects."""
    files = next(obj["data"] for obj in objects if obj["metadata"]["name"] == "prometheus-rules")
    groups = [group for text in files.values() for group in yaml.safe_load(text)["groups"]]
    return [rule.get("record") or rule["alert"] for group in groups for rule in group["rules"]]


def _rules(context: Context, wanted: list[str]) -> Found:
    found = context.prometheus.rules()
    bad = found[found["health"] != "ok"]
    broken = [f"{name} is {health}: {error}" for name, health, error in bad[["name", "health", "error"]].to_numpy()]
    missing = [f"{name}: not loaded" for name in sorted(set(wanted) - set(found["name"]))]
    return not (broken or missing), "; ".join(broken + missing) or f"{len(found)} rules"


def _measured(context: Context) -> Found:
    series = ("node:cpu_usage_cores:rate5m", "node:memory_working_set:bytes")
    sets = [set(_nodes_of(context, name)) for name in series]
    return same(sorted(set.intersection(*sets)), context.nodes)


def _nodes_of(context: Context, series: str) -> list[str]:
    frame = context.prometheus.query(series)
    return sorted(frame["node"]) if "node" in frame else []


def _resource_metrics(context: Context) -> Found:
    found = context.kube.list("metrics.k8s.io/v1beta1", "NodeMetrics")
    return same([each["metadata"]["name"] for each in found if each["usage"]["memory"] != "0"], context.nodes)


def _line(context: Context, marker: str) -> Found:
    writer = probe.job(LINE, probe.pod(LINE, 'echo "level=warn msg=$MARKER"', {"MARKER": marker}), seconds=WITHIN)
    with probe.alone(context.kube, "line") as name:
        context.kube.apply([writer], layer=name)
        context.kube.wait([writer], timeout=WITHIN)
        pod = context.kube.list("v1", "Pod", probe.NAMESPACE, label_selector=f"app.kubernetes.io/name={LINE}")[0]
        wanted = _labels(pod)
        asked = Check("", "", "", lambda: _read(context, marker, wanted), patience=60).run()
        return asked.ok, asked.found


def _labels(pod: Object) -> dict[str, str]:
    values = (probe.NAMESPACE, pod["metadata"]["name"], "probe", pod["spec"]["nodeName"], LINE, "stdout", "warn")
    return dict(zip(LABELS, values, strict=True))


def _read(context: Context, marker: str, wanted: dict[str, str]) -> Found:
    lines = context.loki.lines(f'{{namespace="{probe.NAMESPACE}", app="{LINE}"}} |= `{marker}`', "15m")
    if len(lines) != 1:
        return False, f"{len(lines)} lines"
    found = {name: str(lines.iloc[0].get(name)) for name in LABELS}
    wrong = [f"{name}={found[name]}, not {value}" for name, value in wanted.items() if found[name] != value]
    return not wrong, "; ".join(wrong) or ", ".join(f"{name}={value}" for name, value in found.items())
