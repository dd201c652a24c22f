"""The bridge between requests, which PrometheusConnect speaks, and transports."""

from collections.abc import Callable
from typing import Any, Unpack
from urllib.parse import parse_qs, urlsplit

import requests
from requests.adapters import BaseAdapter

from platformlib.errors import SourceUnavailable
from platformlib.query.transport import TIMEOUT, Answer, How, Params, Transport

Send = Callable[..., requests.Response]


class Adapter(BaseAdapter):
    """Lets a requests session send through a transport, so that its credentials and recordings hold there too."""

    def __init__(self, transport: Transport, url: str) -> None:
        super().__init__()
        self._transport, self._root = transport, urlsplit(url).path.rstrip("/")

    def send(self, request: requests.PreparedRequest, *_: Any, timeout: Any = None, **__: Any) -> requests.Response:
        """One request's answer."""
        parts = urlsplit(str(request.url))
        sent = f"{parts.query}&{_text(request.body)}" if request.body else parts.query
        params = {key: found[0] if len(found) == 1 else found for key, found in parse_qs(sent).items()}
        limit = timeout if isinstance(timeout, int | float) else TIMEOUT
        try:
            answer = self._transport.get(parts.path.removeprefix(self._root), params, timeout=limit)
        except SourceUnavailable as error:
            raise requests.ConnectionError(str(error), request=request) from error
        return _response(request, answer)

    def close(self) -> None:
        """The transport belongs to its maker."""


def _text(body: Any) -> str:
    return body.decode() if isinstance(body, bytes) else str(body)


def _response(request: requests.PreparedRequest, answer: Answer) -> requests.Response:
    response = requests.Response()
    response.status_code, response.url, response.request = answer.status, str(request.url), request
    response.headers["content-type"] = answer.content_type
    response._content = bytes(answer.body)
    return response


class Requests:
    """The other way: a transport over a requests session that a caller brought, with its proxies, hooks and retries."""

    def __init__(self, session: requests.Session, url: str, **options: Any) -> None:
        self.name, self._url, self._session, self._options = urlsplit(url).netloc, url.rstrip("/"), session, options

    def get(self, path: str, params: Params, **how: Unpack[How]) -> Answer:
        """The answer, of any status. requests cannot be interrupted, so `cancel` has no effect."""
        headers = {**(self._options.get("headers") or {}), **(how.get("headers") or {})}
        options = self._options | {"headers": headers, "timeout": how.get("timeout", TIMEOUT)}
        try:
            response = self._session.get(f"{self._url}{path}", params=dict(params), **options)
        except requests.RequestException as error:
            raise SourceUnavailable(f"{self.name}: {error}") from None
        return Answer(response.status_code, response.content, response.headers.get("content-type", ""), params)

    def now(self) -> int:
        """The wall clock."""
        import time

        return time.time_ns()

    def close(self) -> None:
        """The session belongs to its maker."""
