"""Where the cluster differs from what was declared: each finding named, and counted over time."""

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from platformlib.checks import Check
from platformlib.paths import state_dir
from platformlib.security import access, connectivity, pod_security
from platformlib.security.declared import ENFORCE, KIND, RESERVED, SIZE, Object, excepted, namespaces
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

COLUMNS = ("about", "object", "found", "fix")
REPORTS = ("time", "policy", "result", "namespace", "kind", "name", "message", "source")
REPORT_API = "wgpolicyk8s.io/v1alpha2"
# A mutating policy judges nothing: it acts at admission only.
JUDGES = frozenset({"KyvernoValidatingPolicy", "KyvernoImageValidatingPolicy"})
Finding = tuple[str, str, str, str]
SPLIT = "make it two policies, one for each direction"


def findings(kube: "Kube", settings: Settings, drift: "pd.DataFrame") -> "pd.DataFrame":
    """Every difference between the cluster and what was declared.

    Args:
        drift: the diff of the security layer.

    Returns:
        Columns: about (drift, network, access, pods, namespaces, policies), object, found, fix.
    """
    import pandas as pd

    rows = [
        *_drift(drift), *_policies(kube, settings), *_bindings(kube), *_pods(kube, settings), *_namespaces(kube),
        *_reported(kube, settings),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _drift(drift: "pd.DataFrame") -> Iterator[Finding]:
    """Fields that somebody changed, objects that somebody deleted."""
    for kind, namespace, name, field, live, wanted in drift.astype(str).itertuples(index=False):
        where = f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
        said = f"{field}: {live} instead of {wanted}" if field else "it is not there"
        yield "drift", where, said[:300], 'target.layer("security").apply(take_ownership=True)'


def _policies(kube: "Kube", settings: Settings) -> Iterator[Finding]:
    """A further NetworkPolicy never closes anything: it can only open more."""
    ours = {each.name for each in namespaces(settings) if each.default_deny}
    for each in kube.list("networking.k8s.io/v1", "NetworkPolicy"):
        metadata = each["metadata"]
        managed = (metadata.get("labels") or {}).get("app.kubernetes.io/managed-by")
        where = f"NetworkPolicy {metadata['namespace']}/{metadata['name']}"
        if both(each) and settings.cluster.distribution != "existing":
            yield "network", where, "has rules of both directions: the network plugin lets in what it lets out", SPLIT
        if metadata["namespace"] in ours and managed not in ("platformlib", "kyverno"):
            yield "network", where, "opens more than the declared flows", "declare the flow, or delete the policy"


def both(policy: Object) -> bool:
    """Whether its egress rules could be taken for ingress rules: kube-router applies them in both directions."""
    return set(connectivity.types(policy)) == {"Ingress", "Egress"} and bool(
        policy["spec"].get("egress") or policy["spec"].get("ingress")
    )


def _bindings(kube: "Kube") -> Iterator[Finding]:
    for each in access.added(kube):
        metadata, who = each["metadata"], ", ".join(subject["name"] for subject in each.get("subjects") or [])
        place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
        said = f"gives {each['roleRef']['name']} to {who or 'nobody'}"
        yield "access", f"{each['kind']} {place}{metadata['name']}", said, "delete it, or make it a persona"


def _pods(kube: "Kube", settings: Settings) -> Iterator[Finding]:
    table = pod_security.pods(kube, settings)
    for row in table[~table["allowed"]].itertuples():
        fix = "change the pod, or declare the exception and its reason"
        yield "pods", f"Pod {row.namespace}/{row.pod}", f"has {row.faults}, and no declared exception", fix


def _namespaces(kube: "Kube") -> Iterator[Finding]:
    """Kubernetes' own namespaces are left out: nothing of a platform runs there, and the policies hold in them."""
    for each in kube.list("v1", "Namespace"):
        name, labels = each["metadata"]["name"], each["metadata"].get("labels") or {}
        if name not in RESERVED and ENFORCE not in labels:
            yield "namespaces", f"Namespace {name}", f"has no label {ENFORCE}", f"label it {ENFORCE}=restricted"
        elif name not in RESERVED and KIND not in labels and SIZE not in labels:
            yield "namespaces", f"Namespace {name}", "is not declared", "add it to security.applications"


def _reported(kube: "Kube", settings: Settings) -> Iterator[Finding]:
    bad = failures(reports(kube), excepted(settings))
    for row in bad[bad["kind"] == "Pod"].itertuples():
        yield "policies", f"Pod {row.namespace}/{row.name}", f"{row.policy}: {row.message}", "change the pod's owner"


def check(found: "pd.DataFrame") -> Check:
    """There is no finding."""
    lines = [f"{row.about}: {row.object} {row.found}"[:200] for row in found.itertuples()]
    fix = "; ".join(dict.fromkeys(found["fix"]))
    return Check("posture", "no finding", fix, lambda: (not lines, "; ".join(lines) or "none"))


def reports(kube: "Kube") -> "pd.DataFrame":
    """What the policies say of everything that runs, whether it came before or after them.

    Source: PolicyReport and ClusterPolicyReport of the Policy Working Group, which Kyverno writes.

    Returns:
        Columns: time (UTC), policy, result (pass, fail, warn, error, skip), namespace, kind, name, message, source. The
        newest first.
    """
    import pandas as pd

    found = [each for kind in ("PolicyReport", "ClusterPolicyReport") for each in kube.list(REPORT_API, kind)]
    rows = [row for report in found for row in _results(report)]
    table = pd.DataFrame(rows, columns=list(REPORTS)).astype({"time": "int64"})
    table["time"] = pd.to_datetime(table["time"], unit="s", utc=True)
    return table.sort_values("time", ascending=False, ignore_index=True)


def _results(report: Object) -> list[list[object]]:
    scope, namespace = report.get("scope") or {}, report["metadata"].get("namespace", "")
    return [
        [int(each["timestamp"]["seconds"]), each["policy"], each["result"], namespace,
         scope.get("kind", ""), scope.get("name", ""), each.get("message", ""), each.get("source", "")]
        for each in report.get("results") or []
    ]  # fmt: skip


def failures(reports: "pd.DataFrame", excepted: Iterable[str]) -> "pd.DataFrame":
    """The failures that no declared exception explains."""
    bad = reports["result"].isin(["fail", "error"]) & ~reports["namespace"].isin(list(excepted))
    return reports[bad & reports["source"].isin(JUDGES)].reset_index(drop=True)


def history_file(settings: Settings) -> Path:
    """The file that keeps recorded postures, a line each."""
    return state_dir(settings.name) / "posture.jsonl"


def record(kube: "Kube", settings: Settings, found: "pd.DataFrame") -> None:
    """Append the counts of this moment to the history."""
    counts = reports(kube)["result"].value_counts().to_dict()
    line: Object = {"time": int(time.time()), "findings": len(found), **{str(key): int(n) for key, n in counts.items()}}
    with history_file(settings).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def history(settings: Settings) -> "pd.DataFrame":
    """The recorded postures, a row each.

    Returns:
        Index: time (UTC). Columns: findings, and the results of the PolicyReports (pass, fail, error, warn, skip).
    """
    import pandas as pd

    file = history_file(settings)
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.is_file() else []
    table = pd.DataFrame(lines, columns=["time", "findings", "pass", "fail", "error", "warn", "skip"]).fillna(0)
    index = pd.to_datetime(table["time"].astype("int64"), unit="s", utc=True)
    return table.drop(columns="time").astype(float).set_index(pd.DatetimeIndex(index, name="time"))
