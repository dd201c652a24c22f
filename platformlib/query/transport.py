"""How a question reaches a server: through the API server's service proxy, or by a direct URL.

A transport gives the answer's bytes as they came, of any status; what they mean is its caller's work. That is what
lets recordings stand in for servers.
"""

import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypedDict, Unpack
from weakref import finalize

import httpx

from platformlib.errors import QueryCancelled, QueryError, SourceUnavailable

Params = Mapping[str, str | Sequence[str]]
LONGEST_URL = 6000  # bytes of parameters; beyond, the question is sent as a form
TIMEOUT = 60.0  # seconds


@dataclass(frozen=True)
class Answer:
    """What came back: status, bytes, and the parameters that it answers (a replay has the recorded ones)."""

    status: int
    body: bytes | bytearray = field(repr=False)
    content_type: str
    params: Params


class How(TypedDict, total=False):
    """How a question is asked: seconds that it may take in all, headers, and what calls it off."""

    timeout: float
    headers: Mapping[str, str] | None
    cancel: threading.Event | None


class Transport(Protocol):
    """One server's HTTP interface. `name` is for messages; `now` is the clock that relative windows count from."""

    name: str

    def get(self, path: str, params: Params, **how: Unpack[How]) -> Answer:
        """The answer, of any status. Raises SourceUnavailable when there is none."""

    def now(self) -> int:
        """Nanoseconds since 1970."""

    def close(self) -> None:
        """Give connections back."""


class Route(Protocol):
    """What `kube.service(namespace, name, port)` gives."""

    @property
    def base_url(self) -> str:
        """Address of the service behind the API server's proxy."""

    @property
    def proxy(self) -> str | None:
        """The HTTP proxy on the way, if there is one."""

    def headers(self) -> Mapping[str, str]:
        """Current credentials; asked for before each request, so that an expired token is renewed."""

    def ssl_context(self) -> ssl.SSLContext:
        """The cluster's CA and the client certificate."""


class Http:
    """Requests over one pooled client. Credentials are asked for at each request and are in no repr."""

    def __init__(
        self, url: str, *, name: str = "", credentials: Callable[[], Mapping[str, str]] = dict, **options: Any
    ) -> None:
        self.url = url.rstrip("/")
        self.name = name or self.url
        self._credentials = credentials
        self._client = httpx.Client(trust_env=False, limits=httpx.Limits(max_connections=16), **options)
        finalize(self, self._client.close)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def get(self, path: str, params: Params, **how: Unpack[How]) -> Answer:
        """The answer, of any status, within `timeout` seconds in all."""
        timeout = how.get("timeout", TIMEOUT)
        try:
            with self._client.stream(**self._request(path, params, how.get("headers")), timeout=timeout) as response:
                body = _collect(response.iter_bytes(), time.monotonic() + timeout, how.get("cancel"), self.name)
                return Answer(response.status_code, body, response.headers.get("content-type", ""), params)
        except httpx.TimeoutException as error:
            raise SourceUnavailable(f"{self.name}: no answer within {timeout:.0f} s ({type(error).__name__})") from None
        except httpx.HTTPError as error:
            raise SourceUnavailable(f"{self.name}: {error or type(error).__name__}") from None

    def now(self) -> int:
        """The wall clock."""
        return time.time_ns()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _request(self, path: str, params: Params, headers: Mapping[str, str] | None) -> dict[str, Any]:
        long = sum(len(str(value)) for value in params.values()) > LONGEST_URL
        sent = {"accept-encoding": "identity", **self._credentials(), **(headers or {})}
        how: dict[str, Any] = {"method": "POST", "data": params} if long else {"method": "GET", "params": params}
        return {**how, "url": f"{self.url}{path}", "headers": sent}


def _collect(chunks: Iterator[bytes], deadline: float, cancel: threading.Event | None, name: str) -> bytearray:
    body = bytearray()
    for chunk in chunks:
        if cancel is not None and cancel.is_set():
            raise QueryCancelled(f"{name}: cancelled after {len(body)} bytes")
        if time.monotonic() > deadline:
            raise SourceUnavailable(f"{name}: the answer was not whole in time, {len(body)} bytes came")
        body += chunk
    return body


def service(route: Route, *, name: str = "") -> Http:
    """Through the API server's service proxy, with the kubeconfig's credentials."""
    return Http(route.base_url, name=name, credentials=route.headers, verify=route.ssl_context(), proxy=route.proxy)


def direct(
    url: str,
    *,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    ca: str | Path | None = None,
    headers: Mapping[str, str] | None = None,
) -> Http:
    """A server by its URL. `password` and `token` are references, `env:NAME` or `file:PATH`, read at each request.

    Raises:
        QueryError: a secret stands in the open, or its reference leads nowhere.
    """
    for reference in (password, token):
        if reference is not None:
            secret(reference)

    def credentials() -> dict[str, str]:
        sent = dict(headers or {})
        if token is not None:
            sent["authorization"] = f"Bearer {secret(token)}"
        if user is not None:
            basic = httpx.BasicAuth(user, secret(password) if password else "")
            sent["authorization"] = next(basic.auth_flow(httpx.Request("GET", url))).headers["authorization"]
        return sent

    return Http(url, credentials=credentials, verify=ssl.create_default_context(cafile=str(ca)) if ca else True)


def secret(reference: str) -> str:
    """The value behind `env:NAME` or `file:PATH`; the error never shows it."""
    kind, _, where = reference.partition(":")
    try:
        if kind == "env":
            return os.environ[where]
        if kind == "file":
            return Path(where).expanduser().read_text("utf-8").strip()
    except (KeyError, OSError):
        raise QueryError(f"no secret at {reference}", fix="set the variable, or write the file") from None
    raise QueryError("a secret is given in the open", fix="give its place instead: env:NAME or file:PATH")
