"""Every rule with a request that it lets through and one that it refuses, really sent."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from platformlib.checks import Check, Found
from platformlib.errors import KubeError
from platformlib.kube.objects import prepared
from platformlib.security import workloads
from platformlib.security.declared import SIZE, Object, data

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

COLUMNS = ("layer", "rule", "accepted", "refused", "words", "ok")
NAMESPACE = "security-examples"
LAYER = "security-examples"
WITHIN = 120.0  # seconds until the accepted examples run
MADE_WITHIN = 30.0  # seconds until the generating policy has closed the new namespace
GENERATED = (
    ("networking.k8s.io/v1", "NetworkPolicy", "default-deny"), ("v1", "ResourceQuota", "platform"),
    ("v1", "LimitRange", "platform"),
)  # fmt: skip


def table(kube: "Kube") -> "pd.DataFrame":
    """layer, rule, accepted, refused, words, ok: what happened to the two examples of every rule."""
    import pandas as pd

    with rooms(kube) as generated:
        rows = [_row(kube, rule, each) for rule, each in data("examples").items()]
        running = _running(kube)
        rows = [
            [*row[:2], _state(row, running), *row[3:5], row[5] and _state(row, running) in ("runs", "made")]
            for row in rows
        ]
        rows += [["policy", "new-application", generated, "", "", generated == "made"], _mutated(kube)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


@contextmanager
def rooms(kube: "Kube") -> Iterator[str]:
    """A new application namespace as somebody would make one; gone afterwards, with the examples elsewhere."""
    labels = {SIZE: "small"} | {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    _clear(kube, made)
    kube.api.create(made)
    try:
        yield _generated(kube)
    finally:
        _clear(kube, made)


def _clear(kube: "Kube", namespace: Object) -> None:
    kube.uninstall(LAYER)
    kube.delete(namespace)
    for pod in kube.list("v1", "Pod", "default", f"platformlib.io/layer={LAYER}"):
        kube.delete(pod)


def _generated(kube: "Kube") -> str:
    """Until the generating policy has made all that it has to."""
    deadline = time.monotonic() + MADE_WITHIN
    while missing := [kind for version, kind, name in GENERATED if not kube.get(version, kind, name, NAMESPACE)]:
        if time.monotonic() > deadline:
            return f"not generated: {', '.join(missing)}"
        time.sleep(0.5)
    return "made"


def _row(kube: "Kube", rule: str, given: Mapping[str, Any]) -> list[Any]:
    place = NAMESPACE if given["namespace"] == "rules" else "default"
    accepted = _send(kube, _example(f"ok-{rule}", place, given, "accept"))
    refused = _send(kube, _example(f"no-{rule}", place, given, "refuse"))
    ok = not accepted and bool(re.search(given["words"], refused, re.DOTALL))
    return [given["layer"], rule, accepted, refused or "NOT REFUSED", given["words"], ok]


def _example(name: str, namespace: str, given: Mapping[str, Any], kind: str) -> Object:
    base = workloads.pod(name, namespace)
    if "with" in given:
        base = {**given["with"], "metadata": {"name": name, "namespace": namespace}}
    patched = workloads.laid_over(base, given.get(kind) or {})
    whole: Object = prepared(patched, LAYER) if patched["metadata"].get("labels") or "with" in given else patched
    return whole


def _send(kube: "Kube", obj: Object) -> str:
    """The words with which it was refused; nothing when it was accepted."""
    try:
        kube.api.create(obj)
    except KubeError as error:
        return str(error).splitlines()[0]
    return ""


def _running(kube: "Kube") -> dict[str, str]:
    """The accepted pods, once all run or the patience is over: name → phase."""
    deadline = time.monotonic() + WITHIN
    while True:
        pods = [
            p
            for place in (NAMESPACE, "default")
            for p in kube.list("v1", "Pod", place)
            if p["metadata"]["name"].startswith("ok-")
        ]
        phases = {pod["metadata"]["name"].removeprefix("ok-"): pod["status"].get("phase", "") for pod in pods}
        if all(phase == "Running" for phase in phases.values()) or time.monotonic() > deadline:
            return phases
        time.sleep(1)


def _state(row: list[Any], running: dict[str, str]) -> str:
    """What became of the accepted example."""
    if row[2]:
        return str(row[2])
    phase = running.get(row[1], "made")
    return "runs" if phase == "Running" else phase


def _mutated(kube: "Kube") -> list[Any]:
    """The mutating policy refuses nothing: its proof is what it adds."""
    bare = workloads.laid_over(
        workloads.pod("ok-default-seccomp", NAMESPACE), {"spec": {"securityContext": {"seccompProfile": None}}}
    )
    said = _send(kube, bare)
    live = kube.get("v1", "Pod", "ok-default-seccomp", NAMESPACE) or {"spec": {}}
    added = (live["spec"].get("securityContext") or {}).get("seccompProfile") == {"type": "RuntimeDefault"}
    return ["policy", "default-seccomp", said or ("profile added" if added else "no profile"), "", "", added]


def untested(kube: "Kube", table: "pd.DataFrame") -> list[str]:
    """Rules in the cluster that no row of the table is about."""
    kinds = ("ValidatingPolicy", "MutatingPolicy", "GeneratingPolicy", "ImageValidatingPolicy")
    live = [each["metadata"]["name"] for kind in kinds for each in kube.list("policies.kyverno.io/v1", kind)]
    return sorted(set(live) - set(table["rule"]))


def check(table: "pd.DataFrame") -> Check:
    """Every row holds."""
    expected = "every accepted example runs, every refused one comes back with its rule's own words"
    return Check("coverage", expected, "the table has what was said instead", lambda: _judged(table))


def _judged(table: "pd.DataFrame") -> Found:
    wrong = table[~table["ok"]]
    lines = [f"{row.rule}: accepted: {row.accepted}; refused: {row.refused}"[:300] for row in wrong.itertuples()]
    return len(wrong) == 0, "; ".join(lines) or f"{len(table)} rules"
