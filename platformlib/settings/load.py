"""A parameters file or mapping, validated to `Settings`, or every fault of it at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from platformlib.errors import Fault, SettingsError
from platformlib.settings.models import Settings
from platformlib.settings.rules import broken_rules

DERIVED = "default_factory_not_called"  # a default that waits for another field; that field's fault is told already
MAPPING = "a mapping with the key `platform`, as in parameters/example.yaml"


def load(source: str | Path | Mapping[str, Any]) -> Settings:
    """Validate a parameters file, or the value of its `platform` key.

    Raises:
        SettingsError: with every fault, its path, its value and what was expected.
    """
    if isinstance(source, Mapping):
        return validate(source, source="platform")
    return validate(_read(Path(source)), source=str(source))


def validate(raw: Mapping[str, Any], *, source: str) -> Settings:
    """Validate the value of a `platform` key; `source` names it in the error."""
    faults = broken_rules(raw)
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        faults += [_fault(detail) for detail in error.errors(include_url=False) if detail["type"] != DERIVED]
    if faults:
        raise SettingsError(faults, source=source)
    return settings


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error).replace("\n", " ")
        raise SettingsError([Fault(str(path), reason, "a readable YAML file")]) from None
    platform = document.get("platform") if isinstance(document, dict) else None
    if not isinstance(platform, dict):
        raise SettingsError([Fault(str(path), type(platform or document).__name__, MAPPING)])
    return platform


def _fault(detail: ErrorDetails) -> Fault:
    path = ".".join(map(str, detail["loc"])) or "platform"
    match detail["type"]:
        case "extra_forbidden":
            return Fault(path, "unknown key", "one of the keys in parameters/example.yaml")
        case "secret_literal":
            return Fault(path, "a literal", detail["msg"])
        case "missing":
            return Fault(path, "nothing", "a value; it has no default")
        case _:
            return Fault(path, repr(detail["input"]), detail["msg"].removeprefix("Value error, "))
