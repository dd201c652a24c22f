"""How programs in the cluster are reached from outside: the API server's service proxy."""

import ssl
from dataclasses import dataclass, field

from platformlib.kube.session import Session


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
