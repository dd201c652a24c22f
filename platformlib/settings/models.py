"""The shape of a parameters file: strict models, one for each section. Components add the sections that are theirs."""

from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    JsonValue,
    PlainSerializer,
    create_model,
    model_validator,
)

from platformlib.component import Component, packaged, read, table
from platformlib.schema import Model, Name, Quantity
from platformlib.settings.k3s_models import ChartName, Registries, Snapshots
from platformlib.settings.k3s_options import Packaged
from platformlib.settings.references import Reference
from platformlib.settings.security import Observed, Security, with_default_mode
from platformlib.versions import versions


def _expand(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) else value


SPELLED: dict[type, str] = {
    IPv4Address: "an address such as 192.168.1.201",
    IPv4Network: "a network such as 10.42.0.0/16, without host bits",
    IPv6Address: "an address such as fd00::1",
    IPv6Network: "a network such as fd00:42::/56, without host bits",
    HttpUrl: "a URL such as https://mirror.example.org",
}


def _parse(kind: type) -> BeforeValidator:
    """Let a strict field take its usual YAML spelling, a string."""

    def parsed(value: object) -> object:
        try:
            return kind(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError(SPELLED.get(kind, f"a {kind.__name__}")) from None

    return BeforeValidator(parsed)


AsText = PlainSerializer(str, return_type=str)
Address = Annotated[IPv4Address, _parse(IPv4Address), AsText]
Network = Annotated[IPv4Network, _parse(IPv4Network), AsText]
Address6 = Annotated[IPv6Address, _parse(IPv6Address), AsText]
Network6 = Annotated[IPv6Network, _parse(IPv6Network), AsText]
Label = Annotated[str, Field(pattern=r"^([-a-zA-Z0-9_.]{1,63})?$", description="a label's value")]
Taint = Annotated[
    str,
    Field(pattern=r"^[-a-zA-Z0-9_./]+(=[-a-zA-Z0-9_.]*)?:(NoSchedule|PreferNoSchedule|NoExecute)$"),
]
FilePath = Annotated[Path, BeforeValidator(_expand), AsText]
Adopted = Annotated[
    str,
    Field(pattern=r"^[A-Z][A-Za-z0-9]*(/[a-z0-9][-a-z0-9.:]*){1,2}$", description="such as Namespace/shop"),
]
Role = Literal["control-plane", "worker"]
Distribution = Literal["k3s", "kubeadm", "existing"]
Option = bool | int | str | list[str]
LAYERS = tuple(name for name, row in table().items() if row.components)
"""The layers that have components of this package: what a platform gets by default."""


def _layer(name: str) -> str:
    if name not in table():
        raise ValueError(f"one of {', '.join(table())}")
    return name


def _layers(given: dict[str, Any]) -> list[str]:
    """Those of this package, and those that the platform's own components belong to."""
    own = {read(folder).layer for folder in given.get("components", [])}
    return [name for name in table() if name in {*LAYERS, *own}]


Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="a variable's name")]


def _default_version(given: dict[str, Any]) -> str:
    return str(versions()["k3s" if given.get("distribution") == "k3s" else "kubernetes"])


class Node(Model):
    """One machine of the cluster."""

    name: Name
    address: Address
    address6: Address6 | None = Field(default=None, description="with network.pods6: dual-stack")
    role: Role = "worker"
    labels: dict[str, Label] = Field(default={})
    taints: list[Taint] = Field(default=[], description="such as dedicated=storage:NoSchedule")
    config: dict[str, Option] = Field(default={}, description="options of this machine's config.yaml; k3s alone")
    connection: Literal["ssh", "local"] = "ssh"


class Ssh(Model):
    """How the machines are reached."""

    user: str = "root"
    port: int = Field(default=22, ge=1, le=65535)
    identity: FilePath | None = Field(
        default=None, description="private key; default: the platform's own, then the agent's"
    )
    known_hosts: FilePath | None = Field(default=None, description="default: kept in the platform's state folder")


class Networks(Model):
    """Address ranges; none may overlap another, all are private."""

    nodes: Network = IPv4Network("192.168.1.0/24")
    pods: Network = IPv4Network("10.42.0.0/16")
    services: Network = IPv4Network("10.43.0.0/16")
    pods6: Network6 | None = Field(default=None, description="with services6 and each node's address6: dual-stack")
    services6: Network6 | None = None


class K3s(Model):
    """k3s alone; the other distributions take no notice."""

    hardening: bool = Field(default=False, description="the CIS hardening that k3s documents")
    datastore: Literal["auto", "sqlite", "etcd"] = Field(
        default="auto", description="auto: SQLite with one server, etcd with three"
    )
    endpoint: str | None = Field(default=None, description="a fixed name or address before the servers, without port")
    tls_san: list[str] = Field(default=[], description="further names and addresses of the API server")
    disable: list[Packaged] = Field(default=[], description="packaged components to leave out")
    config: dict[str, Option] = Field(default={}, description="further options of config.yaml")
    token: Reference | None = Field(default=None, description="the servers' secret; default: made on the first server")
    agent_token: Reference | None = Field(default=None, description="the agents' secret; default: likewise")
    registries: Registries = Registries()
    embedded_registry: bool = Field(default=False, description="machines give each other the images that they have")
    snapshots: Snapshots = Snapshots()
    manifests: list[FilePath] = Field(default=[], description="files that k3s applies by itself")
    chart_values: dict[ChartName, dict[str, JsonValue]] = Field(
        default={}, description="Helm values of a packaged chart, such as traefik"
    )
    bundle: FilePath | None = Field(
        default=None, description="a folder with k3s, its checksums and its images; default: download"
    )
    download: Annotated[HttpUrl, _parse(HttpUrl), AsText] = Field(
        default=HttpUrl("https://github.com/k3s-io/k3s/releases/download"),
        description="where releases are published, or a copy of that",
    )


class Cluster(Model):
    """What Kubernetes runs on, and which one."""

    distribution: Distribution
    version: str = Field(default_factory=_default_version, pattern=r"^v1\.\d+\.\d+([-+].+)?$")
    nodes: list[Node] = Field(default=[])
    network: Networks = Networks()
    ssh: Ssh = Ssh()
    k3s: K3s = K3s()
    environment: dict[Variable, str] = Field(
        default={}, description="of k3s's service: HTTP_PROXY, HTTPS_PROXY, NO_PROXY; a value may be a reference"
    )
    kubeconfig: FilePath | None = Field(default=None, description="default: kept in the platform's state folder")
    context: str | None = Field(default=None, description="kubeconfig context; default: the current one")
    observed: Observed | None = Field(default=None, description="with existing; default: read from the cluster")


class Registry(Model):
    """Where nodes find images: nowhere but upstream, or a mirror that has them all."""

    mirror: Annotated[HttpUrl, _parse(HttpUrl), AsText] | None = None


class Machine(Model):
    """What one machine of the lab may use of its host."""

    memory: Quantity = "4Gi"
    cpus: float = Field(default=2.0, gt=0)


class Lab(Model):
    """The platform's machines are a lab's, on this Linux host. A file without this section describes real machines."""

    machine: Machine = Machine()
    internet: bool = Field(default=False, description="true lets the machines out through the host")


class Platform(Model):
    """A whole parameters file, the value of its `platform` key, but for what components add to it."""

    _default_mode = model_validator(mode="before")(with_default_mode)

    name: Name
    cluster: Cluster
    registry: Registry = Registry()
    components: list[FilePath] = Field(
        default=[], description="folders of your own components, as in docs/architecture.md"
    )
    layers: list[Annotated[str, AfterValidator(_layer)]] = Field(default_factory=_layers)
    adopt: list[Adopted] = Field(
        default=[],
        description="objects made by others that the platform may apply to, such as ConfigMap/shop/web; never deleted",
    )
    security: Security = Security()
    lab: Lab | None = None


def sections(components: list[Component]) -> dict[str, Any]:
    """The fields that components describe; those that name one section share it."""
    found: dict[str, list[type[Model]]] = {}
    for each in components:
        if each.settings and (code := each.code("parameters")):
            found.setdefault(each.settings, []).append(code.Parameters)
    models = {name: create_model(name.title(), __base__=tuple(parts)) for name, parts in found.items()}
    return {name: (model, Field(default_factory=model)) for name, model in models.items()}


@cache
def settings_with(*folders: Path) -> type["Settings"]:
    """The model of a parameters file with the components in `folders`."""
    own = [read(folder) for folder in folders]
    made: Any = create_model("Settings", __base__=Platform, **sections([*packaged().values(), *own]))
    made.__doc__ = "A whole parameters file: the value of its `platform` key."
    return made  # type: ignore[no-any-return]


if TYPE_CHECKING:

    class Settings(Platform):
        """A whole parameters file: the value of its `platform` key."""

        def __getattr__(self, section: str) -> Any: ...
else:
    Settings = settings_with()
