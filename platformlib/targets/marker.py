"""A marker line: a pod writes it, and Loki has to return it. Proves the way from a container to the log store."""

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platformlib import composition
from platformlib.checks import Result, verify
from platformlib.errors import PlatformError
from platformlib.targets.waiting import wait_until
from platformlib.versions import image

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.targets.target import Target

LAYER = "marker"


def said(word: str) -> str:
    """The line that contains the word."""
    return f"level=info msg={word}"


def job(word: str, namespace: str) -> dict[str, Any]:
    """A Job that writes the word once, under the Pod Security level `restricted`."""
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
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


@dataclass(frozen=True)
class Marker:
    """Writes a marker line on a target's cluster, and finds it in its logs."""

    target: "Target"

    @property
    def namespace(self) -> str:
        """That of the log store. Raises: PlatformError when the platform has none."""
        store = composition.provider(self.target.settings, "logs")
        if store is None or store.namespace is None:
            raise PlatformError("the platform keeps no logs", fix="add the layer that does to `platform.layers`")
        return store.namespace.name

    @staticmethod
    def word() -> str:
        """A word that no earlier line has; the same one when a run goes on from an earlier run."""
        run = os.environ.get("PLATFORMLIB_RUN")
        return f"marker-{hashlib.sha256(run.encode()).hexdigest()[:12] if run else secrets.token_hex(6)}"

    def write(self, word: str, *, timeout: float) -> "pd.DataFrame":
        """Run a pod that writes the word, and wait for its end. Raises WaitTimeout, TerminalCondition."""
        wanted = job(word, self.namespace)
        self.target.kube.apply([wanted], layer=LAYER)
        return self.target.kube.wait([wanted], timeout=timeout)

    def find(self, word: str) -> "pd.DataFrame":
        """Loki's lines of the last 15 minutes that contain the word."""
        from platformlib.query.quoting import quoted, selector

        return self.target.loki.lines(f"{selector(namespace=self.namespace)} |= {quoted(word)}", "15m")

    def wait(self, word: str, *, timeout: float) -> "pd.DataFrame":
        """Wait until Loki has the line. Raises WaitTimeout."""
        cause = "no such line in Loki; do the collector's pods run on every node, and is Loki ready?"
        return wait_until(lambda: self.find(word), lambda found: cause if found.empty else "", timeout)

    def verify(self, word: str) -> "pd.DataFrame":
        """The line arrived once, whole, with the labels of its pod. Raises CheckFailed."""
        return verify(list(checks(self.find(word), word, self.namespace)))

    def remove(self) -> "pd.DataFrame":
        """Delete the Job."""
        return self.target.kube.uninstall(LAYER)


def checks(found: "pd.DataFrame", word: str, namespace: str) -> Iterator[Result]:
    """One result for each property of the line."""
    fix = "see the log of the collector on the node of the pod"
    yield Result("the line came once", len(found) == 1, "1", str(len(found)), fix)
    first = found.astype(str).to_dict("records")[0] if len(found) else {}
    whole = first.get("line", "").strip()
    yield Result("it is whole", whole == said(word), said(word), whole or "nothing", fix)
    for label, expected in {"namespace": namespace, "container": "marker", "app": "marker", "stream": "stdout"}.items():
        yield Result(f"label {label}", first.get(label) == expected, expected, first.get(label) or "nothing", fix)
    for label in ("pod", "node"):
        yield Result(f"label {label}", bool(first.get(label)), "a name", first.get(label) or "nothing", fix)
