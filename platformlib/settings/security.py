"""The section `security` of a parameters file. Every default is the safe one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from platformlib.errors import Fault
from platformlib.schema import Model, Name, Quantity

Level = Literal["privileged", "baseline", "restricted"]
Persona = Literal["viewer", "developer", "operator", "auditor", "deployer", "backup"]
Size = Literal["small", "medium", "large"]
PERSONAS: tuple[Persona, ...] = ("viewer", "developer", "operator", "auditor", "deployer", "backup")
PORTS = 65_535
Reason = Annotated[str, Field(min_length=10, description="why, in a sentence")]
Raw = Mapping[str, Any]


def _cidr(text: str) -> str:
    """An IPv4 or IPv6 range; a single address is a range of one."""
    return str(ip_network(text))


def _port(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _port_in_range(text: str) -> str:
    if not 0 < int(text.partition("/")[0]) <= PORTS:
        raise ValueError(f"a port of 1 to {PORTS}")
    return text


Cidr = Annotated[str, AfterValidator(_cidr)]
Port = Annotated[
    str, BeforeValidator(_port), Field(pattern=r"^[0-9]{1,5}(/(TCP|UDP|SCTP))?$"), AfterValidator(_port_in_range)
]
Host = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?(/[-a-z0-9._/]+)?$", description="host[:port][/path]"),
]


class PodException(Model):
    """A namespace that may run pods below the profile."""

    namespace: Name
    level: Literal["privileged", "baseline"]
    reason: Reason


class ApplicationFlow(Model):
    """Connections that an application opens, apart from DNS. Exactly one of application, component, addresses."""

    application: Name | None = Field(default=None, description="another application of this file")
    component: Name | None = Field(default=None, description="a component of the platform")
    addresses: list[Cidr] = Field(default=[], description="ranges outside of the cluster: 203.0.113.0/24")
    ports: list[Port] = Field(min_length=1, description="such as 5432, or 53/UDP")
    pods: Name | None = Field(default=None, description="only from pods with this app.kubernetes.io/name; default: all")

    @model_validator(mode="after")
    def _one_target(self) -> "ApplicationFlow":
        if sum(map(bool, (self.application, self.component, self.addresses))) != 1:
            raise ValueError("exactly one of application, component, addresses")
        return self


class Application(Model):
    """A namespace for an application: closed by default, with a quota and the profile."""

    name: Name
    size: Size = "small"
    port: int = Field(default=8080, ge=1, le=PORTS, description="where the ingress controller reaches its pods")
    internal_traffic: bool = Field(default=True, description="its pods may connect to each other, on every port")
    flows: list[ApplicationFlow] = Field(default=[], description="what else its pods may connect to")


class Quota(Model):
    """What one namespace may use in all, and what a single container may use of memory."""

    cpu: Quantity
    memory: Quantity
    storage: Quantity
    pods: int = Field(ge=1)


class Sizes(Model):
    """The quotas that a namespace can have; `large` is what the platform's own namespaces get."""

    small: Quota = Quota(cpu="2", memory="2Gi", storage="5Gi", pods=20)
    medium: Quota = Quota(cpu="4", memory="8Gi", storage="20Gi", pods=50)
    large: Quota = Quota(cpu="16", memory="32Gi", storage="500Gi", pods=100)


class Signatures(Model):
    """Images that must carry a signature of one cosign key."""

    images: str = Field(
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?/[-a-z0-9._/*]+$",
        description="a glob of references, such as registry.example/team/*",
    )
    public_key: str = Field(pattern=r"^-----BEGIN PUBLIC KEY-----", description="PEM")
    addresses: list[Cidr] = Field(
        default=[], description="where that registry answers; default: everywhere outside of private ranges"
    )


class Policies(Model):
    """What Kyverno enforces."""

    mode: Literal["audit", "enforce"] = Field(
        default="enforce", description="audit only warns and reports; the default with distribution existing"
    )
    failure: Literal["Fail", "Ignore"] = Field(
        default="Fail",
        description="when no admission controller answers: Fail refuses, Ignore admits. Namespaces kube-system and "
        "kyverno are excluded from the webhooks, so a cluster recovers by itself with Fail as well",
    )
    registries: list[Host] = Field(
        default=["docker.io", "gcr.io", "ghcr.io", "quay.io", "reg.kyverno.io", "registry.k8s.io"],
        min_length=1, description="hosts that images may come from",
    )  # fmt: skip
    signatures: Signatures | None = None


class Security(Model):
    """Pods, access, resources, network and policies."""

    profile: Literal["baseline", "restricted"] = Field(
        default="restricted", description="the Pod Security Standard that application namespaces enforce"
    )
    exceptions: list[PodException] = Field(default=[], description="beyond those that the platform itself needs")
    applications: list[Application] = Field(default=[])
    sizes: Sizes = Sizes()
    personas: list[Persona] = Field(default=list(PERSONAS))
    policies: Policies = Policies()


class Observed(Model):
    """What the rules need to know of a cluster that others installed. Read from the cluster unless it is given."""

    nodes: list[Cidr] = Field(min_length=1, description="the addresses of nodes, and those they use towards pods")
    api: list[Cidr] = Field(min_length=1, description="the addresses of the API server, as pods reach it")
    api_port: int = Field(default=6443, ge=1, le=PORTS)
    schedulable: int = Field(default=1, ge=1, description="nodes that take ordinary pods")


def with_default_mode(raw: Any) -> Any:
    """Policies default to audit on a cluster that others installed: it has workloads that nobody has checked yet."""
    cluster, security = (raw.get(key) for key in ("cluster", "security")) if isinstance(raw, Mapping) else (None, None)
    if not isinstance(cluster, Mapping) or cluster.get("distribution") != "existing":
        return raw
    security = {} if security is None else security
    policies = security.get("policies", {}) if isinstance(security, Mapping) else None
    if not isinstance(security, Mapping) or not isinstance(policies, Mapping) or "mode" in policies:
        return raw
    return {**raw, "security": {**security, "policies": {**policies, "mode": "audit"}}}


# Rules across fields: see settings/rules.py.


def _applications(raw: Raw) -> list[tuple[str, Raw]]:
    security = raw.get("security")
    listed = security.get("applications") if isinstance(security, Mapping) else None
    entries = enumerate(listed) if isinstance(listed, list) else ()
    return [(f"security.applications.{index}", each) for index, each in entries if isinstance(each, Mapping)]


def _flows(raw: Raw) -> Iterator[tuple[str, Raw, Raw]]:
    for path, application in _applications(raw):
        listed = application.get("flows")
        for index, flow in enumerate(listed) if isinstance(listed, list) else ():
            if isinstance(flow, Mapping):
                yield f"{path}.flows.{index}", application, flow


def applications_are_distinct(raw: Raw) -> Iterator[Fault]:
    """Two applications never share a namespace."""
    seen: set[str] = set()
    for path, application in _applications(raw):
        name = str(application.get("name"))
        if name in seen:
            yield Fault(f"{path}.name", name, "a name of its own")
        seen.add(name)


def flows_lead_to_applications(raw: Raw) -> Iterator[Fault]:
    """A flow to another application opens both ends, so that application is declared as well."""
    known = {each.get("name") for _, each in _applications(raw)}
    for path, application, flow in _flows(raw):
        name = flow.get("application")
        if name is not None and name == application.get("name"):
            yield Fault(f"{path}.application", str(name), "another application; see internal_traffic for its own pods")
        elif name is not None and name not in known:
            yield Fault(f"{path}.application", str(name), "the name of an application under security.applications")


def flows_to_addresses_lead_outside(raw: Raw) -> Iterator[Fault]:
    """Pods have no lasting addresses: what is in the cluster is named as application or component."""
    cluster = raw.get("cluster")
    given = cluster.get("network") if isinstance(cluster, Mapping) else None
    inside = {"pods": "10.42.0.0/16", "services": "10.43.0.0/16", **(given if isinstance(given, Mapping) else {})}
    for path, _, flow in _flows(raw):
        addresses = flow.get("addresses")
        for address in addresses if isinstance(addresses, list) else ():
            for name in ("pods", "services"):
                with suppress(ValueError, TypeError):
                    if _covers(ip_network(inside[name]), ip_network(address)):
                        expected = f"addresses outside of the cluster; {address} is of cluster.network.{name}"
                        yield Fault(f"{path}.addresses", str(address), expected)


def _covers(outer: IPv4Network | IPv6Network, inner: IPv4Network | IPv6Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]  # the versions agree


SECURITY_RULES: tuple[Callable[[Raw], Iterator[Fault]], ...] = (
    applications_are_distinct,
    flows_lead_to_applications,
    flows_to_addresses_lead_outside,
)
