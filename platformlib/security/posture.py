"""Where the cluster is not what was declared: each finding named, and counted over time."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from platformlib.checks import Check
from platformlib.paths import state_dir
from platformlib.security import access, pod_security, reports, semantics
from platformlib.security.declared import ENFORCE, KIND, Object, excepted, namespaces
from platformlib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

COLUMNS = ("about", "object", "found", "fix")
# Kubernetes' own; nothing of a platform runs there, and the policies hold in them as well.
UNLABELLED = frozenset({"default", "kube-node-lease", "kube-public", "kube-system"})
Finding = tuple[str, str, str, str]
SPLIT = "make it two policies, one for each direction"


def findings(kube: "Kube", settings: Settings, drift: "pd.DataFrame") -> "pd.DataFrame":
    """about, object, found, fix: every deviation. `drift` is the diff of the security layer."""
    import pandas as pd

    rows = [
        *_drift(drift), *_policies(kube, settings), *_bindings(kube), *_pods(kube, settings), *_places(kube),
        *_reported(kube, settings),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _drift(drift: "pd.DataFrame") -> Iterator[Finding]:
    """Fields that somebody changed, objects that somebody took away."""
    for kind, namespace, name, field, live, wanted in drift.astype(str).itertuples(index=False):
        where = f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
        said = f"{field}: {live} instead of {wanted}" if field else "it is not there"
        yield "drift", where, said[:300], 'target.layer("security").apply(take_ownership=True)'


def _policies(kube: "Kube", settings: Settings) -> Iterator[Finding]:
    """One more NetworkPolicy never closes anything that was open: it can only widen."""
    ours = {each.name for each in namespaces(settings) if each.default_deny}
    for each in kube.list("networking.k8s.io/v1", "NetworkPolicy"):
        metadata = each["metadata"]
        managed = (metadata.get("labels") or {}).get("app.kubernetes.io/managed-by")
        if both(each) and settings.cluster.distribution != "existing":
            where = f"NetworkPolicy {metadata['namespace']}/{metadata['name']}"
            yield "network", where, "has rules of both directions: kube-router lets in what it lets out", SPLIT
        if metadata["namespace"] in ours and managed not in ("platformlib", "kyverno"):
            where = f"NetworkPolicy {metadata['namespace']}/{metadata['name']}"
            yield "network", where, "opens more than the declared flows", "declare the flow, or delete the policy"


def both(policy: Object) -> bool:
    """Whether its egress rules could be taken for ingress: kube-router asks them in both directions."""
    return set(semantics.types(policy)) == {"Ingress", "Egress"} and bool(
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
        fix = "mend the pod, or declare the exception and its reason"
        yield "pods", f"Pod {row.namespace}/{row.pod}", f"has {row.faults}, and no declared exception", fix


def _places(kube: "Kube") -> Iterator[Finding]:
    for each in kube.list("v1", "Namespace"):
        name, labels = each["metadata"]["name"], each["metadata"].get("labels") or {}
        if name not in UNLABELLED and ENFORCE not in labels:
            yield "namespaces", f"Namespace {name}", f"has no label {ENFORCE}", f"label it {ENFORCE}=restricted"
        elif name not in UNLABELLED and KIND not in labels and "platformlib.io/size" not in labels:
            yield "namespaces", f"Namespace {name}", "is not declared", "add it to security.applications"


def _reported(kube: "Kube", settings: Settings) -> Iterator[Finding]:
    bad = reports.failures(reports.frame(kube), excepted(settings))
    for row in bad[bad["kind"] == "Pod"].itertuples():
        yield "policies", f"Pod {row.namespace}/{row.name}", f"{row.policy}: {row.message}", "mend the pod's owner"


def check(found: "pd.DataFrame") -> Check:
    """There are none."""
    lines = [f"{row.about}: {row.object} {row.found}"[:200] for row in found.itertuples()]
    fix = "; ".join(dict.fromkeys(found["fix"]))
    return Check("posture", "no finding", fix, lambda: (not lines, "; ".join(lines) or "none"))


def history_file(settings: Settings) -> Path:
    """Where postures are kept: a line each."""
    return state_dir(settings.name) / "posture.jsonl"


def record(kube: "Kube", settings: Settings, found: "pd.DataFrame") -> None:
    """Keep the counts of this moment."""
    counts = reports.frame(kube)["result"].value_counts().to_dict()
    line: Object = {"time": int(time.time()), "findings": len(found), **{str(key): int(n) for key, n in counts.items()}}
    with history_file(settings).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def history(settings: Settings) -> "pd.DataFrame":
    """Index: time (UTC). Columns: findings and the results of the PolicyReports; a row each recorded posture."""
    import pandas as pd

    file = history_file(settings)
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.is_file() else []
    table = pd.DataFrame(lines, columns=["time", "findings", "pass", "fail", "error", "warn", "skip"]).fillna(0)
    index = pd.to_datetime(table["time"].astype("int64"), unit="s", utc=True)
    return table.drop(columns="time").astype(float).set_index(pd.DatetimeIndex(index, name="time"))
