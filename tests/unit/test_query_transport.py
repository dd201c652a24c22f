"""How questions travel: credentials, retries, cut connections, recordings."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import stamina

from platformlib.errors import BadQuery, NotRecorded, QueryCancelled, QueryError, SourceUnavailable
from platformlib.query import Http, Loki, Prometheus, Recording, Replay, connect, direct
from platformlib.query.ask import ask
from platformlib.query.cassette import scrub
from platformlib.query.pool import in_parallel
from tests.unit.query_fakes import NOW, Fake, FakeLoki, FakePrometheus, Labels, Line, ok


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


def answering(*statuses: int, body: bytes = b"{}") -> tuple[Http, list[httpx.Request]]:
    """A server that gives these statuses in turn, the last one for ever; and what it was asked."""
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(statuses[min(len(seen), len(statuses)) - 1], content=body)

    return Http("http://server/base/", transport=httpx.MockTransport(handler)), seen


def test_what_may_pass_is_asked_again_until_it_has() -> None:
    transport, seen = answering(503, 429, 200)
    assert ask(transport, "/x", {}).status == 200
    assert len(seen) == 3


@pytest.mark.parametrize(("status", "error"), [(400, BadQuery), (422, BadQuery), (401, QueryError), (500, QueryError)])
def test_what_will_not_pass_is_asked_once(status: int, error: type[Exception]) -> None:
    transport, seen = answering(status, body=b"because of this")
    with pytest.raises(error, match="because of this"):
        ask(transport, "/x", {})
    assert len(seen) == 1


def test_an_overloaded_server_is_given_up_in_the_end() -> None:
    transport, seen = answering(503, body=b"<html><title>Busy</title><body>come back</body></html>")
    with pytest.raises(SourceUnavailable, match="an HTML page, as of a proxy: Busy come back"):
        ask(transport, "/x", {})
    assert len(seen) == 4


def test_a_query_that_timed_out_in_the_server_is_not_asked_again() -> None:
    transport, seen = answering(503, body=b'{"status":"error","errorType":"timeout","error":"query timed out"}')
    with pytest.raises(QueryError, match="shorter window"):
        ask(transport, "/x", {})
    assert len(seen) == 1


@contextmanager
def cutting(content: bytes) -> Iterator[str]:
    """A real server that sends its head, and a part of what it promised."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + content)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_a_connection_cut_in_the_middle_is_no_answer() -> None:
    with cutting(ok({"resultType": "matrix", "result": []})) as url:
        transport = direct(url)
        with pytest.raises(SourceUnavailable, match="peer closed"):
            Prometheus(transport=transport).query_range("x", "1h")
        transport.close()


def test_nobody_listens() -> None:
    transport = direct("http://127.0.0.1:9")
    with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1:9"):
        Loki(transport).lines("{}", "1h")
    transport.close()


def test_long_queries_are_sent_as_a_form() -> None:
    transport, seen = answering(200)
    ask(transport, "/x", {"query": "y" * 7000})
    assert (seen[0].method, seen[0].read()) == ("POST", b"query=" + b"y" * 7000)


def test_credentials_are_asked_for_at_each_request_and_never_shown(tmp_path: Path, monkeypatch: Any) -> None:
    token = tmp_path / "token"
    token.write_text("first-token\n")
    sent: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["authorization"])
        return httpx.Response(200, content=b"{}")

    transport = direct("https://server", token=f"file:{token}")
    transport._client = httpx.Client(transport=httpx.MockTransport(handler))
    ask(transport, "/x", {})
    token.write_text("renewed-token")
    ask(transport, "/x", {})
    assert sent == ["Bearer first-token", "Bearer renewed-token"]
    assert "token" not in repr(transport)
    monkeypatch.setenv("PASSWORD_OF_TEST", "p")
    basic = direct("https://server", user="u", password="env:PASSWORD_OF_TEST")
    assert basic._credentials()["authorization"] == "Basic dTpw"
    basic.close()


@pytest.mark.parametrize("reference", ["hunter2-in-the-open", "env:NOT_SET_ANYWHERE", "file:/nowhere/at/all"])
def test_a_secret_in_the_open_or_nowhere_is_refused_without_being_shown(reference: str) -> None:
    with pytest.raises(QueryError) as caught:
        direct("http://server", token=reference)
    assert "hunter2" not in str(caught.value)


def test_a_failing_part_stops_the_others() -> None:
    started: list[int] = []

    def part(number: int, stop: threading.Event) -> int:
        started.append(number)
        if number == 0:
            raise BadQuery("no")
        if not stop.wait(5):
            raise AssertionError("was not stopped")
        return number

    with pytest.raises(BadQuery):
        in_parallel(part, range(50), workers=2)
    assert len(started) < 10


def test_progress_counts_every_part() -> None:
    told: list[tuple[int, int]] = []
    in_parallel(lambda part, _: part, range(7), progress=lambda done, whole: told.append((done, whole)))
    assert sorted(told) == [(k, 7) for k in range(1, 8)]


def test_a_transport_stops_when_it_is_cancelled() -> None:
    stop = threading.Event()
    stop.set()
    transport, _ = answering(200, body=b"x" * 100)
    with pytest.raises(QueryCancelled):
        transport.get("/x", {}, cancel=stop)


SAMPLES: dict[Labels, dict[int, float]] = {
    (("node", name),): {NOW // 10**6 - 15_000 * k: float(k) for k in range(60)} for name in "ab"
}


def moved(seconds: float) -> FakePrometheus:
    """A server some time later, with what it measured since."""
    server = FakePrometheus(samples=SAMPLES)
    server.now = lambda: NOW + round(seconds * 1e9)  # type: ignore[method-assign]
    return server


@pytest.mark.parametrize("window", [{"window": "10m"}, {"start": "-10m"}, {"start": NOW / 1e9 - 600, "end": NOW / 1e9}])
def test_a_recording_answers_the_same_window_whenever_it_is_asked(tmp_path: Path, window: dict[str, Any]) -> None:
    recorded = Prometheus(transport=Recording(moved(0.7), tmp_path)).query_range("x", **window)
    replayed = Prometheus(transport=Replay(tmp_path)).query_range("x", **window)
    assert len(recorded.columns) == 2
    pd.testing.assert_frame_equal(recorded, replayed)
    assert recorded.attrs == replayed.attrs


def test_split_windows_and_earlier_ones_are_told_apart(tmp_path: Path) -> None:
    hours = (
        {"window": "1h", "step": "15s"},
        {"window": "1h", "end": "-1h", "step": "15s"},
        {"window": "2h", "step": 0.5},
    )
    recording = Prometheus(transport=Recording(moved(0), tmp_path))
    recorded = [recording.query_range("x", **hour) for hour in hours]
    replayed = [Prometheus(transport=Replay(tmp_path)).query_range("x", **hour) for hour in hours]
    for one, other in zip(recorded, replayed, strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert recorded[1].empty
    assert not recorded[2].empty


def test_pages_of_lines_replay(tmp_path: Path) -> None:
    lines = [Line(NOW - k * 10**8 // 3, (("app", "a"),), str(k)) for k in range(1, 400)]
    asked = {"logql": '{app="a"}', "window": "5m"}
    recorded = Loki(Recording(FakeLoki(lines=lines), tmp_path), page=50).lines(**asked)  # type: ignore[arg-type]
    replayed = Loki(Replay(tmp_path), page=50).lines(**asked)  # type: ignore[arg-type]
    assert len(recorded) == 399
    pd.testing.assert_frame_equal(recorded, replayed)


def test_what_is_not_recorded_is_named(tmp_path: Path) -> None:
    Prometheus(transport=Recording(moved(0), tmp_path)).query_range("x", "10m")
    with pytest.raises(NotRecorded, match="another_query"):
        Prometheus(transport=Replay(tmp_path)).query_range("another_query", "10m")


def test_the_environment_chooses_recording_and_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORMLIB_REPLAY", str(tmp_path))

    def route() -> Any:
        raise AssertionError("a replay needs no cluster")

    assert isinstance(connect(route, name="prometheus"), Replay)
    monkeypatch.delenv("PLATFORMLIB_REPLAY")
    monkeypatch.setenv("PLATFORMLIB_RECORD", str(tmp_path))
    assert isinstance(connect("http://server", name="prometheus"), Recording)


SECRETS = [
    "Authorization: Bearer abcdefghijklmnopqrstuvwxyz012345",
    'password="sup3rs3cretvalue"',
    r"{\"token\":\"sup3rs3cretvalue\"}",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJlLW9mLWl0",
    "postgres://user:sup3rs3cretvalue@host/db",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEsup3rs3cretvalue\n-----END RSA PRIVATE KEY-----",
    "AKIAIOSFODNN7EXAMPLE",
]
TELLTALES = [b"sup3rs3cret", b"abcdefghijkl", b"c2lnbmF0", b"AKIAIOSF"]


@pytest.mark.parametrize("text", SECRETS)
def test_recordings_are_scrubbed(text: str, tmp_path: Path) -> None:
    scrubbed = scrub(text.encode())
    assert b"REDACTED" in scrubbed
    assert not any(telltale in scrubbed for telltale in TELLTALES)
    body = ok({"resultType": "vector", "result": [{"metric": {"line": text}, "value": [1, "2"]}]})
    Prometheus(transport=Recording(Fake(lambda *_: body), tmp_path)).query("x")
    (frame,) = [Prometheus(transport=Replay(tmp_path)).query("x")]
    assert "REDACTED" in frame["line"].iloc[0]


def test_ordinary_text_is_not_scrubbed() -> None:
    text = b'{"secret":1,"le":"0.5","msg":"token expired","url":"http://host:9090/x","password":""}'
    assert scrub(text) == text
