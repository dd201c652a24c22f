"""References, order, labels, YAML, and differences field by field."""

from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platformlib.errors import KubeError
from platformlib.kube import parse
from platformlib.kube.diff import ABSENT, changes
from platformlib.kube.objects import ORDER, Reference, by_rank, prepared, reference

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


def test_documents_are_read_as_the_server_reads_them() -> None:
    text = f"# only a comment\n---\n{HEAD}data: {{day: 2024-01-01, equals: =, yes: 'on'}}\n---\n"
    (found,) = parse(text)
    assert found["data"] == {"day": "2024-01-01", "equals": "=", True: "on"}


def test_a_list_is_opened() -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n"
    assert [reference(obj).name for obj in parse(text)] == ["a"]
    assert parse("") == []


def test_merge_keys_may_be_overridden() -> None:
    text = HEAD + "base: &base {a: 1, b: 2}\ndata: {<<: *base, a: 3}\n"
    assert parse(text)[0]["data"] == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "data: {}\ndata: {}\n", "line 5: key 'data' stands twice"),
        (HEAD + "data: {key: hunter2, key: hunter3}\n", "key 'key' stands twice"),
        (HEAD + "data: [hunter2\n", "line 5"),
        ("kind: ConfigMap\nmetadata: {name: a}\n", "has no apiVersion"),
        ("apiVersion: v1\nkind: ConfigMap\n", "has no metadata.name"),
        ("- hunter2\n", "list where an object was expected"),
        (HEAD + "data: !!python/object:os.system {}\n", "could not determine a constructor"),
    ],
)
def test_bad_documents_are_refused_without_their_values(text: str, words: str) -> None:
    with pytest.raises(KubeError) as refused:
        parse(text, source="some.yaml")
    assert words in str(refused.value)
    assert "hunter" not in str(refused.value)


def test_order() -> None:
    kinds = [
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"), ("apps/v1", "Deployment"),
        ("example.com/v1", "Widget"), ("v1", "ConfigMap"), ("v1", "Namespace"),
        ("rbac.authorization.k8s.io/v1", "Role"), ("example.com/v1", "Namespace"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ]  # fmt: skip
    ranked = by_rank(Reference(version, kind, "", "x") for version, kind in kinds)
    assert [sorted({ref.kind for ref in rank}) for rank in ranked] == [
        ["Namespace"], ["CustomResourceDefinition"], ["ConfigMap"], ["Role"], ["Deployment"], ["Namespace", "Widget"],
        ["ValidatingWebhookConfiguration"],
    ]  # fmt: skip
    assert sum(map(len, ORDER)) == len(frozenset().union(*ORDER)), "a kind stands in two ranks"


def test_prepared_labels_and_keeps_the_original() -> None:
    given_ = {
        "apiVersion": "v1", "kind": "Secret", "status": {}, "stringData": {"a": "ä"}, "data": {"b": "Yg=="},
        "metadata": {
            "name": "s", "creationTimestamp": None, "labels": {"app.kubernetes.io/part-of": "other", "x": "y"},
        },
    }  # fmt: skip
    ready = prepared(given_, "storage")
    assert ready["metadata"] == {
        "name": "s",
        "labels": {
            "app.kubernetes.io/part-of": "other", "x": "y",
            "app.kubernetes.io/managed-by": "platformlib", "platformlib.io/layer": "storage",
        },
    }  # fmt: skip
    assert {key: b64decode(value).decode() for key, value in ready["data"].items()} == {"a": "ä", "b": "b"}
    assert not {"status", "stringData"} & ready.keys()
    assert given_["stringData"] == {"a": "ä"}
    assert prepared(ready, "storage") == ready


def test_a_secret_that_is_no_text_is_named_without_its_value() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"pin": 4711}}
    with pytest.raises(KubeError, match="Secret s: pin: not a string") as refused:
        prepared(secret, "storage")
    assert "4711" not in str(refused.value)


@pytest.mark.parametrize(
    ("live", "wanted", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("a", 1, 2)]),
        ({}, {"a": {"b": 1}}, [("a.b", ABSENT, 1)]),
        ({"v": [{"name": "s"}]}, {"v": [{"name": "s", "emptyDir": {}}]}, [("v[s].emptyDir", ABSENT, {})]),
        ({"a": {}}, {"a": {"x.io/y": 1}}, [("a[x.io/y]", ABSENT, 1)]),
        ({"a": ["x", "y"]}, {"a": ["x"]}, [("a[1]", "y", ABSENT)]),
        (
            {"a": [{"name": "x", "v": 1}, {"name": "y"}]},
            {"a": [{"name": "y"}, {"name": "x", "v": 2}]},
            [("a[x].v", 1, 2)],
        ),
        ({"p": [{"port": 1, "n": 1}]}, {"p": [{"port": 1, "n": 2}]}, [("p[1].n", 1, 2)]),
        ({"a": "text"}, {"a": {"b": 1}}, [("a", "text", {"b": 1})]),
    ],
)
def test_changes(live: Any, wanted: Any, expected: list[tuple[str, Any, Any]]) -> None:
    assert list(changes(live, wanted)) == expected


keys = st.sampled_from(["a", "b", "x.io/y"])
leaves = st.sampled_from([0, 1, "", "text"])
inner = st.one_of(leaves, st.lists(leaves, max_size=2), st.dictionaries(keys, leaves, max_size=2))
trees = st.dictionaries(keys, st.one_of(inner, st.lists(inner, max_size=2), st.dictionaries(keys, inner, max_size=2)))


@given(trees, trees)
def test_changes_are_none_exactly_when_nothing_differs(live: Any, wanted: Any) -> None:
    assert list(changes(live, live)) == []
    assert bool(list(changes(live, wanted))) == (live != wanted)
    mirrored = [(path, new, old) for path, old, new in changes(wanted, live)]
    assert sorted(map(repr, mirrored)) == sorted(map(repr, changes(live, wanted)))
