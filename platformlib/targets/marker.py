"""A line that a pod writes, to prove the way from a container to the log store."""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platformlib.checks import Result, verify
from platformlib.targets.waiting import wait_until
from platformlib.versions import image

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.targets.target import Target

LAYER, NAMESPACE = "marker", "observability"


def said(word: str) -> str:
    """The line with the word."""
    return f"level=info msg={word}"


def job(word: str) -> dict[str, Any]:
    """A Job that writes the word once, within the restricted Pod Security Standard."""
    name = re.sub(r"[^a-z0-9-]", "-", word.lower())[:50].strip("-")
    container = {
        "name": "marker",
        "image": image("busybox"),
        "command": ["echo", said(word)],
        "resources": {"requests": {"cpu": "5m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True,
            "runAsUser": 65534, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        },
    }  # fmt: skip
    template = {
        "metadata": {"labels": {"app": "marker", "app.kubernetes.io/name": "marker"}},
        "spec": {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]},
    }
    spec = {"backoffLimit": 2, "ttlSecondsAfterFinished": 600, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


@dataclass(frozen=True)
class Marker:
    """The proof of one target."""

    target: "Target"

    @staticmethod
    def word() -> str:
        """A word that no earlier line has."""
        return f"marker-{secrets.token_hex(6)}"

    def write(self, word: str, *, timeout: float) -> "pd.DataFrame":
        """Let a pod write the word, and wait until it has. Raises WaitTimeout, TerminalCondition."""
        self.target.kube.apply([job(word)], layer=LAYER)
        return self.target.kube.wait([job(word)], timeout=timeout)

    def find(self, word: str) -> "pd.DataFrame":
        """The lines of the last quarter of an hour that have the word, as Loki has them."""
        from platformlib.query.quoting import quoted, selector

        return self.target.loki.lines(f"{selector(namespace=NAMESPACE)} |= {quoted(word)}", "15m")

    def wait(self, word: str, *, timeout: float) -> "pd.DataFrame":
        """The word's line, as soon as Loki has it. Raises WaitTimeout."""
        cause = "no such line in Loki; do promtail's pods run on every node, and is Loki ready?"
        return wait_until(lambda: self.find(word), lambda found: cause if found.empty else "", timeout)

    def verify(self, word: str) -> "pd.DataFrame":
        """It came once, with the labels of the pod that wrote it. Raises CheckFailed."""
        return verify(list(checks(self.find(word), word)))

    def remove(self) -> "pd.DataFrame":
        """Delete the pod that wrote."""
        return self.target.kube.uninstall(LAYER)


def checks(found: "pd.DataFrame", word: str) -> Iterator[Result]:
    """Once, whole, and labelled."""
    fix = "see promtail's log on the node of the pod"
    yield Result("the line came once", len(found) == 1, "1", str(len(found)), fix)
    first = found.astype(str).to_dict("records")[0] if len(found) else {}
    whole = first.get("line", "").strip()
    yield Result("it is whole", whole == said(word), said(word), whole or "nothing", fix)
    for label, expected in {"namespace": NAMESPACE, "container": "marker", "app": "marker", "stream": "stdout"}.items():
        yield Result(f"label {label}", first.get(label) == expected, expected, first.get(label) or "nothing", fix)
    for label in ("pod", "node"):
        yield Result(f"label {label}", bool(first.get(label)), "a name", first.get(label) or "nothing", fix)
