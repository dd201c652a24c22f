"""A StatefulSet's claims grow, are kept where they cannot, and never shrink; nobody's data is lost on the way."""

from copy import deepcopy
from typing import Any

import pytest

from platformlib.errors import KubeError
from platformlib.kube import Kube
from platformlib.kube import growth as growing
from tests.api.control_plane import poll
from tests.api.objects import pick, realistic

Object = dict[str, Any]


def resized(objects: list[Object], size: str, **spec: Any) -> list[Object]:
    """The set with another size of the StatefulSet's claims."""
    changed = deepcopy(objects)
    base = pick(changed, "StatefulSet")["spec"]
    base["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = size
    base |= spec
    return changed


def volume(layer: str, claim: Object) -> Object:
    """A volume that is bound to the claim alone."""
    about = {key: claim["metadata"][key] for key in ("name", "namespace", "uid")}
    return {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{layer}-volume"},
        "spec": {
            "capacity": {"storage": "100Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": layer,
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/nowhere"},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **about},
        },
    }  # fmt: skip


@pytest.fixture
def base(kube: Kube, layer: str, request: pytest.FixtureRequest) -> list[Object]:
    """A StatefulSet with a pod and a bound claim, whose class may or may not expand."""
    objects = [pick(realistic(layer), kind) for kind in ("Namespace", "StorageClass", "StatefulSet")]
    objects[1] |= {"allowVolumeExpansion": request.param, "volumeBindingMode": "Immediate"}
    objects[2]["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] = layer
    # As older versions of the platform had it: whoever deletes the StatefulSet loses its claims.
    objects[2]["spec"]["persistentVolumeClaimRetentionPolicy"] = {"whenDeleted": "Delete", "whenScaled": "Retain"}
    kube.apply(objects, layer=layer)
    poll(lambda: bool(owned(kube, layer)), timeout=20, what="the StatefulSet owns its claim")
    kube.apply([volume(layer, claim(kube, layer))], layer=f"{layer}-volumes")
    poll(lambda: claim(kube, layer)["status"]["phase"] == "Bound", timeout=20, what="the claim is bound")
    poll(lambda: bool(kube.list("v1", "Pod", layer)), timeout=20, what="the StatefulSet has a pod")
    return objects


def claim(kube: Kube, layer: str) -> Object:
    return kube.get("v1", "PersistentVolumeClaim", "data-base-0", layer) or {"metadata": {}, "status": {"phase": ""}}


def owned(kube: Kube, layer: str) -> list[Any]:
    return claim(kube, layer)["metadata"].get("ownerReferences") or []


def uids(kube: Kube, layer: str) -> tuple[str, list[str]]:
    """The identities of the claim and of the pods."""
    return claim(kube, layer)["metadata"]["uid"], [pod["metadata"]["uid"] for pod in kube.list("v1", "Pod", layer)]


@pytest.mark.parametrize(
    ("base", "would", "done", "size"),
    [
        (True, "would expand", "expanded", "2Gi"),
        (False, "kept, class {} cannot expand it", "kept, class {} cannot expand it", "512Mi"),
    ],
    indirect=["base"],
)
def test_claims_grow_where_their_class_allows_it(  # noqa: PLR0917  one argument for each column of the table
    kube: Kube, layer: str, base: list[Object], would: str, done: str, size: str
) -> None:
    before, larger = uids(kube, layer), resized(base, "2Gi")
    field = "spec.volumeClaimTemplates[0].spec.resources.requests.storage"
    assert kube.diff(larger, layer=layer)[["field", "live", "wanted"]].to_numpy().tolist() == [[field, "512Mi", "2Gi"]]
    for dry_run, words in ((True, would), (False, done)):
        table = kube.apply(larger, layer=layer, dry_run=dry_run)
        rows = {(row["kind"], row["name"]): row["action"] for row in table.to_dict("records")}
        assert rows["StatefulSet", "base"] == "configured"
        assert rows["PersistentVolumeClaim", "data-base-0"] == words.format(layer)
    assert uids(kube, layer) == before, "neither the claim nor the pod was made anew"
    assert claim(kube, layer)["spec"]["resources"]["requests"]["storage"] == size
    live = kube.get("apps/v1", "StatefulSet", "base", layer)
    assert live is not None
    assert live["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert set(kube.apply(larger, layer=layer)["action"]) == {"unchanged"}
    poll(lambda: adopted(kube, layer, live), timeout=20, what="the new StatefulSet takes the pod")
    assert uids(kube, layer) == before


def adopted(kube: Kube, layer: str, live: Object) -> bool:
    owners = [owner["uid"] for pod in kube.list("v1", "Pod", layer) for owner in pod["metadata"]["ownerReferences"]]
    return owners == [live["metadata"]["uid"]]


@pytest.mark.parametrize("base", [True], indirect=True)
def test_shrinking_is_refused_and_says_how(kube: Kube, layer: str, base: list[Object]) -> None:
    before = uids(kube, layer)
    with pytest.raises(KubeError, match=r"cannot shrink: data from 512Mi to 100Mi") as refused:
        kube.apply(resized(base, "100Mi"), layer=layer)
    assert "delete" not in refused.value.fix
    assert uids(kube, layer) == before


@pytest.mark.parametrize("base", [True], indirect=True)
def test_another_change_of_a_template_is_refused_and_nothing_is_lost(
    kube: Kube, layer: str, base: list[Object]
) -> None:
    before, larger = uids(kube, layer), resized(base, "2Gi")
    pick(larger, "StatefulSet")["spec"]["volumeClaimTemplates"][0]["spec"]["accessModes"] = ["ReadWriteMany"]
    with pytest.raises(KubeError, match="Forbidden") as refused:
        kube.apply(larger, layer=layer)
    assert "set it back" in refused.value.fix
    assert "delete" not in refused.value.fix
    assert uids(kube, layer) == before


@pytest.mark.parametrize("base", [True], indirect=True)
def test_killed_half_way_the_next_apply_goes_on(
    kube: Kube, layer: str, base: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The StatefulSet is gone, and was not made again."""
    before, larger = uids(kube, layer), resized(base, "2Gi")

    def killed(*_: Any, **__: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(growing, "_gone", killed)
        with pytest.raises(KeyboardInterrupt):
            kube.apply(larger, layer=layer)
    poll(lambda: kube.get("apps/v1", "StatefulSet", "base", layer) is None, timeout=20, what="the orphan is deleted")
    table = kube.apply(larger, layer=layer)
    assert set(table["action"]) == {"unchanged", "created"}
    assert uids(kube, layer) == before


@pytest.mark.parametrize("base", [True], indirect=True)
def test_uninstalling_keeps_the_claims(kube: Kube, layer: str, base: list[Object]) -> None:
    """Although the live StatefulSet says that they go with it."""
    before = uids(kube, layer)[0]
    table = kube.uninstall(layer, timeout=60)
    rows = {row["kind"]: row["action"] for row in table.to_dict("records")}
    assert (rows["StatefulSet"], rows["PersistentVolumeClaim"]) == ("deleted", "kept, data")
    assert rows["Namespace"] == "kept, holds 1 claim"
    assert uids(kube, layer)[0] == before
    kube.apply(base, layer=layer)
    assert uids(kube, layer)[0] == before, "installed again, the claim is used again"
    table = kube.uninstall(layer, delete_data=[f"{layer}/data-base-0"], timeout=60)
    assert {row["kind"]: row["action"] for row in table.to_dict("records")} == {
        "StatefulSet": "deleted", "PersistentVolumeClaim": "deleted", "StorageClass": "deleted", "Namespace": "deleted",
    }  # fmt: skip
