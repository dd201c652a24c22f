"""Given against declared parameters: every fault at once, before a kernel starts."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from platformlib.errors import Fault, ParameterError, SettingsError
from platformlib.runbook.declared import Parameter
from platformlib.runbook.given import Typed, from_files, merged, nested
from platformlib.runbook.secrets import literal_secrets
from platformlib.settings import load
from platformlib.settings.locate import resolve

PLATFORM = "platform"


def checked(
    declared: Mapping[str, Parameter],
    files: Mapping[str, Any],
    single: Mapping[str, Any],
    *,
    near: Path,
    source: str,
    whole: bool = True,
) -> dict[str, Any]:
    """The values to inject. The platform is injected whole, so that a run's notebook tells what it built.

    Args:
        files: what parameters files give.
        single: what is given one by one, over the files; keys may be nested, as `platform.name`.
        near: folder of the notebook; a path to a parameters file may be relative to it.
        source: names the notebook in errors.
        whole: read the platform's file even if the platform is not among the values.

    Raises:
        ParameterError: with every fault: unknown names, wrong types, literal secrets, and what `platform` got wrong.
    """
    values = merged(files, nested(single))
    values = {name: _converted(declared.get(name), value) for name, value in values.items()}
    faults, secrets = [*_unknown(declared, values)], [*literal_secrets(values)]
    try:
        values |= _platform(declared, files, values, near) if whole or PLATFORM in values else {}
    except SettingsError as error:
        faults += [Fault(_prefixed(fault.path), fault.value, fault.expected) for fault in error.faults]
    faults += _wrong_types(declared, values)
    if faults or secrets:
        raise ParameterError(_listed([*secrets, *_without(secrets, faults)], source))
    return values


def _without(secrets: Iterable[Fault], faults: Iterable[Fault]) -> Iterator[Fault]:
    """A fault tells the value that it is about: none is told that holds a secret."""
    hidden = [f"{secret.path}." for secret in secrets]
    return (fault for fault in faults if not any(path.startswith(f"{fault.path}.") for path in hidden))


def _listed(faults: Iterable[Fault], source: str) -> str:
    lines = sorted({str(fault) for fault in faults})
    count = f"{len(lines)} fault" + ("s" if len(lines) != 1 else "")
    return "\n  ".join([f"{source}: {count} in the parameters, nothing was run", *lines])


def _converted(parameter: Parameter | None, value: Any) -> Any:
    """A typed text becomes what YAML reads from it, unless the notebook wants text there."""
    if not isinstance(value, Typed):
        return value
    read = value.as_yaml()
    wants_text = parameter is not None and not parameter.accepts(read) and parameter.accepts(str(value))
    return str(value) if wants_text else read


def _unknown(declared: Mapping[str, Parameter], values: Mapping[str, Any]) -> Iterator[Fault]:
    for name in values.keys() - declared.keys():
        near = get_close_matches(name, declared, n=2) or list(declared)
        expected = f"one of its parameters: {', '.join(near)}" if near else "no parameters, it takes none"
        yield Fault(name, "unknown parameter", expected)


def _wrong_types(declared: Mapping[str, Parameter], values: Mapping[str, Any]) -> Iterator[Fault]:
    for name, value in values.items():
        parameter = declared.get(name)
        if parameter and not parameter.accepts(value):
            yield Fault(name, f"{value!r} ({type(value).__name__})", parameter.type.words)


def _prefixed(path: str) -> str:
    return path if path.startswith(PLATFORM) or "/" in path else f"{PLATFORM}.{path}"


def _platform(
    declared: Mapping[str, Parameter], files: Mapping[str, Any], values: Mapping[str, Any], near: Path
) -> dict[str, Any]:
    """The platform as a whole, valid mapping; single keys stand over the file that the notebook has as its default."""
    if PLATFORM not in declared:
        return {}
    wanted = values.get(PLATFORM, declared[PLATFORM].default)
    if isinstance(wanted, str):
        wanted = _of_file(wanted, near)
    elif isinstance(wanted, Mapping) and PLATFORM not in files:
        wanted = merged(_of_file(str(declared[PLATFORM].default), near), wanted)
    if not isinstance(wanted, Mapping):
        raise SettingsError(
            [Fault(PLATFORM, type(wanted).__name__, "a path, or a mapping as in parameters/example.yaml")]
        )
    load(wanted)
    return {PLATFORM: wanted}


def _of_file(path: str, near: Path) -> Mapping[str, Any]:
    file = resolve(path, near)
    load(file)
    platform: Mapping[str, Any] = from_files([file])[PLATFORM]
    return platform
