"""What is applied is there, what is there is not applied again, and what was changed by others is found."""

import threading
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from platformlib.errors import ApplyConflict, KubeError, WaitTimeout, WrongCluster
from platformlib.kube import Kube, reference
from tests.api.control_plane import ControlPlane, poll
from tests.api.objects import pick, realistic


def actions(table: Any) -> dict[str, int]:
    """How often each action stands in a table."""
    return {str(key): int(count) for key, count in table["action"].value_counts().items()}


def test_second_apply_changes_nothing(kube: Kube, layer: str) -> None:
    objects = realistic(layer)
    planned = kube.apply(objects, layer=layer, dry_run=True)
    assert actions(planned) == {"created": len(objects)}
    assert kube.get("v1", "Namespace", layer) is None

    assert actions(kube.apply(objects, layer=layer)) == {"created": len(objects)}
    before = {ref: (kube.api.get(ref) or {})["metadata"].get("generation") for ref in kube.inventory(layer)}
    assert actions(kube.apply(objects, layer=layer)) == {"unchanged": len(objects)}
    assert {ref: (kube.api.get(ref) or {})["metadata"].get("generation") for ref in before} == before
    assert kube.diff(objects, layer=layer).empty
    assert kube.diff(objects).empty


def test_every_object_is_labelled_and_recorded(kube: Kube, layer: str) -> None:
    objects = realistic(layer)
    kube.apply(objects, layer=layer)
    assert kube.inventory(layer) == sorted(map(reference, objects))
    for ref in kube.inventory(layer):
        labels = (kube.api.get(ref) or {})["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "platformlib"
        assert labels["platformlib.io/layer"] == layer


def test_edited_and_deleted_are_found_and_put_back(kube: Kube, layer: str, edit: Callable[..., None]) -> None:
    objects = realistic(layer)
    kube.apply(objects, layer=layer)
    kube.delete(pick(objects, "Deployment"))
    edit(f"/api/v1/namespaces/{layer}/configmaps/web", {"data": {"empty": "edited"}})
    edit(f"/api/v1/namespaces/{layer}/secrets/web", {"data": {"password": "ZWRpdGVk"}})
    edit(f"/apis/apps/v1/namespaces/{layer}/daemonsets/agent", {"metadata": {"labels": {"platformlib.io/layer": "x"}}})

    found = kube.diff(objects, layer=layer)
    assert sorted(found.itertuples(index=False, name=None)) == [
        ("ConfigMap", layer, "web", "data.empty", "edited", ""),
        ("DaemonSet", layer, "agent", "metadata.labels[platformlib.io/layer]", "x", layer),
        ("Deployment", layer, "web", "", "(absent)", "(present)"),
        ("Secret", layer, "web", "data.password", "(secret)", "(secret)"),
    ]
    with pytest.raises(ApplyConflict) as conflict:
        kube.apply(objects, layer=layer)
    assert kube.get("apps/v1", "Deployment", "web", layer) is None, "a refused set changes nothing"
    for words in (f"ConfigMap {layer}/web", "data.empty", "kubectl-edit", f"Secret {layer}/web", "take_ownership=True"):
        assert words in str(conflict.value)
    assert "ZWRpdGVk" not in str(conflict.value)

    put_back = kube.apply(objects, layer=layer, take_ownership=True)
    assert actions(put_back) == {"configured": 3, "created": 1, "unchanged": len(objects) - 4}
    assert kube.diff(objects, layer=layer).empty
    assert actions(kube.apply(objects, layer=layer)) == {"unchanged": len(objects)}


def test_diff_names_list_items_by_their_merge_key(kube: Kube, layer: str) -> None:
    objects = realistic(layer)
    kube.apply(objects, layer=layer)
    changed = deepcopy(objects)
    container = pick(changed, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    container["image"] = "registry.k8s.io/pause:3.11"
    container["args"] = ["--verbose", "--port=81", "--new"]
    container["env"].append({"name": "NEW", "value": "1"})
    found = kube.diff(changed, layer=layer)[["field", "live", "wanted"]]
    at = "spec.template.spec.containers[web]"
    assert sorted(found.itertuples(index=False, name=None)) == [
        (f"{at}.args[1]", "--port=80", "--port=81"),
        (f"{at}.args[2]", "(absent)", "--new"),
        (f"{at}.env[NEW].name", "(absent)", "NEW"),
        (f"{at}.env[NEW].value", "(absent)", "1"),
        (f"{at}.image", "registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.11"),
    ]


@pytest.mark.parametrize(
    ("kind", "path", "value", "words"),
    [
        ("Deployment", "spec.replica", 1, "replica"),
        ("Deployment", "spec.template.metadata.labels", {"app": "other"}, "selector"),
        ("Service", "metadata.namespace", "not-there", "create the namespace not-there"),
        ("Service", "metadata.namespace", "", "has no namespace"),
        ("ConfigMap", "kind", "Confmap", "no kind Confmap"),
    ],
)
def test_one_bad_object_refuses_the_set(  # noqa: PLR0917  one argument for each column of the table
    kube: Kube, layer: str, kind: str, path: str, value: object, words: str
) -> None:
    kube.apply([pick(realistic(layer), "Namespace")], layer=layer)
    objects = realistic(layer)
    *parents, last = path.split(".")
    section = pick(objects, kind)
    for key in parents:
        section = section[key]
    section[last] = value
    with pytest.raises(KubeError, match=words):
        kube.apply(objects, layer=layer)
    assert kube.list("v1", "Service", layer) == []


def test_prune_removes_exactly_what_is_no_longer_wanted(kube: Kube, layer: str, control_plane: ControlPlane) -> None:
    objects = realistic(layer)
    kube.apply(objects, layer=layer)
    gone = [pick(objects, "Deployment"), pick(objects, "Widget"), pick(objects, "ConfigMap")]
    keep = [obj for obj in objects if obj not in gone]
    taken = f"/api/v1/namespaces/{layer}/configmaps/web"
    control_plane.patch(taken, {"metadata": {"labels": {"platformlib.io/layer": "another"}}}, manager="another")

    assert sorted(kube.diff(keep, layer=layer)["kind"]) == ["Deployment", "Widget"]
    pruned = kube.prune(layer, keep, timeout=30)
    assert dict(zip(pruned["kind"], pruned["action"], strict=True)) == {
        "Widget": "deleted", "Deployment": "deleted", "ConfigMap": "kept, of layer another",
    }  # fmt: skip
    assert kube.inventory(layer) == sorted(map(reference, keep))
    assert all(kube.api.get(reference(obj)) for obj in keep)
    assert kube.get("apps/v1", "Deployment", "web", layer) is None
    assert kube.prune(layer, keep).empty


def test_killed_before_the_objects_leaves_nothing_unknown(
    kube: Kube, layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three objects are there, and every reference is recorded."""
    objects, applying, allowed = realistic(layer), kube.api.apply, threading.Semaphore(3)

    def killed(obj: Any, *, force: bool, dry_run: bool = False) -> Any:
        if not dry_run and not allowed.acquire(blocking=False):
            raise KeyboardInterrupt
        return applying(obj, force=force, dry_run=dry_run)

    with monkeypatch.context() as patch:
        patch.setattr(kube.api, "apply", killed)
        with pytest.raises(KeyboardInterrupt):
            kube.apply(objects, layer=layer)
    assert kube.get("v1", "Namespace", layer)
    assert kube.inventory(layer) == sorted(map(reference, objects))

    again = actions(kube.apply(objects, layer=layer))
    assert again["created"] == len(objects) - 3
    assert kube.diff(objects, layer=layer).empty


def claims(layer: str) -> list[str]:
    """The names of the claims that the set brings."""
    return [f"{layer}/web", f"{layer}/data-base-0"]


def test_uninstall_leaves_nothing_but_data_that_is_not_named(kube: Kube, layer: str) -> None:
    objects = realistic(layer)
    kube.apply(objects, layer=layer)
    poll(lambda: len(kube.list("v1", "PersistentVolumeClaim", layer)) == 2, timeout=20, what="the StatefulSet's claim")
    removed = kube.uninstall(layer, timeout=60)
    assert actions(removed) == {"deleted": len(objects) - 2, "kept, data": 2, "kept, holds 2 claims": 1}
    assert list(removed["kind"])[-1] == "Namespace"
    known = [ref for obj in objects if kube.api.discovery.knows((ref := reference(obj)).api_version, ref.kind)]
    left = {ref.kind for ref in known if ref.kind != "Widget" and kube.api.get(ref)}
    assert left == {"Namespace", "PersistentVolumeClaim"}
    assert kube.inventory(layer) == []
    assert kube.uninstall(layer).empty

    named = kube.uninstall(layer, delete_data=[*claims(layer), layer], timeout=60)
    assert actions(named) == {"deleted": 3}
    assert kube.get("v1", "Namespace", layer) is None


def test_a_definition_may_bring_a_field_that_its_instance_already_uses(kube: Kube, layer: str) -> None:
    objects = [pick(realistic(layer), kind) for kind in ("Namespace", "CustomResourceDefinition", "Widget")]
    kube.apply(objects, layer=layer)
    _, definition, widget = newer = deepcopy(objects)
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    schema["colour"] = {"type": "string"}
    widget["spec"]["colour"] = "red"
    with pytest.raises(KubeError, match="colour"):
        kube.apply([objects[0], widget], layer=layer)
    assert set(kube.diff(newer, layer=layer)["kind"]) == {"CustomResourceDefinition", "Widget"}
    assert actions(kube.apply(newer, layer=layer)) == {"unchanged": 1, "configured": 2}
    assert actions(kube.apply(newer, layer=layer)) == {"unchanged": 3}


def test_a_field_that_never_changes_says_how(kube: Kube, layer: str) -> None:
    """The advice is safe to follow: only what loses nothing is to be deleted."""
    objects = [pick(realistic(layer), kind) for kind in ("Namespace", "StatefulSet", "Deployment")]
    kube.apply(objects, layer=layer)
    changed = deepcopy(objects)
    for obj in changed[1:]:
        obj["spec"]["selector"] = {"matchLabels": {"app": "other"}}
        obj["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    with pytest.raises(KubeError) as refused:
        kube.apply(changed, layer=layer)
    assert f"delete Deployment {layer}/web, then apply again" in refused.value.fix
    assert f"never changes this field of StatefulSet {layer}/base: set it back" in refused.value.fix
    assert actions(kube.apply(objects, layer=layer)) == {"unchanged": 3}


def test_a_finalizer_that_nobody_removes_is_named(kube: Kube, layer: str, control_plane: ControlPlane) -> None:
    objects = [pick(realistic(layer), kind) for kind in ("Namespace", "ConfigMap", "Secret")]
    kube.apply(objects, layer=layer)
    path = f"/api/v1/namespaces/{layer}/configmaps/web"
    control_plane.patch(path, {"metadata": {"finalizers": ["test.io/hold"]}})
    with pytest.raises(WaitTimeout, match=f"ConfigMap {layer}/web: finalizers test.io/hold"):
        kube.uninstall(layer, timeout=1)
    assert kube.inventory(layer) == sorted(map(reference, objects)), "nothing is forgotten before it is gone"
    control_plane.patch(path, {"metadata": {"finalizers": None}})
    assert actions(kube.uninstall(layer, timeout=60)) == {"absent": 2, "deleted": 1}


def test_apply_while_the_last_one_is_still_going(kube: Kube, layer: str) -> None:
    objects = [pick(realistic(layer), kind) for kind in ("Namespace", "ConfigMap", "Secret")]
    kube.apply(objects, layer=layer)
    kube.api.delete(reference(objects[0]))
    kube.apply(objects, layer=layer)
    assert kube.diff(objects, layer=layer).empty


def test_a_cluster_of_another_name_is_refused(kube: Kube, control_plane: ControlPlane) -> None:
    assert kube.identity() is None
    kube.claim("homelab", "k3s")
    kube.claim("homelab", "k3s")
    found = kube.identity()
    assert found is not None
    assert (found.name, found.distribution) == ("homelab", "k3s")
    assert found.uid == (kube.get("v1", "Namespace", "kube-system") or {})["metadata"]["uid"]
    with pytest.raises(WrongCluster) as refused:
        kube.claim("other", "k3s")
    assert all(words in str(refused.value) for words in ("homelab", "other", control_plane.server, "fix:"))
    assert kube.release("homelab")
    assert kube.identity() is None
