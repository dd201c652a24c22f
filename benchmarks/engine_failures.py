"""What a client makes of a server that fails once: ours and the official package's, for reading and for applying."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

BODY = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "it", "namespace": "default"}}
RESOURCES = {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]}
FAILURES = ("429", "503", "reset", "401, a new token in the kubeconfig")
Call = Callable[[], Any]


@contextmanager
def failing_once(failure: str, renew: Callable[[], None]) -> Iterator[tuple[str, list[str]]]:
    """A server that fails its first request for an object, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.startswith("/api/v1/namespaces"):
                asked.append(self.command)
                if len(asked) == 1 and self.fail():
                    return
            self.send(200, RESOURCES if self.path == "/api/v1" else BODY)

        def fail(self) -> bool:
            if failure == "reset":
                self.close_connection = True
                self.connection.close()
            elif failure[:3] == "401":
                renew()
                self.send(401, {"kind": "Status", "message": "expired"})
            else:
                self.send(int(failure), {"kind": "Status", "message": "later"})
            return True

        def send(self, status: int, body: Any) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            if status == 429:  # noqa: PLR2004
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_PATCH = answer  # noqa: N815  the names that the base class looks for

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def kubeconfig(path: Path, server: str, token: str) -> None:
    """A kubeconfig with a token."""
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    path.write_text(json.dumps(document))


def ours(path: Path) -> dict[str, Call]:
    """By `Kube`."""
    from platformlib.kube import Kube

    kube = Kube.connect(path)
    return {
        "read": lambda: kube.get("v1", "ConfigMap", "it", "default"),
        "apply": lambda: kube.api.apply(BODY, force=False),
    }


def official(path: Path) -> dict[str, Call]:
    """By the package, as it comes."""
    from kubernetes import client, config

    given = client.Configuration()
    load: Any = config.load_kube_config
    load(str(path), client_configuration=given)
    core: Any = client.CoreV1Api(client.ApiClient(given))
    return {
        "read": lambda: core.read_namespaced_config_map("it", "default"),
        "apply": lambda: core.patch_namespaced_config_map("it", "default", BODY, field_manager="x", force=False),
    }


def table() -> str:
    """failure, verb, and what each client made of it."""
    rows = ["\n### A server that fails once\n", "| failure | verb | kubernetes | platformlib |", "|---|---|---|---|"]
    for failure in FAILURES:
        for verb in ("read", "apply"):
            found = [_outcome(failure, verb, client) for client in (official, ours)]
            rows.append(f"| {failure} | {verb} | {' | '.join(found)} |")
    return "\n".join(rows)


def _outcome(failure: str, verb: str, client: Callable[[Path], dict[str, Call]]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path, at = Path(folder) / "kubeconfig", [""]
        with failing_once(failure, lambda: kubeconfig(path, at[0], "new")) as (server, asked):
            at[0] = server
            kubeconfig(path, server, "old")
            try:
                client(path)[verb]()
            except Exception as error:
                return f"{type(error).__name__} after {len(asked)} request(s)"
            return f"answered by request {len(asked)}"
