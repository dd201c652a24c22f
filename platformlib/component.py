"""What is known of one system: the `component.yaml` of its folder, typed, closed and read once.

The package's own components are the folders below `components/`, in the order of `layers/layers.yaml`. A user's folder
has the same form. Code of a component (`objects.py`, `parameters.py`, `checks.py`) is found by its file's name.
"""

import sys
from functools import cache, cached_property
from hashlib import sha256
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from platformlib.errors import Fault, SettingsError
from platformlib.schema import Model, Name, fault

HOME = Path(__file__).parent / "components"
LAYERS = Path(__file__).parent / "layers" / "layers.yaml"
FILE = "component.yaml"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # several times faster: every command reads these files
PLACES = ("nodes", "anywhere", "applications", "registry")  # ends of a flow that are no component
Level = Literal["privileged", "baseline", "restricted"]
Count = int | Annotated[str, Field(pattern=r"^(\d+ \* )?(nodes|control-plane)$")]


class Part(Model):
    """A part of a component.yaml; its keys are written with hyphens."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True,
        alias_generator=lambda name: name.rstrip("_").replace("_", "-"), populate_by_name=True,
    )  # fmt: skip


class Namespace(Part):
    """Where its pods run. Components that share a namespace declare it each; what they say is added up."""

    name: Name
    level: Level = Field(default="restricted", description="the Pod Security Standard that is enforced")
    reason: str = Field(default="", description="why the level is below restricted")
    workloads: list[str] = Field(
        default=[], description="who needs the lower level: apps, or Kind/name-* of what starts them"
    )
    size: Literal["small", "medium", "large", ""] = "large"
    exists: bool = Field(default=False, description="Kubernetes makes it: its labels and quota are left alone")
    open: str = Field(default="", description="why it has no default deny")
    leftovers: list[str] = Field(
        default=[], description="Kind/name-* of what its programs make for themselves: it goes with the namespace"
    )

    def joined(self, other: "Namespace") -> "Namespace":
        """What two components need of one namespace."""
        levels: tuple[Level, ...] = ("privileged", "baseline", "restricted")
        return Namespace(
            name=self.name, level=min(self.level, other.level, key=levels.index),
            reason="; ".join(dict.fromkeys(filter(None, (self.reason, other.reason)))),
            workloads=[*self.workloads, *other.workloads], size=self.size, exists=self.exists or other.exists,
            open=self.open or other.open, leftovers=[*self.leftovers, *other.leftovers],
        )  # fmt: skip


class Flow(Part):
    """A connection that is let through, declared by its client; `from` is for clients that are no component.

    `to` names a component, `nodes` (API server, kubelets), `anywhere` outside of the cluster, `applications`, or
    `registry` (of the images whose signatures are verified).
    """

    name: Name
    to: str = ""
    from_: Literal["nodes", "anywhere", "applications", ""] = ""
    ports: list[int | str] = Field(min_length=1, description="TCP, or such as 53/UDP")
    why: str = Field(min_length=3)
    when: str = Field(default="", description="a layer of the platform, or a parameter that is set: security.policies")

    @model_validator(mode="after")
    def _one_end(self) -> "Flow":
        if bool(self.to) == bool(self.from_):
            raise ValueError("either `to` or `from`; the other end is the component")
        return self


class Route(Part):
    """A way in for people, for the ingress controller."""

    host: str
    port: int


class Scrape(Part):
    """Metrics of its pods, and how many targets have to be up. `scrape.yaml` has the jobs that need more than this."""

    job: str
    port: int
    targets: Count | dict[str, Count] = Field(default=1, description="a number, `nodes`, `2 * nodes`, `control-plane`")
    honor_labels: bool = Field(default=False, description="its own labels win, and none of the pod's are added")

    def count(self, distribution: str, *, nodes: int, control_plane: int) -> int:
        """The targets on a cluster of that size."""
        given = self.targets.get(distribution, 0) if isinstance(self.targets, dict) else self.targets
        if isinstance(given, int):
            return given
        factor, _, what = given.rpartition(" * ")
        return int(factor or 1) * (nodes if what == "nodes" else control_plane)


class Data(Part):
    """What it keeps, and whether that outlives the component."""

    claims: list[str] = Field(default=[])
    on_delete: Literal["keep", "delete"] = "keep"


class Program(Part):
    """A program of a Go module. Seconds and megabytes were measured on two cores with an empty cache."""

    seconds: int
    size: int = Field(description="megabytes that stay until the bundle is whole")
    peak: int = Field(description="megabytes while it is built")
    stamps: list[str] = Field(default=[], description="variables of the linker: {version}, {tag}, {major}, {minor}")
    tag: str = Field(default="", description="the image whose tag is stamped; default: the one of its own name")
    optional: bool = Field(default=False, description="built, with its images, only when it is named")


class Owned(Part):
    """A folder of an image."""

    path: str
    mode: int = 0o755
    owner: int = 0


class Image(Part):
    """An image of one program. Images that `link` to one program share a layer."""

    path: str
    program: str = Field(default="", description="default: the image's name")
    link: str = Field(default="", description="another name of the program, by which it is called")
    entrypoint: list[str] | None = Field(default=None, description="default: the program")
    command: list[str] = Field(default=[])
    user: str = ""
    workdir: str = "/"
    folders: list[Owned] = Field(default=[])
    bind_low_ports: bool = False
    foundation: Literal["etc", "base"] = "etc"
    size: int = 100


class Build(Part):
    """What the bundle builds for it, from the Go modules in its folder `modules/`."""

    programs: dict[str, Program] = Field(default={})
    images: dict[str, Image] = Field(default={})


class Chosen(Part):
    """Objects of an upstream manifest; what is left out matches everything."""

    kind: str = ""
    name: str = ""


class Upstream(Part):
    """Upstream's own manifest, from the pinned module, and what differs here. `upstream.yaml` has what is laid over."""

    module: str = Field(description="a key of `manifests` in versions.yaml")
    drop: list[Chosen] = Field(default=[])


class Exemption(Part):
    """A rule for workloads that a container cannot keep."""

    container: str = Field(description="workload/container")
    rules: list[str] = Field(min_length=1)
    reason: str = Field(min_length=10)


class Component(Part):
    """One system: what it is for, where it runs, what it needs, opens, measures, keeps and is built from."""

    folder: Path
    layer: str
    name: Name
    purpose: str
    namespace: Namespace | None = None
    pods: dict[str, str] | Literal["all"] = Field(
        default={}, description="labels of its pods, or all of its namespace; default: app.kubernetes.io/name"
    )
    host: bool = Field(default=False, description="its pods use the machine's network")
    brought: dict[str, bool | str] = Field(
        default={}, description="distributions that bring it; a name: unless that is in the distribution's `disable`"
    )
    when: str = Field(default="", description="as of a flow; default: always")
    needs: list[str] = Field(default=[], description="components that have to be ready first, where they are part")
    images: list[str] = Field(default=[], description="names in versions.yaml")
    settings: str = Field(default="", description="the section of the parameters that parameters.py describes")
    provides: dict[Literal["metrics", "logs", "namespaces"], int] = Field(
        default={}, description="what others use it for, and its service's port"
    )
    flows: list[Flow] = Field(default=[])
    routes: list[Route] = Field(default=[])
    scrape: list[Scrape] = Field(default=[])
    data: Data = Data()
    build: Build = Build()
    upstream: Upstream | None = None
    exceptions: list[Exemption] = Field(default=[])

    @cached_property
    def selector(self) -> dict[str, str]:
        """The labels of its pods; none for all of the namespace."""
        return {} if self.pods == "all" else self.pods or {"app.kubernetes.io/name": self.name}

    def text(self, name: str) -> str:
        """A file of its folder; nothing if it has none of that name."""
        file = self.folder / name
        return file.read_text("utf-8") if file.is_file() else ""

    @property
    def manifests(self) -> list[Path]:
        """Its own manifests, by name."""
        return sorted((self.folder / "manifests").glob("*.yaml"))

    @property
    def renders(self) -> bool:
        """Whether there is anything to install."""
        return bool(self.manifests or self.upstream or (self.folder / "objects.py").is_file())

    def code(self, part: str) -> ModuleType | None:
        """Its module `parameters`, `objects` or `checks`, if it has one."""
        file = self.folder / f"{part}.py"
        if not file.is_file():
            return None
        if self.folder.parent == HOME:
            return import_module(f"platformlib.components.{self.folder.name}.{part}")
        return _module_of(file)


def _module_of(file: Path) -> ModuleType:
    """A Python file outside of the package, imported once."""
    name = f"platformlib_component_{sha256(str(file).encode()).hexdigest()[:12]}_{file.stem}"
    if name not in sys.modules:
        spec = spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise SettingsError([Fault(str(file), "not importable", "a Python file")])
        module = sys.modules[name] = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


class Layer(Model):
    """A row of layers.yaml. A need that ends in `?` counts only where it is part of the platform."""

    purpose: str
    needs: list[str]
    components: list[str]


@cache
def table() -> dict[str, Layer]:
    """Every layer by its name, in the order of installing."""
    return TypeAdapter(dict[str, Layer]).validate_python(yaml.safe_load(LAYERS.read_text("utf-8")))


@cache
def packaged() -> dict[str, Component]:
    """The package's own components by name, in the order of the layers."""
    return {
        name: read(HOME / name.replace("-", "_"), layer) for layer, row in table().items() for name in row.components
    }


@cache
def read(folder: Path, layer: str = "") -> Component:
    """A component's folder.

    Args:
        folder: the folder with its component.yaml.
        layer: the layer that lists it; a user's own component names one, or belongs to the last.

    Raises:
        SettingsError: every fault of the file at once.
    """
    file = folder / FILE
    try:
        raw: Any = yaml.load(file.read_text("utf-8"), Loader=LOADER)  # noqa: S506 - a safe one
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error).replace("\n", " ")
        raise SettingsError([Fault(str(file), reason, "a component's folder with a readable component.yaml")]) from None
    if not isinstance(raw, dict):
        raise SettingsError([Fault(str(file), type(raw).__name__, "a mapping, as in docs/architecture.md")])
    given = {"layer": layer or [*table()][-1]} | raw | {"folder": folder}
    try:
        found = Component.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise SettingsError([fault(one, known="docs/architecture.md") for one in details], source=str(file)) from None
    expected = found.name.replace("-", "_")
    faults = [Fault("name", found.name, f"the folder's name, {folder.name}")] if expected != folder.name else []
    if found.layer not in table():
        faults.append(Fault("layer", found.layer, f"one of {', '.join(table())}"))
    if faults:
        raise SettingsError(faults, source=str(file))
    return found


def module_lock(name: str) -> Path:
    """The folder with go.mod and go.sum of a Go module. Raises: SettingsError without one."""
    for each in packaged().values():
        if (each.folder / "modules" / name).is_dir():
            return each.folder / "modules" / name
    raise SettingsError([Fault(name, "no such Go module", "a folder `modules/` of a component with it")])
