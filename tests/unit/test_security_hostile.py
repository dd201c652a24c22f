"""Text from a cluster that wants to be more than text: no shell, query, page, template or terminal obeys it."""

import io
import re
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
import pytest
from rich.console import Console

import platformlib as pl
from platformlib.cli import show
from platformlib.errors import CheckFailed, KubeError, PlatformError, SettingsError
from platformlib.kube import events
from platformlib.kube.api import Api
from platformlib.machines.machine import Completed, Machine
from platformlib.machines.ssh import SshMachine
from platformlib.query.catalog import named_queries
from platformlib.query.named import Named, literal
from platformlib.query.quoting import quoted, selector
from platformlib.runbook.events import Event
from platformlib.runbook.progress import Progress
from platformlib.security import access, connectivity, examples, network, pod_security, posture, probes
from platformlib.settings.models import Ssh
from platformlib.text import visible
from tests.unit.security_hostile import HOSTILE, controls

if TYPE_CHECKING:
    from platformlib.kube import Kube

Object = dict[str, Any]
OWN = "7f9f6c11-3f0e-4a55-8f0c-5f8a2ad0a001"
STATIC = "0123456789abcdef0123456789abcdef"
PARAMETERS: Object = {
    "name": "test",
    "cluster": {
        "distribution": "kubeadm", "nodes": [{"name": "m", "address": "192.168.1.11", "role": "control-plane"}],
    },
    "security": {"applications": [{"name": "shop"}]},
}  # fmt: skip
hostile = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())


@pytest.fixture(autouse=True)
def nothing_was_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("owned"))


# A root shell on a machine.


@hostile
def test_a_probe_takes_nothing_but_a_uid_an_address_and_a_port(text: str) -> None:
    good: Object = {"uid": OWN, "node": "m", "address": "10.42.0.1", "port": 80}
    for field in ("uid", "address", "protocol"):
        with pytest.raises(PlatformError):
            probes.Probe(**good | {field: text})
    with pytest.raises(PlatformError):
        probes.Probe(**good | {"address": f"fe80::1%{text.strip()}"})  # a zone of an address may be any text


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_probe_takes_no_port_that_is_none(port: int) -> None:
    with pytest.raises(PlatformError):
        probes.Probe(OWN, "m", "10.42.0.1", port)


def script(lines: str, folder: Path) -> subprocess.CompletedProcess[str]:
    argv = ["bash", "-c", probes.SCRIPT]
    return subprocess.run(argv, input=lines, capture_output=True, text=True, check=False, cwd=folder, timeout=30)


@hostile
def test_the_script_itself_takes_no_other_line(text: str, tmp_path: Path) -> None:
    for form in ("{} 10.42.0.1 80 TCP", "host {} 80 TCP", "host 10.42.0.1 {} TCP", "host 10.42.0.1 80 {}"):
        done = script(form.format(text) + "\n", tmp_path)
        assert done.returncode == 1 and done.stdout == "" and "not a probe" in done.stderr, form


def test_the_script_opens_connections_and_says_how_they_ended(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        threading.Thread(target=lambda: udp.sendto(*udp.recvfrom(512)), daemon=True).start()
        open_, dns = tcp.getsockname()[1], udp.getsockname()[1]
        wanted = {
            f"host 127.0.0.1 {open_} TCP": "open", "host 127.0.0.1 1 TCP": "refused", "host ::1 1 TCP": "refused",
            f"host 127.0.0.1 {dns} UDP": "open", "host 127.0.0.1 2 UDP": "closed", f"{OWN} 10.42.0.1 80 TCP": "gone",
        }  # fmt: skip
        done = script("".join(f"{line}\n" for line in wanted), tmp_path)
    assert sorted(done.stdout.splitlines()) == sorted(f"{line} {end}" for line, end in wanted.items()), done.stderr


@hostile
def test_no_annotation_owner_or_label_of_a_pod_decides_where_a_probe_starts(text: str) -> None:
    metadata = {
        "uid": OWN, "labels": {"x": text}, "ownerReferences": [{"kind": "Node", "name": "m", "uid": "1"}],
        "annotations": {"kubernetes.io/config.hash": text, "kubernetes.io/config.mirror": STATIC},
    }  # fmt: skip
    assert probes.start({"metadata": metadata, "spec": {"nodeName": "m"}}) == (OWN, "m")
    assert probes.start({"metadata": metadata, "spec": {"nodeName": "m", "hostNetwork": True}}) == ("host", "m")


class Recorder(Machine):
    """Remembers what would be started."""

    def __init__(self) -> None:
        super().__init__("m", "127.0.0.1")
        self.started: list[tuple[list[str], str]] = []

    def run(self, argv: Any, *, stdin: Any = None, **_: Any) -> Completed:
        self.started.append((list(argv), str(stdin)))
        return Completed(0, "", "")


def test_what_is_started_on_a_machine_is_the_same_for_every_probe() -> None:
    """Only the standard input differs, and it has lines of one form."""
    machine = Recorder()
    for address in ("10.42.0.1", "10.42.9.9"):
        probes._on(machine, [probes.Probe(OWN, "m", address, 80)])
    (first, one), (second, other) = machine.started
    assert first == second == ["bash", "-c", probes.SCRIPT]
    assert {one, other} == {f"{OWN} 10.42.0.1 80 TCP\n", f"{OWN} 10.42.9.9 80 TCP\n"}


@hostile
def test_an_argument_for_a_machine_stays_one_argument(text: str, tmp_path: Path) -> None:
    machine = SshMachine("m", "127.0.0.1", Ssh(), tmp_path)
    assert shlex.split(machine.argv(["kubectl", "drain", text])[-1])[-1] == text


@hostile
def test_an_address_from_the_cluster_is_no_part_of_a_pods_script(text: str) -> None:
    server = {"status": {"podIP": text}}
    made = examples.pod("client", "x", network.ASK, env=network._target(server))["spec"]["containers"][0]
    assert made["command"] == ["/bin/sh", "-c", network.ASK]
    assert {"name": "TARGET", "value": text} in made["env"]


# A query.


def skeleton(query: str) -> str:
    """A query without its string literals."""
    assert "`" not in re.sub(r'"(?:[^"\\]|\\.)*"', "", query)
    return re.sub(r'"(?:[^"\\]|\\.)*"', "S", query)


@hostile
def test_a_text_in_a_query_is_a_literal(text: str) -> None:
    assert skeleton(quoted(text)) == "S" and skeleton(selector(pod=text)) == "{pod=S}"
    assert skeleton(selector(pod=[text, "other"])) == "{pod=~S}"


@pytest.mark.parametrize("name", sorted(named_queries()))
def test_a_named_query_keeps_its_shape_whatever_its_parameters_are(name: str) -> None:
    for text in HOSTILE.values():
        keeps_its_shape(named_queries()[name], text)


def keeps_its_shape(query: Named, text: str) -> None:
    texts = [key for key, one in query.parameters.items() if one.type in ("text", "names", "pattern")]
    made, plain = (
        query.render(dict.fromkeys(texts, value), step=15_000_000_000, rate=15_000_000_000, window=3600_000_000_000)
        for value in (text, "plain")
    )
    assert skeleton(made) == skeleton(plain)
    for key, one in query.parameters.items():
        if one.type not in ("text", "names", "pattern"):
            with pytest.raises(PlatformError):
                literal(one, text, key)


# A terminal.


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the command line prints, without colours of its own."""
    file = io.StringIO()
    console = Console(file=file, highlight=False, width=4000, color_system=None)
    monkeypatch.setattr(show, "out", console)
    monkeypatch.setattr(show, "err", console)
    return file


@hostile
def test_the_command_line_prints_text_and_obeys_none_of_it(text: str, screen: io.StringIO) -> None:
    frame = pd.DataFrame({"message": [text], "list": [[text]]})
    show.table(frame)
    show.stages()(text)
    show.error(KubeError(text, fix=text))
    show.error(CheckFailed(text, table=frame))
    assert controls(screen.getvalue()) == []
    for line in visible(text).splitlines():
        assert line.strip() in screen.getvalue()


@hostile
def test_the_progress_of_a_run_prints_text_and_obeys_none_of_it(text: str) -> None:
    said: list[str] = []
    shown = Progress(said.append)
    for kind in ("started", "output", "ok"):
        shown(Event(kind, "id", "source", "heading", 1, 1, text=text if kind == "output" else ""))
    assert said and controls("".join(said)) == []


@hostile
def test_an_error_in_a_notebook_has_no_escapes_in_it(text: str) -> None:
    assert controls("".join(KubeError(text)._render_traceback_())) == []


def test_escapes_are_shown_as_they_are_written() -> None:
    assert visible("a\x1b[31mb\r\n\tc\u202e") == "a\\x1b[31mb\\x0d\n\tc\\x202e"


# A page, and every table of the security layer. The cluster's own words are in each column.


class Cluster:
    """A cluster in which everything that may be any text is hostile."""

    def __init__(self, text: str) -> None:
        self.text = text

    def list(self, _: str, kind: str, *__: object, **___: object) -> list[Object]:
        text, meta = self.text, {"name": "x", "namespace": "shop", "creationTimestamp": "2026-11-24T10:00:00Z"}
        noted = meta | {"annotations": {"a": text}}
        role = {"apiGroup": "x", "kind": "ClusterRole", "name": text}
        rules = [{"apiGroups": [text], "resources": [text, "secrets"], "verbs": [text, "get"]}]
        pod_spec = {"nodeName": "m", "containers": [{"name": "c", "image": text, "args": [text], "ports": []}]}
        found: dict[str, Object] = {
            "Namespace": {"metadata": {"name": "shop", "labels": {"platformlib.io/size": text}}},
            "Pod": {
                "metadata": noted, "spec": pod_spec,
                "status": {"phase": "Running", "podIP": "10.42.0.9", "message": text},
            },
            "NetworkPolicy": {
                "metadata": noted,
                "spec": {"podSelector": {}, "egress": [{}], "policyTypes": ["Ingress", "Egress"]},
            },
            # Names of roles and bindings may have every letter but / and %.
            "ClusterRole": {"kind": "ClusterRole", "metadata": {"name": text}, "rules": rules},
            "ClusterRoleBinding": {
                "kind": "ClusterRoleBinding", "metadata": {"name": text}, "roleRef": role,
                "subjects": [{"kind": "User", "name": text}],
            },
            "PolicyReport": {
                "metadata": noted, "scope": {"kind": "Pod", "name": text},
                "results": [{"timestamp": {"seconds": 1}, "policy": text, "result": "fail", "message": text,
                             "source": "KyvernoValidatingPolicy"}],
            },
            "Event": {
                "metadata": meta, "type": text, "reason": text, "message": text,
                "lastTimestamp": "2026-11-24T10:00:00Z",
                "involvedObject": {"kind": text, "name": text, "namespace": text},
            },
        }  # fmt: skip
        return [found[kind]] if kind in found else []


@hostile
def test_every_table_of_a_hostile_cluster_is_made_and_none_of_it_is_obeyed(text: str, screen: io.StringIO) -> None:
    settings, kube = pl.load(PARAMETERS), cast("Kube", Cluster(text))
    drift = pd.DataFrame(
        [["Pod", "shop", text, text, text, text]], columns=["kind", "namespace", "name", "field", "live", "wanted"]
    )
    found = posture.findings(kube, settings, drift)
    assert {"drift", "access", "pods", "policies", "network"} <= set(found["about"])
    assert not any(text in fix for fix in found["fix"]), "advice is followed word for word"
    frames = [
        found, posture.reports(kube), pod_security.pods(kube, settings), access.grants(kube),
        events.events(cast("Api", kube)),
    ]  # fmt: skip
    for frame in frames:
        assert len(frame) == 1 or frame is found
        show.table(frame)
        page = frame.to_html()
        assert "<script" not in page and "<img" not in page
    assert controls(screen.getvalue()) == []


def test_a_dollar_in_a_table_is_no_formula(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLATFORMLIB_STATE", str(tmp_path))
    pl.bind(PARAMETERS)
    shown = pd.DataFrame({"line": [HOSTILE["mathematics"]]})
    assert "mathjax_ignore" in str(getattr(shown, "_repr_html_")())  # noqa: B009  pandas' stubs lack it


def test_a_network_policy_of_any_form_does_not_stop_the_table() -> None:
    policy = {"metadata": {"namespace": "shop", "name": "p"},
              "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.42.0.9/8"}}]}]}}  # fmt: skip
    pods = connectivity.pods(Cluster("x").list("v1", "Pod"))
    rules = connectivity.Rules({"shop": {}}, (policy,))
    other = connectivity.Pod("x", "y", {}, "10.1.1.1", "n")
    assert rules.verdict(other, pods[0], 80).passes


# A template.


@hostile
@pytest.mark.parametrize("where", ["registries", "images"])
def test_what_reaches_the_templates_of_policies_has_one_form(text: str, where: str) -> None:
    policies: Object = {"registries": [text]}
    if where == "images":
        key = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
        policies = {"signatures": {"images": text, "public_key": key}}
    with pytest.raises(SettingsError):
        pl.load(PARAMETERS | {"security": {"policies": policies}})
