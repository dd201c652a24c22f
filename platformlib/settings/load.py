"""A parameters file or mapping, validated to `Settings`, or every fault of it at once."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from platformlib.component import FILE, PLACES, Component, packaged, read
from platformlib.errors import Fault, SettingsError
from platformlib.schema import fault, keys, patterns
from platformlib.settings.models import Settings, settings_with
from platformlib.settings.rules import broken_rules

DERIVED = "default_factory_not_called"  # a default that waits for another field; that field's fault is told already
EXAMPLE = "parameters/example.yaml"
MAPPING = f"a mapping with the key `platform`, as in {EXAMPLE}"


def load(source: str | Path | Mapping[str, Any]) -> Settings:
    """Validate a parameters file, or the value of its `platform` key.

    Args:
        source: folders in `components` are relative to the file; in a mapping, to the working folder.

    Raises:
        SettingsError: with every fault, its path, its value and what was expected.
    """
    if isinstance(source, Mapping):
        return validate(located(source, Path()), source="platform")
    path = Path(source)
    try:
        return validate(located(_read(path), path.parent), source=str(path))
    except SettingsError as error:
        raise SettingsError([replace(each, path=_with_line(path, each.path)) for each in error.faults],
                            source=str(path)) from None  # fmt: skip


def _with_line(path: Path, key: str) -> str:
    """The key, and the line of the file where it stands, or where it is missing."""
    try:
        node = yaml.compose(path.read_text("utf-8"), yaml.SafeLoader)
    except (OSError, UnicodeError, yaml.YAMLError):
        return key
    line = 0
    for part in ["platform", *key.split(".")]:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        pair = next(((name, value) for name, value in pairs if getattr(name, "value", None) == part), None)
        if pair is not None:
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            break
    return f"{key} (line {line})" if line > 1 else key


def located(raw: Mapping[str, Any], near: Path) -> Mapping[str, Any]:
    """The mapping with the folders of its own components as absolute paths."""
    own = raw.get("components")
    if not (isinstance(own, list) and all(isinstance(each, str) for each in own)):
        return raw
    return {**raw, "components": [str((near / Path(each).expanduser()).resolve()) for each in own]}


def validate(raw: Mapping[str, Any], *, source: str) -> Settings:
    """Validate the value of a `platform` key; `source` names it in the error."""
    faults = broken_rules(raw)
    try:
        settings = _model(raw).model_validate(raw)
    except ValidationError as error:
        known = [detail for detail in error.errors(include_url=False) if detail["type"] != DERIVED]
        schema = _model(raw).model_json_schema()
        words, names = patterns(schema), sorted(keys(schema))
        faults += [fault(detail, known=EXAMPLE, described=words, keys=names) for detail in known]
    if faults:
        raise SettingsError(faults, source=source)
    return settings


def _model(raw: Mapping[str, Any]) -> type[Settings]:
    """With the sections of the platform's own components. Raises: SettingsError for a folder that is none."""
    given = raw.get("components")
    folders = [Path(each) for each in given if isinstance(each, str)] if isinstance(given, list) else []
    own = [read(folder) for folder in folders]
    if faults := [fault for one in own for fault in _misfits(one, own, raw.get("layers"))]:
        raise SettingsError(faults)
    return settings_with(*folders)


def _misfits(one: Component, own: list[Component], layers: Any) -> Iterator[Fault]:
    """What a component's file cannot know: names that others have, and names that nobody has."""
    known, file = {*packaged(), *(each.name for each in own)}, str(one.folder / FILE)
    if one.name in packaged() or sum(each.name == one.name for each in own) > 1:
        yield Fault(file, one.name, "a name that no other component has")
    if isinstance(layers, list) and one.layer not in layers:
        yield Fault("layers", ", ".join(map(str, layers)), f"{one.layer} among them, for {file}")
    for need in set(one.needs) - known:
        yield Fault(f"{file}: needs", need, "the name of a component")
    for flow in one.flows:
        if flow.to and flow.to not in {*known, *PLACES} and "/" not in flow.to:
            yield Fault(f"{file}: flows.{flow.name}.to", flow.to, f"a component, namespace/app, {', '.join(PLACES)}")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error).replace("\n", " ")
        raise SettingsError([Fault(str(path), reason, "a readable YAML file")]) from None
    platform = document.get("platform") if isinstance(document, dict) else None
    if not isinstance(platform, dict):
        raise SettingsError([Fault(str(path), type(platform or document).__name__, MAPPING)])
    return platform
