"""A platform of the first version, with metrics, logs and claims in it, is moved to this code by one install.

Kept for ever: every later change of the inventory's or the mark's form has to pass it. It makes the lab anew.
"""

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import platformlib as pl
from platformlib.kube import Kube, Reference, reference
from platformlib.kube.objects import LAYER_LABEL
from platformlib.lab import Lab, parameters
from platformlib.polling import poll
from tests.lab.conftest import RANGE, ROOT
from tests.proof import TEST_LAB

# The last commit before layers had rooms, the mark had a UID, and uninstall kept data.
FIRST = "b9e493ac05e032be7477b8a4bf7f2bd7c4626dfc"
LINES = 300
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
CLAIM = Reference("v1", "PersistentVolumeClaim", "shop", "goods")
INVENTORY = "platformlib-layer-"


@dataclass(frozen=True)
class Code:
    """A version of this project's code in a folder, run with the installed packages."""

    folder: Path
    parameters: Path

    def run(self, *words: str, seconds: float) -> None:
        """A command of that version."""
        done = subprocess.run(
            ["platformlib", *words], cwd=self.folder, env=os.environ | {"PYTHONPATH": str(self.folder)},
            capture_output=True, text=True, check=False, timeout=seconds,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Code:
    """The first version, and its parameters of the tests' lab."""
    folder = tmp_path_factory.mktemp("first")
    packed = subprocess.run(["git", "archive", FIRST], cwd=ROOT, capture_output=True, check=False)
    assert packed.returncode == 0, f"{packed.stderr.decode()}: the test needs the whole history (git fetch --unshallow)"
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return Code(folder, lab_parameters(folder, folder / "first.yaml"))


def lab_parameters(source: Path, path: Path, **cluster: Any) -> Path:
    """A version's parameters/lab.yaml for the tests' lab, with changes to its section `cluster`."""
    document = yaml.safe_load((source / "parameters" / "lab.yaml").read_text("utf-8"))
    own = IPv4Network(document["platform"]["cluster"]["network"]["nodes"])
    moved = parameters.moved(document, own, RANGE)
    moved["platform"]["name"] = TEST_LAB
    moved["platform"]["cluster"] |= cluster
    path.write_text(yaml.safe_dump(moved, sort_keys=False), "utf-8")
    return path


@dataclass(frozen=True)
class Held:
    """What must not be lost, or made anew."""

    samples: pd.DataFrame
    lines: pd.DataFrame
    claims: dict[str, tuple[str, str]]
    uids: dict[str, str]
    pods: dict[str, tuple[Any, frozenset[str]]]


def held(target: "pl.Target", until: float, refs: list[Reference]) -> Held:
    """What the platform holds of the time before `until`, and the identity of its objects."""
    kube = target.kube
    claims = {
        f"{each['metadata']['namespace']}/{each['metadata']['name']}": (
            each["metadata"]["uid"],
            str(each["spec"].get("volumeName")),
        )
        for each in kube.list("v1", "PersistentVolumeClaim")
    }
    live = {ref: obj for ref in refs if (obj := kube.api.get(ref))}
    return Held(
        target.prometheus.query("up[15m]", time=until),
        target.loki.lines('{namespace="shop"}', start=until - 900, end=until),
        claims,
        {str(ref): obj["metadata"]["uid"] for ref, obj in live.items()},
        {str(ref): workload(kube, obj) for ref, obj in live.items() if ref.kind in WORKLOADS},
    )


def workload(kube: Kube, obj: dict[str, Any]) -> tuple[Any, frozenset[str]]:
    """The pod template of a workload, and the UIDs of its pods."""
    selector = ",".join(f"{key}={value}" for key, value in obj["spec"]["selector"]["matchLabels"].items())
    pods = kube.list("v1", "Pod", obj["metadata"]["namespace"], label_selector=selector)
    return obj["spec"]["template"], frozenset(pod["metadata"]["uid"] for pod in pods)


def writer(name: str, script: str) -> dict[str, Any]:
    """A pod of an application, which has the claim at /goods."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
                "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}}  # fmt: skip
    container = {
        "name": "main", "image": pl.versions.image("busybox"), "command": ["sh", "-c", script],
        "resources": {"requests": {"cpu": "5m", "memory": "8Mi"}, "limits": {"cpu": "50m", "memory": "16Mi"}},
        "securityContext": security, "volumeMounts": [{"name": "goods", "mountPath": "/goods"}],
    }  # fmt: skip
    spec = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container],
        "securityContext": {"fsGroup": 65534}, "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "goods", "persistentVolumeClaim": {"claimName": CLAIM.name}}],
    }  # fmt: skip
    labels = {"app.kubernetes.io/name": name}
    return {"apiVersion": "v1", "kind": "Pod", "spec": spec,
            "metadata": {"name": name, "namespace": "shop", "labels": labels}}  # fmt: skip


def run_pod(kube: Kube, pod: dict[str, Any]) -> None:
    """Create a pod as its owner does, and wait until it has done its work."""
    kube.api.create(pod)

    def done() -> bool:
        phase = (kube.api.get(reference(pod)) or {})["status"].get("phase")
        assert phase != "Failed", kube.logs("shop", pod["metadata"]["name"])
        return bool(phase == "Succeeded")

    assert poll(done, timeout=180, interval=2), f"{pod['metadata']['name']} is not done"


def fill(kube: Kube) -> None:
    """A claim with a file in it, and log lines, in the namespace of an application."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}}
    metadata = {"name": CLAIM.name, "namespace": CLAIM.namespace}
    kube.api.create({"apiVersion": "v1", "kind": CLAIM.kind, "metadata": metadata, "spec": spec})
    lines = f'for n in $(seq 1 {LINES}); do echo "level=info msg=line n=$n"; done'
    run_pod(kube, writer("filler", f"echo apples > /goods/stock && sync && {lines}"))


@pytest.fixture(scope="module")
def old(lab: Lab, first: Code) -> Iterator[Kube]:
    """The cluster of the platform as the first version installed it, with data."""
    lab.down(print)
    lab.up(print)
    first.run("bundle", "build", seconds=3000)
    first.run(
        "run", "install", "-f", str(first.parameters), "--output", str(first.folder / "install.ipynb"), seconds=900
    )
    # Not the platform's handle: what an application's people write is no concern of the platform's identity.
    kube = Kube.connect(pl.Target(lab.settings).kubeconfig)
    fill(kube)
    yield kube


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.proves("a platform of the first version is moved by one install, and nothing in it is lost", room="layers")
def test_moved_by_one_install(old: Kube, first: Code, tmp_path: Path) -> None:
    version = pl.load(first.parameters).cluster.version
    file = lab_parameters(ROOT, tmp_path / "moved.yaml", version=version)
    target = pl.Target(pl.load(file))
    mark = target.kube.identity()
    assert mark is not None
    assert (mark.name, mark.uid, mark.distribution) == (TEST_LAB, "", "")
    recorded = [ref for name in target.settings.layers for ref in old.inventory(name)]
    assert poll(lambda: len(logged(target)) == LINES, timeout=120, interval=3), f"{len(logged(target))} lines in Loki"
    until = time.time()
    before = held(target, until, recorded)
    assert len(before.samples) > 100
    assert {"shop/goods", "observability/data-prometheus-0", "observability/data-loki-0"} <= set(before.claims)

    done = subprocess.run(
        ["platformlib", "run", "install", "-f", str(file), "--output", str(tmp_path / "moved.ipynb")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

    moved = pl.Target(pl.load(file))
    after = held(moved, until, recorded)
    nothing_is_lost(before, after)
    nothing_is_made_anew(before, after, moved)
    run_pod(old, writer("reader", 'test "$(cat /goods/stock)" = apples'))
    it_is_as_a_fresh_one(moved)


def logged(target: "pl.Target") -> pd.DataFrame:
    """The lines that the application wrote."""
    return target.loki.lines('{namespace="shop"} |= "msg=line"', "15m")


def nothing_is_lost(before: Held, after: Held) -> None:
    """Every claim is bound to its volume, every sample and line of before is there."""
    assert after.claims == before.claims
    pd.testing.assert_frame_equal(rows(after.samples), rows(before.samples))
    pd.testing.assert_frame_equal(rows(after.lines), rows(before.lines))


def rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Its rows in one order."""
    plain = frame.reset_index().astype(str)
    return plain.sort_values(list(plain.columns), ignore_index=True)[sorted(plain.columns)]


def nothing_is_made_anew(before: Held, after: Held, target: "pl.Target") -> None:
    """Objects that are still wanted are the same; pods are, where their template is."""
    wanted = {str(reference(obj)) for name in target.settings.layers for obj in target.layer(name).render()}
    same = {ref: uid for ref, uid in before.uids.items() if ref in wanted}
    assert {ref: after.uids.get(ref) for ref in same} == same
    kept = {ref: template for ref, (template, _) in after.pods.items()}
    untouched = {ref: pods for ref, (template, pods) in before.pods.items() if kept.get(ref) == template}
    assert {ref: after.pods[ref][1] for ref in untouched} == untouched


def it_is_as_a_fresh_one(target: "pl.Target") -> None:
    """The mark, the inventories and every object have the form of today; installing again changes nothing."""
    kube, settings = target.kube, target.settings
    mark, home = kube.identity(), kube.get("v1", "Namespace", "kube-system")
    assert mark is not None and home is not None
    assert (mark.name, mark.uid, mark.distribution) == (TEST_LAB, home["metadata"]["uid"], "kubeadm")
    rendered = {name: {reference(obj) for obj in target.layer(name).render()} for name in settings.layers}
    assert {name: set(kube.inventory(name)) for name in settings.layers} == rendered
    maps = kube.list("v1", "ConfigMap", "kube-system", label_selector=LAYER_LABEL)
    inventories = {each["metadata"]["name"] for each in maps if each["metadata"]["name"].startswith(INVENTORY)}
    assert inventories == {INVENTORY + name for name, refs in rendered.items() if refs}
    actions = {action for name in settings.layers for action in target.layer(name).apply()["action"]}
    assert actions == {"unchanged"}
    assert target.diff().empty
