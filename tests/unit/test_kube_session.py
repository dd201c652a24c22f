"""Credentials, retries and refusals, on a transport that answers as a server would."""

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina
import urllib3

from platformlib.errors import ApiError, KubeError
from platformlib.kube import Kube
from platformlib.kube import wait as waiting
from platformlib.kube.credentials import Credentials
from tests.unit.kube_fakes import Answer, Sent, connect, kubeconfig, refusal

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    """Retries follow at once, five at most."""
    with stamina.set_testing(True, attempts=5, cap=True):
        yield


@pytest.mark.parametrize(
    ("first", "passes"),
    [
        (urllib3.exceptions.ProtocolError("connection refused"), True),
        (urllib3.exceptions.TimeoutError("slow"), True),
        (refusal(429, "too many requests"), True),
        (refusal(503, "apiserver is shutting down"), True),
        (refusal(500, "etcdserver: leader changed"), True),
        (refusal(500, 'failed calling webhook "x": connection refused'), True),
        (refusal(500, ".spec.replica: field not declared in schema"), False),
        (refusal(403, "forbidden"), False),
        (refusal(422, "invalid"), False),
        (urllib3.exceptions.ProtocolError("[SSL: CERTIFICATE_VERIFY_FAILED]"), False),
    ],
)
def test_what_passes_is_tried_again_and_nothing_else(tmp_path: Path, first: Answer | Exception, passes: bool) -> None:
    answers = iter([first, Answer(200, {"gitVersion": "v1.35.4"})])

    def server(_: Sent) -> Answer:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    kube = connect(kubeconfig(tmp_path, {"token": SECRET}), server)
    if passes:
        assert kube.version() == "v1.35.4"
    else:
        with pytest.raises(KubeError):
            kube.version()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refusal(401, "Unauthorized"), "were not accepted: renew them"),
        (refusal(403, "cannot list"), "lacks the right"),
        (urllib3.exceptions.ProtocolError("[SSL: CERTIFICATE_VERIFY_FAILED] unable"), "is it another cluster's?"),
        (urllib3.exceptions.ProtocolError("[Errno 111] Connection refused"), "is the control plane up"),
    ],
)
def test_errors_say_what_to_do(tmp_path: Path, answer: Answer | Exception, words: str) -> None:
    def server(_: Sent) -> Answer:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(KubeError) as refused:
        connect(kubeconfig(tmp_path, {"token": SECRET}), server).version()
    assert words in refused.value.fix
    assert SECRET not in str(refused.value)


def test_a_renewed_token_is_read_from_the_file(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    seen = []

    def server(request: Sent) -> Answer:
        seen.append(request.headers["Authorization"])
        token.write_text("new")
        return refusal(401, "expired") if seen[-1].endswith("old") else Answer(200, {"gitVersion": "v"})

    kube = connect(kubeconfig(tmp_path, {"tokenFile": str(token)}), server)
    assert kube.version() == "v"
    assert seen == ["Bearer old", "Bearer new"]
    assert kube.service("ns", "web", 80).headers() == {"Authorization": "Bearer new"}


def test_an_exec_plugin_is_asked_again_before_its_token_expires(tmp_path: Path) -> None:
    """Each run of the plugin gives another token, already about to expire."""
    plugin = tmp_path / "plugin"
    plugin.write_text(
        f"""#!/bin/sh
n=$(cat {tmp_path}/n 2>/dev/null || echo 0); n=$((n + 1)); echo $n > {tmp_path}/n
echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
 "status": {{"token": "token-'$n'", "expirationTimestamp": "2026-01-01T00:00:00Z"}}}}'
"""
    )
    plugin.chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}}
    own = Credentials.load(kubeconfig(tmp_path, user))
    first, second = own.headers()["Authorization"], own.headers()["Authorization"]
    assert first.startswith("Bearer token-")
    assert first != second


def test_secrets_do_not_show(tmp_path: Path) -> None:
    kube = connect(kubeconfig(tmp_path, {"token": SECRET}), lambda _: Answer(200, {}))
    route = kube.service("ns", "web", 80)
    shown = "".join(map(repr, (kube, route, kube.api.session.credentials, kube.api)))
    assert SECRET not in shown
    assert repr(kube) == "Kube(https://127.0.0.1:1, context='it', user='u')"


@pytest.mark.parametrize(
    ("user", "cluster", "context", "words"),
    [
        ({"token": SECRET}, {}, "other", "no 'other' among its contexts (it)"),
        ({"client-certificate-data": base64.b64encode(SECRET.encode()).decode()}, {}, None, "cannot be read"),
        ({"token": SECRET, "client-certificate": "/nowhere"}, {}, None, "File does not exist"),
        ({"exec": {"command": "/nowhere", "apiVersion": "v1"}}, {}, None, "exec plugin of user u gave no credential"),
    ],
)
def test_a_broken_kubeconfig_is_named(
    tmp_path: Path, user: dict[str, str], cluster: dict[str, str], context: str | None, words: str
) -> None:
    path = kubeconfig(tmp_path, user, **cluster)
    with pytest.raises(KubeError) as refused:
        Kube.connect(path, context)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("content", [None, "a: [", "", "- a\n"])
def test_no_kubeconfig(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    with pytest.raises(KubeError, match="fix:"):
        Kube.connect(path)


def test_verification_is_left_out_only_on_request(tmp_path: Path) -> None:
    strict = Credentials.load(kubeconfig(tmp_path, {"token": SECRET})).tls
    lax = Credentials.load(kubeconfig(tmp_path, {"token": SECRET}, **{"insecure-skip-tls-verify": True})).tls
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert lax.verify_mode == ssl.CERT_NONE


def test_lists_are_read_page_by_page(tmp_path: Path) -> None:
    resources = {"resources": [{"name": "pods", "kind": "Pod", "namespaced": True}]}

    def server(request: Sent) -> Answer:
        if request.path == "/api/v1":
            return Answer(200, resources)
        page = request.params.get("continue", "0")
        following = {"0": "1", "1": ""}[page]
        items = [{"metadata": {"name": page}}]
        return Answer(200, {"items": items, "metadata": {"continue": following}})

    found = connect(kubeconfig(tmp_path, {"token": SECRET}), server).list("v1", "Pod")
    assert [(obj["kind"], obj["metadata"]["name"]) for obj in found] == [("Pod", "0"), ("Pod", "1")]


def test_a_refusal_names_the_object(tmp_path: Path) -> None:
    resources = {"resources": [{"name": "pods", "kind": "Pod", "namespaced": True}]}

    def server(request: Sent) -> Answer:
        return Answer(200, resources) if request.path == "/api/v1" else refusal(403, "no")

    with pytest.raises(ApiError, match="Pod ns/web: no") as refused:
        connect(kubeconfig(tmp_path, {"token": SECRET}), server).get("v1", "Pod", "web", "ns")
    assert (refused.value.status, refused.value.reason) == (403, "R")


def test_a_server_that_goes_away_is_a_cause_and_not_the_end_of_a_wait(tmp_path: Path) -> None:
    """It answers discovery, then is away for two polls, then the object is there."""
    resources = {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]}
    there = {"items": [{"metadata": {"name": "it", "namespace": "ns"}}], "metadata": {}}
    wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "it", "namespace": "ns"}}
    away = iter(range(10))
    told: list[str] = []

    def server(request: Sent) -> Answer:
        if request.path == "/api/v1":
            return Answer(200, resources)
        if next(away, None) is not None:
            raise urllib3.exceptions.ProtocolError("connection refused")
        return Answer(200, there)

    kube = connect(kubeconfig(tmp_path, {"token": SECRET}), server)
    table = kube.wait([wanted], timeout=20, on_event=lambda progress: told.append(str(progress)))
    assert list(table["ready"]) == [True]
    assert "does not answer: connection refused" in told[0]


def test_a_server_that_has_just_booted_refuses_until_it_has_read_its_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]}
    there = {"items": [{"metadata": {"name": "it", "namespace": "ns"}}], "metadata": {}}
    wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "it", "namespace": "ns"}}
    booting = iter(range(2))

    def server(request: Sent) -> Answer:
        if request.path == "/api/v1":
            return Answer(200, resources)
        return refusal(403, "RBAC: not yet") if next(booting, None) is not None else Answer(200, there)

    kube = connect(kubeconfig(tmp_path, {"token": SECRET}), server)
    assert list(kube.wait([wanted], timeout=20)["ready"]) == [True]
    booting = iter(range(2))
    monkeypatch.setattr(waiting, "SETTLING", 0)
    with pytest.raises(ApiError, match="RBAC: not yet"):
        kube.wait([wanted], timeout=20)


@pytest.mark.parametrize(("live", "action"), [(None, "created"), ("1", "unchanged"), ("0", "configured")])
def test_where_a_webhook_forbids_the_dry_run_the_apply_itself_tells(
    tmp_path: Path, live: str | None, action: str
) -> None:
    """The inventory is there already, and every write succeeds but the dry one."""
    names = {"name": "configmaps", "kind": "ConfigMap", "namespaced": True}
    labels = {"app.kubernetes.io/managed-by": "platformlib", "app.kubernetes.io/part-of": "platformlib"}
    metadata = {"name": "it", "namespace": "ns", "labels": {**labels, "platformlib.io/layer": "l"}}
    wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}}

    def server(request: Sent) -> Answer:
        if request.path == "/api/v1":
            return Answer(200, {"resources": [names]})
        if request.method == "GET":
            if request.path.endswith("/configmaps"):
                return Answer(200, {"items": None, "metadata": {}})
            found = live is not None and request.path.endswith("/it")
            return Answer(200, {**wanted, "data": {"a": live}}) if found else refusal(404, "none")
        if "dryRun" in request.params:
            return refusal(400, 'admission webhook "w" does not support dry run')
        return Answer(200, request.body)

    table = connect(kubeconfig(tmp_path, {"token": SECRET}), server).apply([wanted], layer="l")
    assert list(table["action"]) == [action]
