"""Every rule with one request that it accepts and one that it refuses, sent to the cluster.

What is accepted is created and has to run. What is refused is sent as a server-side dry run, which every admission
plugin and webhook judges like a real one: should a rule not hold, nothing has been created.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from platformlib.checks import Check, Found
from platformlib.errors import KubeError
from platformlib.kube.objects import MANAGED_BY, MANAGER, Reference, reference
from platformlib.security import examples
from platformlib.security.declared import Object, data, enforced
from platformlib.settings import Settings
from platformlib.versions import image

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

COLUMNS = ("layer", "rule", "accepted", "refused", "words", "ok")
WITHIN = 120.0  # seconds until the accepted examples run
PATCH = "application/strategic-merge-patch+json"
DEBUG = "restrict-debug-containers"
KYVERNO = ("ValidatingPolicy", "MutatingPolicy", "GeneratingPolicy", "ImageValidatingPolicy")
KUBERNETES = ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy")
NAMESPACES = {"closed": examples.CLOSED, "open": examples.OPEN}
Row = dict[str, Any]


def table(kube: "Kube", settings: Settings) -> "pd.DataFrame":
    """Send both examples of every rule.

    Returns:
        Columns: layer (pod, resource, policy), rule, accepted (what became of the accepted example), refused (the words
        of the refusal; in audit mode the warning of a policy), words (a pattern that these have to match), ok.
    """
    import pandas as pd

    with examples.namespaces(kube) as made:
        rows = [_row(kube, rule, given, enforced(settings)) for rule, given in data("examples").items()]
        _run(kube, rows)
        rows += [_debug(kube, enforced(settings)), _made(made), _mutated(kube)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(kube: "Kube", rule: str, given: Mapping[str, Any], enforce: bool) -> Row:
    place = NAMESPACES[given["namespace"]]
    accepted = _refusal(kube, _example(f"ok-{rule}", place, given, "accept"))
    admitted, said = _judged_dry(kube, _example(f"no-{rule}", place, given, "refuse"))
    ok = not accepted and _as_wanted(admitted, said, given["words"], enforce or given["layer"] != "policy")
    return {
        "layer": given["layer"], "rule": rule, "accepted": accepted or "made", "refused": said or "NOT REFUSED",
        "words": given["words"], "ok": ok,
    }  # fmt: skip


def _as_wanted(admitted: bool, said: str, words: str, enforce: bool) -> bool:
    """Refused in the rule's words; a policy that only audits warns in the same words, and admits."""
    return admitted is not enforce and bool(re.search(words, said, re.DOTALL))


def _example(name: str, namespace: str, given: Mapping[str, Any], kind: str) -> Object:
    base = examples.pod(name, namespace)
    if "with" in given:
        base = {**given["with"], "metadata": {"name": name, "namespace": namespace}}
    whole: Object = examples.merged(base, given.get(kind) or {})
    return whole


def _refusal(kube: "Kube", obj: Object) -> str:
    """Create an object: the words of a refusal, or empty."""
    try:
        kube.api.create(obj)
    except KubeError as error:
        return str(error).splitlines()[0]
    return ""


def _judged_dry(kube: "Kube", obj: Object) -> tuple[bool, str]:
    """Send an object as a dry run: whether it was admitted, and the words of the refusal or warnings."""
    ref = reference(obj)
    return _dry(kube, "POST", Reference(ref.api_version, ref.kind, ref.namespace, ""), obj)


def _dry(kube: "Kube", method: str, ref: Reference, body: Object, **options: Any) -> tuple[bool, str]:
    try:
        answer = kube.api.call(method, ref, body=body, dryRun="All", **options)
    except KubeError as error:
        return False, str(error).splitlines()[0]
    return True, "; ".join(answer.warnings)


def _run(kube: "Kube", rows: Iterable[Row]) -> None:
    """Wait for the accepted pods, and write down what became of them."""
    found = examples.until(
        lambda: _phases(kube), lambda phases: all(phase == "Running" for phase in phases.values()), WITHIN
    )
    for row in rows:
        phase = found.get(f"ok-{row['rule']}", "Running")
        row["ok"] = row["ok"] and phase == "Running"
        if row["accepted"] == "made" and f"ok-{row['rule']}" in found:
            row["accepted"] = "runs" if phase == "Running" else phase


def _phases(kube: "Kube") -> dict[str, str]:
    pods = [pod for namespace in NAMESPACES.values() for pod in kube.list("v1", "Pod", namespace)]
    return {pod["metadata"]["name"]: (pod.get("status") or {}).get("phase", "") for pod in pods}


def _debug(kube: "Kube", enforce: bool) -> Row:
    """A container that kubectl debug adds to a running pod."""
    pod = Reference("v1", "Pod", examples.OPEN, "ok-disallow-latest")
    words = f"Policy {DEBUG} failed"

    def asked(reference: str) -> tuple[bool, str]:
        added = {"spec": {"ephemeralContainers": [{"name": "debug", "image": reference}]}}
        return _dry(kube, "PATCH", pod, added, subresource="ephemeralcontainers", content=PATCH)

    (accepted, objection), (admitted, said) = asked(image("busybox")), asked("docker.io/library/busybox:latest")
    ok = accepted and not objection and _as_wanted(admitted, said, words, enforce)
    shown = "let through" if accepted else objection
    return {
        "layer": "policy",
        "rule": DEBUG,
        "accepted": shown,
        "refused": said or "NOT REFUSED",
        "words": words,
        "ok": ok,
    }


def _made(made: str) -> Row:
    """The generating policy refuses nothing; its proof is what it made."""
    return {
        "layer": "policy",
        "rule": "new-application",
        "accepted": made,
        "refused": "",
        "words": "",
        "ok": made == "made",
    }


def _mutated(kube: "Kube") -> Row:
    """The mutating policy refuses nothing; its proof is what it adds."""
    bare = examples.merged(
        examples.pod("default-seccomp", examples.CLOSED), {"spec": {"securityContext": {"seccompProfile": None}}}
    )
    try:
        live = kube.api.call("POST", Reference("v1", "Pod", examples.CLOSED, ""), body=bare, dryRun="All").json()
    except KubeError as error:
        said, added = str(error).splitlines()[0], False
    else:
        profile = (live["spec"].get("securityContext") or {}).get("seccompProfile")
        added = profile == {"type": "RuntimeDefault"}
        said = "profile added" if added else "no profile"
    return {"layer": "policy", "rule": "default-seccomp", "accepted": said, "refused": "", "words": "", "ok": added}


def untested(kube: "Kube", table: "pd.DataFrame") -> list[str]:
    """Policies in the cluster that no row of the table is about."""
    live = [each for kind in KYVERNO for each in kube.list("policies.kyverno.io/v1", kind)]
    ours = (
        each for each in kube.list(*KUBERNETES) if (each["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER
    )
    return sorted({each["metadata"]["name"] for each in (*live, *ours)} - set(table["rule"]))


def check(table: "pd.DataFrame") -> Check:
    """Every row holds."""
    expected = "every accepted example runs, every refused one comes back with its rule's own words"
    return Check("coverage", expected, "the table has what was said instead", lambda: _judged(table))


def _judged(table: "pd.DataFrame") -> Found:
    wrong = table[~table["ok"]]
    lines = [f"{row.rule}: accepted: {row.accepted}; refused: {row.refused}"[:300] for row in wrong.itertuples()]
    return len(wrong) == 0, "; ".join(lines) or f"{len(table)} rules"
