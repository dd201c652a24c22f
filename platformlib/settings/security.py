"""The rules that a platform lives under, as a section of its parameters. Every default is the safe one."""

from typing import Annotated, Literal

from pydantic import Field

from platformlib.schema import Model, Name, Quantity

Level = Literal["privileged", "baseline", "restricted"]
Persona = Literal["viewer", "developer", "operator", "auditor", "deployer", "backup"]
Size = Literal["small", "medium", "large"]
PERSONAS: tuple[Persona, ...] = ("viewer", "developer", "operator", "auditor", "deployer", "backup")
Reason = Annotated[str, Field(min_length=10, description="why, in a sentence")]


class PodException(Model):
    """A namespace that may run pods below the profile."""

    namespace: Name
    level: Literal["privileged", "baseline"]
    reason: Reason


class Application(Model):
    """A namespace of an application: default deny, a quota, the profile."""

    name: Name
    size: Size = "small"
    port: int = Field(default=8080, ge=1, le=65535, description="where the ingress controller reaches its pods")


class Quota(Model):
    """What one namespace may use in all; a single container at most a half of it."""

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

    images: str = Field(description="a glob of references, such as registry.example/team/*")
    public_key: str = Field(pattern=r"^-----BEGIN PUBLIC KEY-----", description="PEM")


class Policies(Model):
    """Kyverno's."""

    mode: Literal["audit", "enforce"] = Field(
        default="enforce", description="audit only reports; begin with it on a cluster that has workloads"
    )
    failure: Literal["Fail", "Ignore"] = Field(
        default="Fail",
        description="when no admission controller answers: Fail refuses, Ignore lets everything pass. kube-system and "
        "kyverno are left out of the webhooks, so that a cluster comes back by itself with Fail, too",
    )
    registries: list[str] = Field(
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
