"""A hostile cluster: whatever may be any text is. All that reads it works, obeys nothing and escapes everything."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

import platformlib as pl
from platformlib import machines
from platformlib.cli import show
from platformlib.kube.objects import Reference
from platformlib.paths import state_dir
from platformlib.security import examples, probes
from tests.lab.conftest import PARAMETERS, ROOT
from tests.lab.test_platform import eventually
from tests.unit.security_hostile import HOSTILE, controls

Object = dict[str, Any]
OWNED = "/run/platformlib-owned"  # what every shell among the texts would make
TEXTS = {name: text.replace("touch owned", f"touch {OWNED}") for name, text in HOSTILE.items()}
PLACE = "shop"
WRITE = 'for line; do printf "%s\\n" "$line"; done; httpd -f -p 8080 -h /tmp'
NAMED = TEXTS["shell"].replace("/", ":")  # as hostile as the name of a role binding may be
READ_ONLY = sorted(
    path.stem for path in (ROOT / "notebooks").glob("*.ipynb") if "**Changes:** nothing" in path.read_text("utf-8")
)


def annotations() -> dict[str, str]:
    """Every text, and those that a kubelet alone should write."""
    free = {f"platformlib.example/{number}": text for number, text in enumerate(TEXTS.values())}
    return {**free, "kubernetes.io/config.hash": TEXTS["sed"], "kubernetes.io/config.source": TEXTS["shell"]}


def hostile_pod(owner: Object) -> Object:
    """A pod that pretends to be a static pod of a node, and writes every text to its log."""
    pod = examples.pod("hostile", PLACE, WRITE)
    pod["metadata"] |= {"annotations": annotations(), "ownerReferences": [owner]}
    pod["spec"]["containers"][0]["command"] += ["sh", *TEXTS.values()]
    return pod


def event(number: int, text: str) -> Object:
    return {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": f"hostile-{number}", "namespace": PLACE},
        "type": "Warning", "reason": text[:128], "message": text, "reportingComponent": text[:128], "count": 7,
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": PLACE, "name": text, "fieldPath": text},
        "firstTimestamp": now(), "lastTimestamp": now(),
    }  # fmt: skip


def now() -> str:
    return f"{pd.Timestamp.now('UTC'):%Y-%m-%dT%H:%M:%SZ}"


def binding() -> Object:
    api = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": {"name": NAMED, "namespace": PLACE},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "apiGroup": api, "name": text} for text in TEXTS.values()],
    }  # fmt: skip


@pytest.fixture(scope="module")
def cluster(target: "pl.Target") -> Iterator["pl.Target"]:
    """The lab with hostile annotations of a node and a namespace, a hostile pod, events and a binding."""
    kube = target.kube
    node = next(each for each in kube.list("v1", "Node") if "worker" in each["metadata"]["name"])
    owner = {"apiVersion": "v1", "kind": "Node", "name": node["metadata"]["name"], "uid": node["metadata"]["uid"]}
    made = [hostile_pod(owner), binding(), *(event(number, text) for number, text in enumerate(TEXTS.values()))]
    marked = [Reference("v1", "Node", "", node["metadata"]["name"]), Reference("v1", "Namespace", "", PLACE)]
    for each in made:
        kube.delete(each)
        kube.api.create(each)
    for ref in marked:
        annotate(kube, ref, annotations())
    kube.wait([made[0]], timeout=120)
    yield target
    for each in made:
        kube.delete(each)
    for ref in marked:
        annotate(kube, ref, dict.fromkeys(annotations()))


def annotate(kube: Any, ref: Reference, given: dict[str, Any]) -> None:
    body = {"metadata": {"annotations": given}}
    kube.api.call("PATCH", ref, body=body, content="application/merge-patch+json")


@pytest.fixture(autouse=True)
def nothing_was_executed(cluster: "pl.Target") -> Iterator[None]:
    """Not here, and not on a machine."""
    yield
    assert not Path(OWNED).exists()
    settings = cluster.settings
    state = state_dir(settings.name)
    for node in settings.cluster.nodes:
        machine = machines.connect(node, settings.cluster.ssh, state=state)
        assert not machine.run(["test", "-e", OWNED], check=False).ok, node.name


def obeyed(frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a page or a terminal would take for more than text."""
    show.table(frame)
    page = frame.to_html() + str(getattr(frame, "_repr_html_", str)())
    return [*controls(capsys.readouterr().out), *re.findall(r"<script>alert|<img src=x", page)]


@pytest.mark.full
def test_every_table_of_the_cluster_is_made_and_escaped(
    cluster: "pl.Target", capsys: pytest.CaptureFixture[str]
) -> None:
    security, kube = cluster.security, cluster.kube
    frames = {
        "findings": security.findings(), "pods": security.pods(), "grants": security.grants(),
        "quotas": security.quotas(),
        "reports": security.reports(), "all pods": cluster.pods.table(), "nodes": cluster.members.table(),
        "events": kube.events(), "events of the namespace": kube.events(PLACE, warnings=True),
        "status": cluster.status(), "reported": cluster.queries.events(window="1h"),
        "warnings": cluster.queries.warning_events(window="1h"),
    }  # fmt: skip
    assert {name: found for name, frame in frames.items() if (found := obeyed(frame, capsys))} == {}
    assert set(TEXTS.values()) <= set(frames["events of the namespace"]["message"]), "the texts did arrive"
    assert f"RoleBinding {PLACE}/{NAMED}" in set(frames["findings"]["object"])


@pytest.mark.full
def test_every_line_of_a_hostile_log_comes_back_as_it_was_written(
    cluster: "pl.Target", capsys: pytest.CaptureFixture[str]
) -> None:
    written = {line for text in TEXTS.values() for line in re.split(r"\r?\n", text)}

    def lines() -> set[str]:
        frame = cluster.queries.log_lines(namespace=PLACE, pod="hostile", window="15m")
        assert obeyed(frame, capsys) == []
        return set(frame["line"].astype(str).str.rstrip("\r")) if len(frame) else set()

    assert eventually(lambda: written - lines(), set()) == set()
    for text in TEXTS.values():
        line = text.splitlines()[0]
        found = cluster.queries.log_lines(namespace=PLACE, contains=line, window="15m")
        assert len(found) > 0 and found["line"].str.contains(line, regex=False).all(), line


def test_probes_start_where_the_pod_is_and_nowhere_else(cluster: "pl.Target") -> None:
    """The hostile pod claims to be a static pod: its connections are its own all the same."""
    live = cluster.kube.get("v1", "Pod", "hostile", PLACE)
    assert live is not None
    uid, node = probes.start(live)
    assert uid == live["metadata"]["uid"]
    server = next(each.address for each in cluster.settings.cluster.nodes if each.role == "control-plane")
    own, api = probes.Probe(uid, node, live["status"]["podIP"], 8080), probes.Probe(uid, node, str(server), 6443)
    found = probes.run(cluster.settings, [own, api])
    assert (found[own], found[api] == "open") == ("open", False), found
    table = cluster.security.connections()
    assert table["ok"].all(), table[~table["ok"]].to_string()
    assert f"{PLACE}/hostile" in set(table["source"])


@pytest.mark.parametrize("name", READ_ONLY)
def test_a_notebook_that_only_reads_shows_it_all_and_obeys_none(
    cluster: "pl.Target", name: str, tmp_path: Path
) -> None:
    """A view may judge: a finding is a finding. But it ends by itself, and what it shows is text."""
    output = tmp_path / f"{name}.ipynb"
    argv = ["platformlib", "run", name, "-f", str(PARAMETERS), "--output", str(output)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert controls(done.stdout + done.stderr) == []
    assert done.returncode in (0, 3), done.stdout[-2000:] + done.stderr[-2000:]
    for cell in nbformat.read(output, as_version=4).cells:
        for shown in cell.get("outputs", []):
            pages = [
                str(part) for kind, part in shown.get("data", {}).items() if kind in ("text/html", "image/svg+xml")
            ]
            assert not re.search(r"<script>alert|<img src=x", json.dumps(pages)), cell.source


def test_the_command_line_obeys_none_of_it(cluster: "pl.Target") -> None:
    for command in ("status", "diff"):
        argv = ["platformlib", command, "-f", str(PARAMETERS)]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
        assert controls(done.stdout + done.stderr) == [], command
