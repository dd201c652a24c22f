"""Servers that are slow, overloaded, forgetful or lying: what comes back is an answer or a clear error."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina
import urllib3

from platformlib.errors import ApiError, DryRunRefused, KubeError, WaitTimeout
from platformlib.kube import Kube, Reference, inventory, session
from tests.unit.kube_fakes import Answer, MemoryServer, Sent, Server, config_map, connect, kubeconfig, refusal

GONE, BUSY = refusal(410, "the provided continue parameter is too old", "Expired"), refusal(429, "too many requests")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Retries follow at once, five at most; what this machine remembers is the test's own."""
    monkeypatch.setenv("PLATFORMLIB_STATE", str(tmp_path / "state"))
    with stamina.set_testing(True, attempts=5, cap=True):
        yield


@pytest.fixture
def to(tmp_path: Path) -> Callable[[Server], Kube]:
    """A handle to a function."""
    return lambda server: connect(kubeconfig(tmp_path, {"token": "t"}), server)


class Interrupted(MemoryServer):
    """Answers some requests of its own first: (method, end of the path) → answers."""

    def __init__(self, *objects: Any, first: dict[tuple[str, str], list[Answer]]) -> None:
        super().__init__(*objects)
        self.first = first

    def __call__(self, sent: Sent) -> Answer:
        for (method, end), answers in self.first.items():
            if answers and sent.method == method and sent.path.endswith(end):
                return answers.pop(0)
        return super().__call__(sent)


def test_a_wait_survives_429(to: Callable[[Server], Kube]) -> None:
    """More of them than one request is repeated for."""
    kube = to(Interrupted(config_map("web"), first={("GET", "/configmaps"): [BUSY] * 12}))
    told: list[str] = []
    table = kube.wait([config_map("web")], timeout=20, on_event=lambda progress: told.append(str(progress)))
    assert list(table["ready"]) == [True]
    assert "too many requests" in told[0]


@pytest.mark.parametrize("times", [1, 3])
def test_a_list_that_the_server_forgot_starts_anew(to: Callable[[Server], Kube], times: int) -> None:
    """410 comes in the middle: with the second page."""
    left = [GONE] * times

    def server(sent: Sent) -> Answer:
        if sent.path == "/api/v1":
            return MemoryServer()(sent)
        if "continue" not in sent.params:
            return Answer(200, {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "more"}})
        return left.pop() if left else Answer(200, {"items": [{"metadata": {"name": "b"}}], "metadata": {}})

    assert [obj["metadata"]["name"] for obj in to(server).list("v1", "ConfigMap")] == ["a", "b"]


def test_a_list_that_the_server_always_forgets_is_an_error(to: Callable[[Server], Kube]) -> None:
    first = Answer(200, {"items": [], "metadata": {"continue": "more"}})
    kube = to(
        lambda sent: GONE if "continue" in sent.params else MemoryServer()(sent) if sent.path == "/api/v1" else first
    )
    with pytest.raises(ApiError, match="too old"):
        kube.list("v1", "ConfigMap")


@pytest.mark.parametrize("empty", [{"items": None, "metadata": {}}, {"metadata": None}, {"items": []}])
def test_an_empty_list_has_several_spellings(to: Callable[[Server], Kube], empty: dict[str, Any]) -> None:
    kube = to(lambda sent: MemoryServer()(sent) if sent.path == "/api/v1" else Answer(200, empty))
    assert kube.list("v1", "ConfigMap") == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(200, b"<html>log in</html>"), "is not JSON"),
        (Answer(200, b""), "is not JSON"),
        (Answer(200, []), "is a list, not an object"),
        (Answer(200, {"items": [None]}), "has no name"),
        (Answer(200, {"items": [{"metadata": {"name": ""}}]}), "has no name"),
        (Answer(403, b"<html>no</html>"), "<html>no</html>"),
        (Answer(403, ["no"]), "no"),
        (Answer(302, {"message": "elsewhere"}), "elsewhere"),
    ],
)
def test_a_server_that_speaks_something_else(to: Callable[[Server], Kube], answer: Answer, words: str) -> None:
    kube = to(lambda sent: MemoryServer()(sent) if sent.path == "/api/v1" else answer)
    with pytest.raises(KubeError, match=words):
        kube.list("v1", "ConfigMap")


EVIL = "\x1b]0;owned\x07\x1b[2J\u202e$(reboot)"


def test_words_of_the_cluster_do_not_reach_the_terminal_as_commands(to: Callable[[Server], Kube]) -> None:
    """In conditions, events, log lines and refusals."""
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    ended = {"terminated": {"exitCode": 1, "message": EVIL}}
    status = {
        "phase": "Pending",
        "message": EVIL,
        "containerStatuses": [{"name": "c", "restartCount": 2, "state": waiting, "lastState": ended}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}, "status": status}
    about = {"kind": "Pod", "name": "web", "namespace": "shop"}
    event = {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "shop"}, "type": "Warning",
        "reason": "Bad", "message": EVIL, "involvedObject": about,
    }  # fmt: skip

    class Logging(MemoryServer):
        def _get(self, sent: Sent) -> Answer:
            return Answer(200, EVIL.encode()) if sent.path.endswith("/log") else super()._get(sent)

    told: list[str] = []
    with pytest.raises(WaitTimeout) as late:
        to(Logging(pod, event)).wait([pod], timeout=0, on_event=lambda progress: told.append(str(progress)))
    with pytest.raises(ApiError) as refused:
        to(lambda _: refusal(403, EVIL)).version()
    for text in (str(late.value), str(refused.value), told[0], "".join(late.value.table["detail"])):
        assert "$(reboot)" in text
        assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_a_name_is_one_part_of_a_path(to: Callable[[Server], Kube]) -> None:
    kube = to(MemoryServer())
    with pytest.raises(DryRunRefused):
        connect(kube.api.session.credentials.path, MemoryServer(), dry_run=True).api.delete(
            Reference("v1", "ConfigMap", "shop", "x?dryRun=All")
        )
    assert kube.api.path(Reference("v1", "ConfigMap", "a/b", "../../nodes?x#y")).endswith(
        "/namespaces/a%2Fb/configmaps/..%2F..%2Fnodes%3Fx%23y"
    )


def test_an_answer_that_never_ends_is_given_up(to: Callable[[Server], Kube], monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte after the other, each in time."""

    class Trickle(urllib3.HTTPResponse):
        def read1(self, *_: Any, **__: Any) -> bytes:
            return b" "

    monkeypatch.setattr(session, "WHOLE_WITHIN", 0.05)
    monkeypatch.setattr(Answer, "response", lambda _: Trickle(b"", preload_content=False))
    with pytest.raises(KubeError, match="was not whole after 0 s"):
        to(MemoryServer()).version()


def test_an_object_made_anew_is_judged_anew(to: Callable[[Server], Kube]) -> None:
    """Between the look and the deletion somebody else's object takes the name: it stays."""
    recorded = '["v1", "ConfigMap", "shop", "web"]\n["v1", "ConfigMap", "shop", "kept"]'
    inventory_of = config_map("platformlib-layer-shop", "kube-system", layer="shop", data={"references": recorded})

    class Replaced(MemoryServer):
        def _delete(self, sent: Sent) -> Answer:
            if "labels" in self.objects[sent.path]["metadata"] and sent.path.endswith("/web"):
                del self.objects[sent.path]
                self.put(config_map("web", data={"of": "others"}))
            return super()._delete(sent)

    server = Replaced(config_map("web", layer="shop"), config_map("kept", layer="shop"), inventory_of)
    table = to(server).prune("shop", [config_map("kept")])
    assert list(table["action"]) == ["kept, of nobody: it has no layer's label"]
    assert server.objects["/api/v1/namespaces/shop/configmaps/web"]["data"] == {"of": "others"}


def test_a_layer_that_became_empty_is_not_pruned(to: Callable[[Server], Kube]) -> None:
    recorded = config_map(
        "platformlib-layer-shop", "kube-system", layer="shop", data={"references": '["v1", "ConfigMap", "shop", "web"]'}
    )
    kube = to(server := MemoryServer(config_map("web", layer="shop"), recorded))
    with pytest.raises(KubeError, match="1 are on the cluster; nothing was pruned") as refused:
        kube.prune("shop", [])
    assert "uninstall" in refused.value.fix
    assert len(server.objects) == 2
    assert list(kube.uninstall("shop")["action"]) == ["deleted"]
    assert kube.prune("shop", []).empty, "a layer without objects has nothing to prune"


ORDERS = [Reference("v1", "ConfigMap", "shop", f"order-{number}") for number in range(6)]


def test_an_inventory_that_was_written_in_between_is_merged(to: Callable[[Server], Kube]) -> None:
    """Before each write is answered another writer was quicker."""

    class Raced(MemoryServer):
        def _put(self, sent: Sent) -> Answer:
            if rivals:
                inventory.record(kube.api, "shop", [rivals.pop()])
            return super()._put(sent)

    kube, rivals = to(Raced()), list[Reference]()
    inventory.record(kube.api, "shop", ORDERS[:1])
    rivals += ORDERS[1:5]
    inventory.record(kube.api, "shop", ORDERS[5:])
    assert kube.inventory("shop") == ORDERS


def test_a_broken_inventory_is_named_and_left(to: Callable[[Server], Kube]) -> None:
    broken = config_map("platformlib-layer-shop", "kube-system", layer="shop", data={"references": '["v1", "Config'})
    kube = to(server := MemoryServer(broken))
    for verb in (
        lambda: kube.inventory("shop"),
        lambda: kube.apply([config_map("a")], layer="shop"),
        lambda: kube.uninstall("shop"),
    ):
        with pytest.raises(KubeError, match="platformlib-layer-shop: the inventory in it cannot be read"):
            verb()
    assert server.objects["/api/v1/namespaces/kube-system/configmaps/platformlib-layer-shop"]["data"] == broken["data"]
