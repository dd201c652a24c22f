"""Artifacts that are made by a few lines of Python, for tests of the bundle without network or compiler."""

from functools import partial
from pathlib import Path

from platformlib.bundle.image import Settings
from platformlib.bundle.imaging import Plan, image_recipe
from platformlib.bundle.recipe import Recipe, Workspace
from platformlib.bundle.tarlayer import File, program, write_layer


def _write(ws: Workspace, *, name: str, text: str) -> None:
    (ws.output / "bin").mkdir()
    (ws.output / "bin" / name).write_text(text, "utf-8")
    (ws.output / "bin" / name).chmod(0o755)


def toy(name: str, text: str = "v1", *, layer: str = "cluster", inputs: tuple[str, ...] = ()) -> Recipe:
    """An artifact with one file, `bin/<name>`, that holds `text`."""
    return Recipe(name, layer, partial(_write, name=name, text=text), pins={"text": text}, inputs=inputs)


def shell(name: str, *argv: str, layer: str = "cluster") -> Recipe:
    """An artifact whose making is a program of the host."""

    def make(ws: Workspace) -> None:
        ws.run(argv, stdout=ws.output / "out")

    return Recipe(name, layer, make, pins={"argv": list(argv)})


def etc() -> Recipe:
    """A foundation as small as one can be."""

    def make(ws: Workspace) -> None:
        write_layer(ws.output / "etc.tar", [File("etc/passwd", b"root:x:0:0::/:/bin/sh\n")])

    return Recipe("etc", "cluster", make)


def image_of(toy_name: str, reference: str) -> Recipe:
    """An image of the toy's program, under the name that `reference` has in versions.yaml."""
    entries = [program(f"bin/{toy_name}", Path(toy_name, "bin", toy_name))]
    return image_recipe(f"{reference}-image", "cluster", [Plan(reference, Settings([f"/bin/{toy_name}"]))], entries)
