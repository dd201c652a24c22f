"""The `kubernetes` package's ApiClient over a session: the same connections, dry run and identity check."""

from copy import copy
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from weakref import finalize

import urllib3
from kubernetes.client import ApiClient
from kubernetes.client.rest import RESTClientObject, RESTResponse

from platformlib.kube.credentials import Credentials, configuration
from platformlib.kube.session import Pool, Session


class GuardedClient(ApiClient):
    """Every request passes `Session.permit`: of generated methods, of the dynamic client, of websockets.

    A websocket (`kubernetes.stream`) opens a connection of its own and reads certificates from files. They lie in a
    private folder until the client is collected or the process ends.
    """

    def __init__(self, session: Session) -> None:
        own, folder = session.credentials, TemporaryDirectory(prefix="platformlib-")
        finalize(self, folder.cleanup)
        super().__init__(configuration(own.path, own.context, folder.name))
        self._session, self.rest_client = session, _Requests(self.configuration, session)

    def param_serialize(self, method: str, resource_path: str, *args: Any, **options: Any) -> Any:
        """The request as it is sent. That of a websocket goes past `rest_client`, so that it is judged here."""
        request = super().param_serialize(method, resource_path, *args, **options)
        permit(self._session, request[0], request[1])
        return request


class _Requests(RESTClientObject):
    """Sends by the session's pool, with the session's credentials."""

    def __init__(self, given: Any, session: Session) -> None:
        # Not the package's own, which would open another pool.
        self.configuration, self._session = given, session

    def request(self, method: str, url: str, headers: Any = None, *args: Any, **options: Any) -> RESTResponse:
        """One request; once more when the credentials were refused and are newer now.

        Raises:
            DryRunRefused, WrongCluster: it is a write that the session may not make.
        """
        own = {key: value for key, value in (headers or {}).items() if key.lower() != "authorization"}
        base = self.configuration.host

        def send(pool: Pool, credentials: Credentials) -> urllib3.BaseHTTPResponse:
            permit(self._session, method, url)
            by_pool: Any = copy(self)
            by_pool.pool_manager = pool
            target = credentials.server + url.removeprefix(base) if url.startswith(base) else url
            sent = {**own, **credentials.headers()}
            request: Any = RESTClientObject.request
            found: urllib3.BaseHTTPResponse = request(by_pool, method, target, sent, *args, **options).response
            return found

        return RESTResponse(self._session.connection.send(send))

    def close(self) -> None:
        """Nothing: the connections are the session's."""


def permit(session: Session, method: str, url: str) -> None:
    """Judge a request by its whole URL. Raises: DryRunRefused, WrongCluster."""
    parts = urlsplit(url)
    path = parts.path.removeprefix(urlsplit(session.credentials.server).path.rstrip("/"))
    session.permit(method.upper(), path, dict(parse_qsl(parts.query)))
