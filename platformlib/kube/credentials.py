"""A kubeconfig as the official client reads it, turned into what any HTTP client needs."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import RLock
from typing import Any

import yaml

from platformlib.errors import KubeError

FIX = "check the kubeconfig with `kubectl config view`, or let the installation write it again"
# The official client remembers its temporary files in a module's global.
_LOADING = RLock()


class _Context(ssl.SSLContext):
    """Checks the server's certificate against kubeconfig's `tls-server-name`, where it has one."""

    server_name: str | None = None

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        named = {"server_hostname": self.server_name} if self.server_name else {}
        return super().wrap_socket(*args, **{**options, **named})


@dataclass(frozen=True)
class Credentials:
    """One context of a kubeconfig. Neither keys nor tokens show in its repr."""

    path: Path
    context: str
    user: str
    server: str
    tls: ssl.SSLContext = field(repr=False)
    proxy: str | None = field(repr=False)
    _configuration: Any = field(repr=False)

    def headers(self) -> dict[str, str]:
        """The authorization of one request; an exec plugin is asked again when its token is about to expire."""
        with _LOADING:
            token = self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return {"Authorization": token} if token else {}

    @classmethod
    def load(cls, path: Path, context: str | None = None) -> "Credentials":
        """Read `path`, run its exec plugin if it has one, and build the TLS context.

        Raises:
            KubeError: no such file or context, or the plugin or a certificate of it is broken.
        """
        names = _names(path, context)
        with _LOADING, TemporaryDirectory(prefix="platformlib-") as folder:
            found = configuration(path, names["context"], folder)
            tls = _tls(path, found)
        token = found.api_key.get("BearerToken")
        if names["exec"] and not (token or found.cert_file):
            raise KubeError(f"{path}: the exec plugin of user {names['user']} gave no credential", fix=FIX)
        return cls(path, names["context"], names["user"], str(found.host).rstrip("/"), tls, _proxy(found), found)


def _names(path: Path, context: str | None) -> dict[str, Any]:
    """The names that the context consists of, checked here since the official client's messages show its entries."""
    document = _read(path)
    name = context or document.get("current-context")
    chosen = _entry(document, "contexts", name, path)["context"]
    _entry(document, "clusters", chosen.get("cluster"), path)
    user = _entry(document, "users", chosen.get("user"), path).get("user") or {}
    return {"context": str(name), "user": str(chosen.get("user")), "exec": "exec" in user}


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or "not readable as YAML"
        raise KubeError(f"kubeconfig {path}: {reason}", fix=FIX) from None
    if not isinstance(document, dict):
        raise KubeError(f"kubeconfig {path}: no mapping in it", fix=FIX)
    return document


def _entry(document: dict[str, Any], section: str, name: str | None, path: Path) -> dict[str, Any]:
    entries = {entry.get("name"): entry for entry in document.get(section) or [] if isinstance(entry, dict)}
    if name not in entries:
        known = ", ".join(map(str, entries)) or "none"
        raise KubeError(f"kubeconfig {path}: no {name!r} among its {section} ({known})", fix=FIX)
    return entries[name]


def configuration(path: Path, context: str, folder: str) -> Any:
    """The official client's configuration of one context; certificates are written to `folder`. Raises: KubeError."""
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, load_kube_config

    found = Configuration()
    load: Any = load_kube_config
    try:
        with _LOADING:
            load(str(path), context, found, persist_config=False, temp_file_path=folder)
    except ConfigException as error:
        # Past " in " the message would show the entry itself, tokens and keys included.
        raise KubeError(f"kubeconfig {path}: {str(error).split(' in ')[0]}", fix=FIX) from None
    return found


def _tls(path: Path, configuration: Any) -> ssl.SSLContext:
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.server_name = configuration.tls_server_name
    try:
        if not configuration.verify_ssl:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        elif configuration.ssl_ca_cert:
            context.load_verify_locations(configuration.ssl_ca_cert)
        else:
            context.load_default_certs()
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file)
    except (OSError, ssl.SSLError):
        raise KubeError(f"kubeconfig {path}: its certificates or its key cannot be read", fix=FIX) from None
    return context


def _proxy(configuration: Any) -> str | None:
    from kubernetes.client.rest import should_bypass_proxies

    direct = configuration.no_proxy and should_bypass_proxies(configuration.host, configuration.no_proxy)
    return None if direct else configuration.proxy
