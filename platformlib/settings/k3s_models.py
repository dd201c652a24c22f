"""The larger sections of `cluster.k3s`: registries, snapshots, object storage for them."""

from typing import Annotated, Literal

from pydantic import Field

from platformlib.schema import Model, Name
from platformlib.settings.references import Reference

Url = Annotated[
    str, Field(pattern=r"^https?://[^\s/@]+(/\S*)?$", description="http:// or https://, without a password")
]
# What an image's name begins with: a host and its port, or `*` for all that have no entry of their own.
RegistryName = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9.-]+(:[0-9]+)?)$")]
ChartName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


class RegistryMirror(Model):
    """Where images of one registry are looked for, in this order, before the registry itself."""

    endpoints: list[Url] = Field(default=[], description="none: other machines only, with embedded_registry")
    rewrite: dict[str, str] = Field(default={}, description="regular expression of a repository: its replacement")


class RegistryAccess(Model):
    """How one registry or mirror is reached: who asks, and whom to trust."""

    username: str | None = None
    password: Reference | None = None
    token: Reference | None = Field(default=None, description="in place of username and password")
    ca: Reference | None = Field(default=None, description="the authority's certificate (PEM)")
    certificate: Reference | None = Field(default=None, description="a client certificate (PEM), with key")
    key: Reference | None = None
    insecure: bool = Field(default=False, description="do not verify the certificate")


class Registries(Model):
    """registries.yaml, besides `registry.mirror`, which serves every registry that is not named here."""

    mirrors: dict[RegistryName, RegistryMirror] = Field(default={})
    access: dict[RegistryName, RegistryAccess] = Field(default={})


class S3(Model):
    """A bucket that k3s copies its own etcd snapshots to."""

    endpoint: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+(:[0-9]+)?$", description="host or host:port")]
    bucket: Name
    folder: str | None = None
    region: str = "us-east-1"
    access_key: Reference
    secret_key: Reference
    insecure: bool = Field(default=False, description="plain HTTP")
    lookup: Literal["auto", "dns", "path"] = "auto"


class Snapshots(Model):
    """Copies of the datastore: the driver's own before an upgrade, and k3s's of etcd on a schedule."""

    keep: int = Field(default=5, ge=1, description="how many of the driver's own stay on a server")
    schedule: str | None = Field(default=None, description="cron, such as `0 */6 * * *`; default: k3s's, twice a day")
    s3: S3 | None = None
