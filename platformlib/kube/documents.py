"""Multi-document YAML to objects; what a person would misread is refused."""

from collections.abc import Hashable, Iterator
from functools import cache
from typing import Any

from platformlib.errors import KubeError
from platformlib.kube.objects import Object, reference

MERGE = "tag:yaml.org,2002:merge"


def parse(text: str, *, source: str = "manifest") -> list[Object]:
    """The objects of a YAML text; empty documents are skipped, a `List` is opened.

    Raises:
        KubeError: broken YAML, a key that stands twice in one mapping, or an object without kind, apiVersion or name.
    """
    import yaml

    try:
        documents = list(yaml.load_all(text, Loader=_loader()))  # a SafeLoader, made stricter
    except yaml.YAMLError as error:
        raise KubeError(f"{source}: {_where(error)}") from None
    objects = [obj for number, document in enumerate(documents, 1) for obj in _open(document, f"{source}[{number}]")]
    for obj in objects:
        reference(obj)
    return objects


def _open(document: Any, source: str) -> Iterator[Object]:
    if document is None:
        return
    if not isinstance(document, dict):
        raise KubeError(f"{source}: {type(document).__name__} where an object was expected")
    if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _open(item, source)
    else:
        yield document


def _where(error: Exception) -> str:
    """The problem and its line; never the lines themselves, which may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)


@cache
def _loader() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        """YAML as the API server reads it: a date stays a string, `=` is a value, a key stands once."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if key.tag != MERGE and key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(str(key.value))
            mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
            return mapping

    as_text = yaml.SafeLoader.construct_yaml_str
    Loader.add_constructor("tag:yaml.org,2002:timestamp", as_text)
    Loader.add_constructor("tag:yaml.org,2002:value", as_text)
    return Loader
