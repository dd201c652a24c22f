"""A Kubernetes API server's answers, kept and given again, so that notebooks run without a cluster.

Only what a notebook asks of the API server itself: metrics, logs and their times have recordings of their own,
`PLATFORMLIB_RECORD` and `PLATFORMLIB_REPLAY`. One file holds all answers; a question is its method, path and
parameters, and the same question asked again gets the next answer, the last one for good.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import yaml
from zstandard import ZstdCompressor, ZstdDecompressor

from platformlib.kube.credentials import Credentials
from platformlib.query.cassette import scrub

Answers = dict[str, list[tuple[int, Any]]]
# The lab is reached as a cluster that others installed: the recorder gives it that identity, and so does the player.
OWNED = {
    "GET /api/v1/namespaces/kube-system?": {
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "recorded"},
    },
    "GET /api/v1/namespaces/kube-system/configmaps/platformlib?": {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "platformlib", "namespace": "kube-system"},
        "data": {"name": "lab", "uid": "recorded", "distribution": "existing"},
    },
}  # fmt: skip
DROPPED = frozenset({"managedFields"})


class Tape:
    """The answers of one server, by question."""

    def __init__(self, answers: Answers | None = None) -> None:
        self.answers = answers or {}
        self.asked: dict[str, int] = {}
        self.lock = threading.Lock()

    @classmethod
    def load(cls, path: Path) -> "Tape":
        """A tape from its file."""
        return cls(json.loads(ZstdDecompressor().decompress(path.read_bytes())))

    def save(self, path: Path) -> None:
        """Keep the tape, without what looks like a credential."""
        path.parent.mkdir(parents=True, exist_ok=True)
        packed = ZstdCompressor(level=19).compress(scrub(json.dumps(self.answers, sort_keys=True).encode()))
        path.write_bytes(packed)

    def keep(self, question: str, status: int, body: Any) -> None:
        """Take an answer."""
        with self.lock:
            self.answers.setdefault(question, []).append((status, slim(body)))

    def play(self, question: str, sent: bytes) -> tuple[int, Any]:
        """Give the next answer. What was never asked is not there; an object that is only tried is taken as it is.

        So manifests may change without a new recording: a notebook then shows a difference.
        """
        with self.lock:
            known = self.answers.get(question)
            if known is None and "dryRun=All" in question:
                return 200, yaml.safe_load(sent)
            if known is None and question.startswith("GET ") and "limit=" in question:
                return 200, {"kind": "List", "metadata": {}, "items": []}
            if known is None:
                refusal = {"kind": "Status", "code": 404, "reason": "NotFound"}
                return 404, {**refusal, "message": f"not recorded: {question}"}
            count = self.asked[question] = self.asked.get(question, 0) + 1
            status, body = known[min(count, len(known)) - 1]
            return status, body


def slim(body: Any) -> Any:
    """An answer without its bulk (who owns which field is asked by no notebook) and without secrets."""
    if isinstance(body, dict):
        dropped = DROPPED | {"data"} if body.get("kind") == "Secret" else DROPPED
        return {key: slim(value) for key, value in body.items() if key not in dropped}
    return [slim(value) for value in body] if isinstance(body, list) else body


def question(method: str, target: str) -> str:
    """A question, whatever the order of its parameters."""
    parts = urlsplit(target)
    return f"{method} {parts.path}?{urlencode(sorted(parse_qsl(parts.query)))}"


@contextmanager
def serving(tape: Tape, real: Credentials | None = None, owned: Mapping[str, Any] | None = None) -> Iterator[str]:
    """A server on loopback that plays a tape, or asks the real one and keeps what it says; yields its URL.

    Args:
        owned: answers of its own, by question.
    """
    client = httpx.Client(base_url=real.server, verify=real.tls, timeout=60, trust_env=False) if real else None

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            asked = question(self.command, self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            own = (owned or {}).get(asked)
            status, said = (200, own) if own else self.ask(body) if client else tape.play(asked, body)
            if client and "/proxy/" not in self.path:
                tape.keep(asked, status, said)
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def ask(self, body: bytes) -> tuple[int, Any]:
            assert client is not None
            assert real is not None
            kind = {"Content-Type": self.headers.get("Content-Type") or "application/json", **real.headers()}
            response = client.request(
                self.command, self.path, content=body, headers={**kind, "Accept": "application/json"}
            )
            raw = "/proxy/" in self.path or "json" not in response.headers.get("content-type", "")
            return response.status_code, response.content if raw else response.json()

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815  http.server finds them by name

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        if client:
            client.close()


def kubeconfig(path: Path, url: str, name: str) -> Path:
    """A kubeconfig that leads to the server."""
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": url}}], "users": [{"name": name, "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(document), "utf-8")
    return path
