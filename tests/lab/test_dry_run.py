"""A dry run and a diff of a bare, an installed and a drifted lab change nothing: the API server counts the writes.

This module runs before others install the platform, since it begins with bare machines.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import platformlib as pl
from platformlib.errors import PlatformError
from platformlib.kube import Reference
from platformlib.lab import Lab
from platformlib.machines import Machine
from platformlib.polling import poll
from tests.lab.conftest import PARAMETERS, ROOT

MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
POLICY, LOG = "/etc/kubernetes/platformlib-audit.yaml", "/var/log/platformlib-audit.log"
USER = "kubernetes-admin"
# Every request of the kubeconfig's user is logged, and of nobody else.
AUDIT = {
    "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": [USER]}, {"level": "None"}],
}  # fmt: skip
CHECK_FAILED = 3
# What was written on a machine since a moment, systemd's and the journal's own files left out.
CHANGED = """find /etc /usr /opt /root /var/lib -xdev -newermt "@$1" \\( -type f -o -type l \\) \
  -not -path '/var/lib/systemd/*' -not -path '/etc/.updated' -not -path '/var/.updated' \
  -not -path '/var/lib/containerd/*' -not -path '/var/lib/kubelet/*' -not -path '/var/lib/etcd/*' \
  -not -path '/var/lib/cni/*' 2>/dev/null || true"""


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """A command on the lab's platform, as a person types it."""
    argv = ["platformlib", *words, "-f", str(PARAMETERS)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)


def machines(target: "pl.Target") -> dict[str, Machine]:
    """The machines of the lab, by name."""
    driver: Any = target.cluster.driver
    found: dict[str, Machine] = driver.machines
    return found


def written(target: "pl.Target", since: float) -> dict[str, list[str]]:
    """Files of each machine that are newer than a moment of this host's clock, which the machines share."""
    return {name: machine.shell(CHANGED, f"{since:.3f}").split() for name, machine in machines(target).items()}


@pytest.fixture(scope="module")
def bare(lab: Lab) -> "pl.Target":
    """The lab without a cluster: made anew if an earlier run has left one."""
    target = pl.Target(lab.settings)
    try:
        target.cluster.kubeconfig()
    except PlatformError:
        return target
    lab.down(print)
    lab.up(print)
    return pl.Target(lab.settings)


@pytest.mark.proves("a dry run works on bare machines and changes none of them", room="targets")
def test_bare_machines(bare: "pl.Target", tmp_path: Path) -> None:
    began = time.time()
    planned = command("install", "--dry-run")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    for words in ("would run kubeadm init", "would run kubeadm join", "kube-router", "prometheus", "would change"):
        assert words in planned.stdout, words
    notebook = command("run", "install", "--dry-run", "--output", str(tmp_path / "dry.ipynb"))
    assert notebook.returncode == 0, notebook.stdout[-3000:] + notebook.stderr[-3000:]
    assert command("diff").returncode == CHECK_FAILED
    assert written(bare, began) == {name: [] for name in machines(bare)}
    assert not bare.kubeconfig.exists()


@pytest.fixture
def audited(target: "pl.Target") -> Iterator[Machine]:
    """The control plane's machine, with an API server that logs what the kubeconfig's user asks."""
    control = next(node.name for node in target.settings.cluster.nodes if node.role == "control-plane")
    machine = machines(target)[control]
    before = (machine.read(MANIFEST) or b"").decode()
    machine.write(POLICY, yaml.safe_dump(AUDIT))
    machine.write(MANIFEST, with_audit(before), 0o600)
    try:
        restarted(target, machine, f"audit-log-path={LOG}", there=True)
        yield machine
    finally:
        machine.write(MANIFEST, before, 0o600)
        restarted(target, machine, f"audit-log-path={LOG}", there=False)
        machine.change(["rm", "-f", POLICY, LOG])


def with_audit(text: str) -> str:
    """kubeadm's manifest of the API server, with a log of requests."""
    manifest = yaml.safe_load(text)
    container = manifest["spec"]["containers"][0]
    container["command"] += [f"--audit-policy-file={POLICY}", f"--audit-log-path={LOG}"]
    for name, path, kind in (("audit-policy", POLICY, "File"), ("audit-log", LOG, "FileOrCreate")):
        container["volumeMounts"].append({"name": name, "mountPath": path, "readOnly": kind == "File"})
        manifest["spec"]["volumes"].append({"name": name, "hostPath": {"path": path, "type": kind}})
    return yaml.safe_dump(manifest, sort_keys=False)


def restarted(target: "pl.Target", machine: Machine, argument: str, *, there: bool) -> None:
    """Wait until the API server that answers has the argument, or has not."""

    def look() -> bool:
        lines = machine.run(["pgrep", "-af", "kube-apiserver"], check=False).stdout.splitlines()
        running = [line for line in lines if "--etcd-servers" in line]
        if not running or any((argument in line) != there for line in running):
            return False
        try:
            return target.kube.api.session.request("GET", "/readyz").text == "ok"
        except PlatformError:
            return False

    assert poll(look, timeout=180, interval=2), f"the API server did not restart with {argument} {there}"


def requests(machine: Machine) -> list[tuple[str, str]]:
    """Verb and URI of what the user has asked so far."""
    lines = (machine.read(LOG) or b"").decode().splitlines()
    return [(each["verb"], each["requestURI"]) for each in map(json.loads, lines)]


@pytest.mark.proves("diff and a dry run send no write to an installed or drifted cluster", room="kube")
def test_an_installed_and_a_drifted_platform(audited: Machine, target: "pl.Target", tmp_path: Path) -> None:
    def look() -> tuple[int, str]:
        before, began = len(requests(audited)), time.time()
        planned = command("install", "--dry-run")
        assert planned.returncode == 0, planned.stdout + planned.stderr
        notebook = command("run", "install", "--dry-run", "--output", str(tmp_path / f"dry-{before}.ipynb"))
        assert notebook.returncode == 0, notebook.stdout[-3000:] + notebook.stderr[-3000:]
        differs = command("diff")
        asked = requests(audited)[before:]
        assert len(asked) > 100
        writes = [(verb, uri) for verb, uri in asked if verb not in {"get", "list"} and "dryRun=All" not in uri]
        assert [(verb, uri) for verb, uri in writes if "accessreviews" not in uri] == []
        assert written(target, began) == {name: [] for name in machines(target)}
        return differs.returncode, differs.stdout

    assert look()[0] == 0
    service = Reference("v1", "Service", "observability", "prometheus")
    target.kube.delete(service)
    try:
        status, said = look()
        assert (status, "prometheus" in said) == (CHECK_FAILED, True)
        assert target.kube.api.get(service) is None
    finally:
        for name in target.settings.layers:
            target.layer(name).apply()
    assert target.diff().empty
