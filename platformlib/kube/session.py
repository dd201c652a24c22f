"""One HTTP session with the API server: timeouts, retries, renewed credentials, and the switch that forbids writes."""

import re
from collections.abc import Callable, Mapping
from copy import copy
from threading import Lock
from typing import Any
from urllib.parse import unquote
from weakref import finalize

import httpx
import stamina

from platformlib.errors import ApiError, DryRunRefused, KubeError
from platformlib.kube.credentials import Credentials

TIMEOUT = httpx.Timeout(30, connect=5)  # seconds
RETRY_TIMEOUT = 45.0  # seconds of retries while a control plane restarts
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


class Session:
    """Thread-safe. `transport` replaces the network in tests.

    Args:
        dry_run: refuse every write, whoever asks.
        retry_timeout: seconds for which a request is repeated that failed for a reason that may pass.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        transport: httpx.BaseTransport | None = None,
        retry_timeout: float = RETRY_TIMEOUT,
        dry_run: bool = False,
    ) -> None:
        self.credentials, self.dry_run = credentials, dry_run
        # Called before every write; raises to refuse it.
        self.guards: tuple[Callable[[], None], ...] = ()
        self._transport, self._retry_timeout, self._lock = transport, retry_timeout, Lock()
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
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: Any = None, content: str = JSON
    ) -> httpx.Response:
        """Send until it is answered; only failures that may pass are retried. Every verb used here may be repeated.

        Raises:
            ApiError: the server refused. KubeError: it did not answer. DryRunRefused: a write on a dry session.
        """
        given = {key: value for key, value in (params or {}).items() if value is not None}
        options = {"params": given, "headers": {"Content-Type": content}, "json": body}
        try:
            for attempt in stamina.retry_context(on=_is_transient, attempts=None, timeout=self._retry_timeout):
                with attempt:
                    self.permit(method, path, given)
                    return self._send(method, path, options)
        except httpx.TransportError as error:
            raise self._no_answer(error) from None
        raise AssertionError("a retry ends by an answer or an error")

    def _send(self, method: str, path: str, options: Mapping[str, Any]) -> httpx.Response:
        client = self._client
        response = self._once(client, method, path, options)
        if response.status_code == UNAUTHORIZED:
            client = self._renew(client)
            # The file that was read again may lead to another cluster.
            self.permit(method, path, options["params"])
            response = self._once(client, method, path, options)
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

    def _no_answer(self, error: Exception) -> KubeError:
        server = self.credentials.server
        if "CERTIFICATE" in str(error).upper():
            fix = f"the certificate of {server} is not of this kubeconfig's authority: is it another cluster's?"
            return KubeError(f"{server}: {error}", fix=fix)
        return KubeError(f"{server} does not answer: {error}", fix="is the control plane up, and reachable from here?")


def _is_transient(error: Exception) -> bool:
    """Whether to try again."""
    if isinstance(error, ApiError):
        words = str(error)
        known = any(each in words for each in TRANSIENT_WORDS)
        return error.status in TRANSIENT or (error.status == SERVER_ERROR and known)
    return isinstance(error, httpx.TransportError) and "CERTIFICATE" not in str(error).upper()


def _refusal(response: httpx.Response, credentials: Credentials) -> ApiError:
    """The server's Status object as an error."""
    try:
        answer = response.json()
    except ValueError:
        answer = None
    status: dict[str, Any] = answer if isinstance(answer, dict) else {"message": response.text[:500]}
    code, details = response.status_code, status.get("details")
    causes = (details.get("causes") if isinstance(details, dict) else None) or []
    message = str(status.get("message") or response.reason_phrase)
    fix = _fix(code, credentials)
    return ApiError(message, status=code, reason=str(status.get("reason") or ""), causes=causes, fix=fix)


def _fix(code: int, credentials: Credentials) -> str:
    who = f"user {credentials.user} of {credentials.path}"
    return {
        UNAUTHORIZED: f"the credentials of {who} were not accepted: renew them",
        FORBIDDEN: f"{who} lacks the right: bind it to a role that has it",
    }.get(code, "")
