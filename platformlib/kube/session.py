"""One HTTP session with the API server: timeouts, retries, renewed credentials, errors that say what to do."""

from collections.abc import Mapping
from copy import copy
from threading import Lock
from typing import Any
from weakref import finalize

import httpx
import stamina

from platformlib.errors import ApiError, KubeError
from platformlib.kube.credentials import Credentials

TIMEOUT = httpx.Timeout(30, connect=5)  # seconds
PATIENCE = 45  # seconds of retries while a control plane restarts
UNAUTHORIZED, FORBIDDEN, SERVER_ERROR = 401, 403, 500
MAY_PASS = frozenset({429, 502, 503, 504})
# A server answers 500 to a manifest that it cannot read as well; these words tell what passes.
PASSING = ("etcdserver", "leader changed", "calling webhook", "connection refused", "deadline exceeded", "timed out")
JSON = "application/json"


class Session:
    """Thread-safe. `transport` stands in for the network in tests."""

    def __init__(
        self, credentials: Credentials, *, transport: httpx.BaseTransport | None = None, patience: float = PATIENCE
    ) -> None:
        self.credentials = credentials
        self._transport, self._patience, self._lock = transport, patience, Lock()
        self._client = self._connect()

    def _connect(self) -> httpx.Client:
        own = self.credentials
        limits = httpx.Limits(max_connections=32, max_keepalive_connections=16, keepalive_expiry=30)
        client = httpx.Client(
            base_url=own.server, verify=own.tls, proxy=own.proxy, transport=self._transport,
            timeout=TIMEOUT, limits=limits, trust_env=False,
        )  # fmt: skip
        finalize(self, client.close)
        return client

    def hurried(self, patience: float) -> "Session":
        """The same connections, with `patience` seconds of retries: for who polls and has a deadline of its own."""
        twin = copy(self)
        twin._patience = patience
        return twin

    def request(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: Any = None, content: str = JSON
    ) -> httpx.Response:
        """Send until it is answered; only refusals that may pass are retried. Every verb used here may be repeated.

        Raises:
            ApiError: the server refused. KubeError: it did not answer.
        """
        given = {key: value for key, value in (params or {}).items() if value is not None}
        options = {"params": given, "headers": {"Content-Type": content}, "json": body}
        try:
            for attempt in stamina.retry_context(on=_may_pass, attempts=None, timeout=self._patience):
                with attempt:
                    return self._send(method, path, options)
        except httpx.TransportError as error:
            raise self._silent(error) from None
        raise AssertionError("a retry ends by an answer or an error")

    def _send(self, method: str, path: str, options: Mapping[str, Any]) -> httpx.Response:
        client = self._client
        response = self._once(client, method, path, options)
        if response.status_code == UNAUTHORIZED:
            response = self._once(self._renew(client), method, path, options)
        if response.is_success:
            return response
        raise _refusal(response, self.credentials)

    def _once(self, client: httpx.Client, method: str, path: str, options: Mapping[str, Any]) -> httpx.Response:
        headers = {"Accept": JSON, **options["headers"], **self.credentials.headers()}
        return client.request(method, path, **{**options, "headers": headers})

    def _renew(self, refused: httpx.Client) -> httpx.Client:
        """Read the kubeconfig again, once for all threads: a token, a certificate or the whole file may be newer."""
        with self._lock:
            if self._client is refused:
                self.credentials = Credentials.load(self.credentials.path, self.credentials.context)
                self._client = self._connect()
            return self._client

    def _silent(self, error: Exception) -> KubeError:
        server = self.credentials.server
        if "CERTIFICATE" in str(error).upper():
            fix = f"the certificate of {server} is not of this kubeconfig's authority: is it another cluster's?"
            return KubeError(f"{server}: {error}", fix=fix)
        return KubeError(f"{server} does not answer: {error}", fix="is the control plane up, and reachable from here?")


def _may_pass(error: Exception) -> bool:
    """Whether to try again."""
    if isinstance(error, ApiError):
        words = str(error)
        return error.status in MAY_PASS or (error.status == SERVER_ERROR and any(each in words for each in PASSING))
    return isinstance(error, httpx.TransportError) and "CERTIFICATE" not in str(error).upper()


def _refusal(response: httpx.Response, credentials: Credentials) -> ApiError:
    """The server's Status object as an error."""
    try:
        status: dict[str, Any] = response.json()
    except ValueError:
        status = {"message": response.text[:500]}
    code = response.status_code
    causes = (status.get("details") or {}).get("causes") or []
    message = str(status.get("message") or response.reason_phrase)
    fix = _fix(code, credentials)
    return ApiError(message, status=code, reason=str(status.get("reason") or ""), causes=causes, fix=fix)


def _fix(code: int, credentials: Credentials) -> str:
    who = f"user {credentials.user} of {credentials.path}"
    return {
        UNAUTHORIZED: f"the credentials of {who} were not accepted: renew them",
        FORBIDDEN: f"{who} lacks the right: bind it to a role that has it",
    }.get(code, "")
