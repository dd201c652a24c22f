"""An API server that is a function: what is sent to it, and what it answers."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import urllib3

from platformlib.kube import Kube
from platformlib.kube.credentials import Credentials
from platformlib.kube.session import Session


@dataclass(frozen=True)
class Sent:
    """One request."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """One answer: JSON, or the bytes of a server that speaks something else."""

    status: int = 200
    body: Any = field(default_factory=dict)

    def response(self) -> urllib3.HTTPResponse:
        """As the pool gives it."""
        raw = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return urllib3.HTTPResponse(io.BytesIO(raw), status=self.status, preload_content=False)


Server = Callable[[Sent], Answer]


class FakePool:
    """Stands where connections are; remembers what was sent."""

    def __init__(self, server: Server) -> None:
        self.server, self.sent = server, list[Sent]()

    def request(self, method: str, url: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """Ask the function; it may raise."""
        parts, body = urlsplit(url), options.get("body")
        sent = Sent(
            method,
            parts.path,
            dict(parse_qsl(parts.query)),
            dict(options["headers"]),
            json.loads(body) if body else None,
        )
        self.sent.append(sent)
        return self.server(sent).response()

    def clear(self) -> None:
        """No connection is open."""


def kubeconfig(folder: Path, user: dict[str, Any], **cluster: Any) -> Path:
    """A kubeconfig of one user."""
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    path.write_text(json.dumps(document))
    return path


def connect(path: Path, server: Server, *, dry_run: bool = False) -> Kube:
    """A connection to a function."""
    return Kube(Session(Credentials.load(path), pool=FakePool(server)), dry_run)


def refusal(status: int, message: str, reason: str = "R") -> Answer:
    """A Status object."""
    return Answer(status, {"kind": "Status", "message": message, "reason": reason})
