"""The program that holds a pod's namespaces, from the source in the pinned Kubernetes module."""

from functools import partial

from platformlib.bundle.golang import module_source
from platformlib.bundle.recipe import Recipe, Tool, Workspace
from platformlib.errors import BundleError
from platformlib.versions import image, versions

COMPILER = (Tool("gcc", "gcc"), Tool("ld", "binutils"))


def pause_recipe(layer: str) -> Recipe:
    """The artifact is `bin/pause`, compiled as upstream's build/pause/Makefile does."""
    module, tag = versions()["modules"]["kubernetes"], image("pause").rpartition(":")[2]
    flags = ["-Os", "-Wall", "-Werror", "-static", "-s", f"-DVERSION=v{tag}"]
    return Recipe(
        "pause", layer, partial(_make, flags=flags), pins={"pin": module, "flags": flags}, tools=COMPILER,
        expected_seconds=15, size=500_000_000, peak=10_000_000,
    )  # fmt: skip


def _make(ws: Workspace, *, flags: list[str]) -> None:
    source = module_source(ws, "k8s.io/kubernetes", "kubernetes") / "build" / "pause" / "linux" / "pause.c"
    if not source.exists():
        raise BundleError(f"the Kubernetes module has no {source}", fix="look where upstream moved it, mend pause.py")
    (ws.output / "bin").mkdir()
    ws.run(["gcc", *flags, "-o", ws.output / "bin" / "pause", source])
