"""One HTTP session with the API server: timeouts, retries, renewed credentials, and the switch that forbids writes."""

import re
import ssl
import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol
from urllib.parse import unquote, urlencode
from weakref import finalize

import msgspec
import stamina
import urllib3

from platformlib.errors import ApiError, DryRunRefused, KubeError
from platformlib.kube.credentials import Credentials
from platformlib.kube.objects import printable

TIMEOUT = urllib3.Timeout(connect=5, read=30)  # seconds
WHOLE_WITHIN = 120.0  # seconds for the body of one answer, however slowly it comes
CONNECTIONS = 48  # kept open at most
RETRY_TIMEOUT = 45.0  # seconds of retries while a control plane restarts
SUCCESS = range(200, 300)
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, GONE, INVALID = 401, 403, 404, 409, 410, 422
TOO_MANY, SERVER_ERROR = 429, 500
TRANSIENT = frozenset({TOO_MANY, 502, 503, 504})
# A server answers 500 to a manifest that it cannot read as well; these words mark a failure that passes.
TRANSIENT_WORDS = (
    "etcdserver", "leader changed", "calling webhook", "connection refused", "deadline exceeded", "timed out",
)  # fmt: skip
JSON = "application/json"

# POST requests that store nothing: reviews of access rights and of tokens.
REVIEWS = re.compile(
    r"/apis/(authorization\.k8s\.io/[^/]+/(namespaces/[^/]+/localsubjectaccessreviews"
    r"|subjectaccessreviews|selfsubjectaccessreviews|selfsubjectrulesreviews)"
    r"|authentication\.k8s\.io/[^/]+/(tokenreviews|selfsubjectreviews))"
)
# What a pod or a kubelet does with a request is not known here, whatever the method: `exec` may come as a GET.
INTO_PODS = re.compile(r"/pods/[^/]+/(exec|attach|portforward)$|/(pods|nodes)/[^/]+/proxy(/|$)")
SERVICE_PROXY = re.compile(r"/api/v1/namespaces/[^/]+/services/[^/]+/proxy(/.*)?")
# Questions that Prometheus and Loki take as POST when they are too long for a URL.
QUERIES = re.compile(
    r"(/api/v1/(query|query_range|query_exemplars|series|labels)"
    r"|/loki/api/v1/(query|query_range|series|labels|index/stats|index/volume|index/volume_range))"
)


def is_write(method: str, path: str, params: Mapping[str, Any] | None = None) -> bool:
    """Whether a request may change something: everything is a write that is not known to be a read."""
    path = unquote(path)
    if ".." in path.split("/") or INTO_PODS.search(path):
        return True
    if proxied := SERVICE_PROXY.fullmatch(path):
        return not (method in {"GET", "HEAD"} or (method == "POST" and QUERIES.fullmatch(proxied[1] or "")))
    if method in {"GET", "HEAD"} or (method == "POST" and REVIEWS.fullmatch(path)):
        return False
    return (params or {}).get("dryRun") != "All"


class Pool(Protocol):
    """What sends requests: urllib3's pools, and what replaces the network in tests."""

    def request(self, method: str, url: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """Send one request."""

    def clear(self) -> None:
        """Close all connections."""


@dataclass(frozen=True)
class Response:
    """An answer that was read to its end. `warnings` are those of the server and of its admission webhooks."""

    status: int
    content: bytes
    warnings: tuple[str, ...] = ()

    def json(self) -> Any:
        """The decoded body. Raises: KubeError when it is no JSON."""
        try:
            return msgspec.json.decode(self.content)
        except msgspec.DecodeError as error:
            start = self.content[:80].decode(errors="replace")
            fix = "is this the address of a Kubernetes API server?"
            raise KubeError(f"the answer is not JSON ({error}): {start!r}", fix=fix) from None

    def object(self) -> dict[str, Any]:
        """The decoded body, which is a JSON object. Raises: KubeError when it is not."""
        found = self.json()
        if not isinstance(found, dict):
            fix = "is this the address of a Kubernetes API server?"
            raise KubeError(f"the answer is a {type(found).__name__}, not an object", fix=fix)
        return found

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")


class Connection:
    """Credentials and the connections that were opened with them, shared by all sessions that were made of one."""

    def __init__(self, credentials: Credentials, pool: Pool | None) -> None:
        self.credentials, self._given, self._lock = credentials, pool, Lock()
        self.pool = self._connect()

    def _connect(self) -> Pool:
        if self._given is not None:
            return self._given
        own = self.credentials
        how: dict[str, Any] = {"maxsize": CONNECTIONS, "timeout": TIMEOUT, "retries": False, "ssl_context": own.tls}
        pool: Pool = urllib3.ProxyManager(own.proxy, **how) if own.proxy else urllib3.PoolManager(**how)
        finalize(self, pool.clear)
        return pool

    def send(self, request: Callable[[Pool, Credentials], urllib3.BaseHTTPResponse]) -> urllib3.BaseHTTPResponse:
        """Send a request; once more, with what the kubeconfig says by then, when the credentials are not accepted."""
        known = self.credentials
        answer = request(self.pool, known)
        if answer.status != UNAUTHORIZED:
            return answer
        answer.drain_conn()
        self._renew(known)
        return request(self.pool, self.credentials)

    def _renew(self, refused: Credentials) -> None:
        """Read the kubeconfig again, once for all threads: a token, a certificate or the whole file may be newer."""
        with self._lock:
            if self.credentials is refused:
                self.credentials = Credentials.load(refused.path, refused.context)
                self.pool = self._connect()


class Session:
    """Thread-safe.

    Args:
        pool: replaces the network in tests.
        retry_timeout: seconds for which a request is repeated that failed for a reason that may pass.
        dry_run: refuse every write, whoever asks.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        pool: Pool | None = None,
        retry_timeout: float = RETRY_TIMEOUT,
        dry_run: bool = False,
    ) -> None:
        self.connection = Connection(credentials, pool)
        self.dry_run, self._retry_timeout = dry_run, retry_timeout
        # Called before every write; raises to refuse it.
        self.guards: tuple[Callable[[], None], ...] = ()

    @property
    def credentials(self) -> Credentials:
        """What the session authenticates with now."""
        return self.connection.credentials

    def with_retry_timeout(self, seconds: float) -> "Session":
        """The same connections, for a caller that polls and has a deadline of its own."""
        twin = copy(self)
        twin._retry_timeout = seconds
        return twin

    def with_guards(self, guards: tuple[Callable[[], None], ...]) -> "Session":
        """The same connections, with other guards."""
        twin = copy(self)
        twin.guards = guards
        return twin

    def permit(self, method: str, path: str, params: Mapping[str, Any] | None = None) -> None:
        """Refuse a write that this session may not make. Every request passes here, those of `Kube.api_client` too.

        Raises:
            DryRunRefused: the session may only read. PlatformError: a guard refuses.
        """
        if not is_write(method, path, params):
            return
        if self.dry_run:
            fix = "a dry run only reads; run without it to change the cluster"
            raise DryRunRefused(f"{method} {path} was not sent: this handle may not write", fix=fix)
        for guard in self.guards:
            guard()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        content: str = JSON,
        accept: str = JSON,
    ) -> Response:
        """Send until it is answered; only failures that may pass are retried. Every verb used here may be repeated.

        Raises:
            ApiError: the server refused. KubeError: it did not answer. DryRunRefused: a write on a dry session.
        """
        given = {key: value for key, value in (params or {}).items() if value is not None}
        encoded = None if body is None else msgspec.json.encode(body)
        headers = {"Accept": accept, "Accept-Encoding": "gzip"} | ({"Content-Type": content} if encoded else {})
        try:
            for attempt in stamina.retry_context(on=_is_transient, attempts=None, timeout=self._retry_timeout):
                with attempt:
                    return self._attempt(method, path, given, encoded, headers)
        except urllib3.exceptions.HTTPError as error:
            raise self._no_answer(error) from None
        raise AssertionError("a retry ends by an answer or an error")

    def _attempt(
        self, method: str, path: str, params: Mapping[str, Any], body: bytes | None, headers: dict[str, str]
    ) -> Response:
        url = f"{path}?{urlencode(params)}" if params else path

        def send(pool: Pool, own: Credentials) -> urllib3.BaseHTTPResponse:
            # Asked for each sending: credentials that were read again may lead to another cluster.
            self.permit(method, path, params)
            sent = {**headers, **own.headers()}
            whole = f"{own.server}{url}"
            return pool.request(method, whole, body=body, headers=sent, redirect=False, preload_content=False)

        answer = self.connection.send(send)
        response = Response(
            answer.status,
            _read(answer, time.monotonic() + WHOLE_WITHIN),
            tuple(answer.headers.getlist("Warning")),
        )
        if response.status not in SUCCESS:
            raise _refusal(response, answer.reason or "", self.credentials)
        return response

    def _no_answer(self, error: Exception) -> KubeError:
        server = self.credentials.server
        if "CERTIFICATE" in str(error).upper():
            fix = f"the certificate of {server} is not of this kubeconfig's authority: is it another cluster's?"
            return KubeError(f"{server}: {error}", fix=fix)
        return KubeError(f"{server} does not answer: {error}", fix="is the control plane up, and reachable from here?")


def _read(answer: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """The whole body. Raises: urllib3.exceptions.TimeoutError when it is not there in time."""
    parts = []
    while part := answer.read1():
        parts.append(part)
        if time.monotonic() > deadline:
            answer.close()
            raise urllib3.exceptions.TimeoutError(f"the answer was not whole after {WHOLE_WITHIN:.0f} s")
    answer.release_conn()
    return b"".join(parts)


def _is_transient(error: Exception) -> bool:
    """Whether to try again."""
    if isinstance(error, ApiError):
        words = str(error)
        known = any(each in words for each in TRANSIENT_WORDS)
        return error.status in TRANSIENT or (error.status == SERVER_ERROR and known)
    return isinstance(error, urllib3.exceptions.HTTPError) and "CERTIFICATE" not in str(error).upper()


def _refusal(response: Response, phrase: str, credentials: Credentials) -> ApiError:
    """The server's Status object as an error."""
    try:
        status = response.object()
    except KubeError:
        status = {"message": response.text[:500]}
    code, details = response.status, status.get("details")
    causes = (details.get("causes") if isinstance(details, dict) else None) or []
    message = printable(str(status.get("message") or phrase))
    fix = _fix(code, credentials)
    return ApiError(message, status=code, reason=str(status.get("reason") or ""), causes=causes, fix=fix)


def _fix(code: int, credentials: Credentials) -> str:
    who = f"user {credentials.user} of {credentials.path}"
    return {
        UNAUTHORIZED: f"the credentials of {who} were not accepted: renew them",
        FORBIDDEN: f"{who} lacks the right: bind it to a role that has it",
    }.get(code, "")


@dataclass(frozen=True)
class ServiceRoute:
    """A service's base URL with the kubeconfig's credentials: no port-forward, no ingress.

    `httpx.Client(base_url=route.base_url, verify=route.ssl_context(), proxy=route.proxy)`, with `route.headers()` on
    each request: a bearer token may have been renewed since the last.
    """

    namespace: str
    name: str
    port: int | str
    scheme: str
    _session: Session = field(repr=False)

    @property
    def base_url(self) -> str:
        """Without a slash at its end."""
        target = f"{self.name}:{self.port}" if self.scheme == "http" else f"{self.scheme}:{self.name}:{self.port}"
        server = self._session.credentials.server
        return f"{server}/api/v1/namespaces/{self.namespace}/services/{target}/proxy"

    @property
    def proxy(self) -> str | None:
        """The HTTP proxy of the kubeconfig or of the environment, if one is on the way to the server."""
        return self._session.credentials.proxy

    def headers(self) -> dict[str, str]:
        """The authorization of one request; empty with client certificates."""
        return self._session.credentials.headers()

    def ssl_context(self) -> ssl.SSLContext:
        """Trusts the kubeconfig's authority and carries its client certificate."""
        return self._session.credentials.tls
