"""What a platform did not make is refused or kept; data goes only when it is named."""

import threading
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from platformlib.errors import KubeError, WrongCluster
from platformlib.kube import Kube, reference
from tests.api.control_plane import TOKEN, ControlPlane, poll
from tests.api.objects import pick, realistic

Object = dict[str, Any]


def config_map(namespace: str, name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def foreign(kube: Kube, obj: Object) -> Object:
    """Made by somebody else."""
    return kube.api.call(
        "POST", type(reference(obj))(obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace", ""), ""),
        body=obj, fieldManager="kubectl-create",
    ).object()  # fmt: skip


def action(table: Any, kind: str, name: str) -> str:
    (found,) = table.loc[(table["kind"] == kind) & (table["name"] == name), "action"]
    return str(found)


def test_what_carries_no_mark_is_refused_with_the_whole_list(kube: Kube, layer: str) -> None:
    foreign(kube, namespace(layer))
    foreign(kube, config_map(layer, "web", of="others"))
    objects = [namespace(layer), config_map(layer, "web", of="ours"), config_map(layer, "new")]
    for dry_run in (True, False):
        with pytest.raises(KubeError, match="nothing was changed: 2 object") as refused:
            kube.apply(objects, layer=layer, dry_run=dry_run)
        assert f"ConfigMap {layer}/web" in str(refused.value)
        assert f"adopt: [ConfigMap/{layer}/web, Namespace/{layer}]" in refused.value.fix
    assert kube.get("v1", "ConfigMap", "new", layer) is None
    assert kube.inventory(layer) == []
    with pytest.raises(KubeError, match=f"Namespace {layer}"):
        kube.apply(objects, layer=layer, adopt={f"ConfigMap/{layer}/web"})


def test_what_is_adopted_is_changed_and_never_deleted(kube: Kube, layer: str) -> None:
    """The namespace was there with what people put into it; it leaves the parameters, and the layer is uninstalled."""
    foreign(kube, namespace(layer))
    foreign(kube, config_map(layer, "theirs"))
    other = namespace(f"{layer}-own")
    objects = [namespace(layer), config_map(layer, "new"), other]
    done = kube.apply(objects, layer=layer, adopt={f"Namespace/{layer}"})
    assert action(done, "Namespace", layer) == "configured"
    again = kube.apply(objects, layer=layer)
    assert set(again["action"]) == {"unchanged"}
    assert kube.diff(objects, layer=layer).empty

    pruned = kube.prune(layer, [other])
    assert action(pruned, "Namespace", layer) == "kept, adopted"
    assert action(pruned, "ConfigMap", "new") == "deleted"
    kube.apply(objects, layer=layer)
    removed = kube.uninstall(layer, timeout=60)
    assert action(removed, "Namespace", layer) == "kept, adopted"
    assert action(removed, "Namespace", f"{layer}-own") == "deleted"
    assert kube.get("v1", "ConfigMap", "theirs", layer)
    named = kube.uninstall(layer, delete_data=[layer])
    assert action(named, "Namespace", layer) == "kept, adopted"


def test_objects_of_older_versions_are_ours(kube: Kube, layer: str, edit: Callable[..., None]) -> None:
    """Their labels were taken off; the field manager still tells."""
    objects = [namespace(layer), config_map(layer, "web")]
    kube.apply(objects, layer=layer)
    gone = {"platformlib.io/layer": None, "app.kubernetes.io/managed-by": None}
    edit(f"/api/v1/namespaces/{layer}/configmaps/web", {"metadata": {"labels": gone}})
    put_back = kube.apply(objects, layer=layer, take_ownership=True)
    assert action(put_back, "ConfigMap", "web") == "configured"
    assert action(kube.prune(layer, objects[:1]), "ConfigMap", "web") == "deleted"


def test_a_namespace_with_objects_of_others_is_kept(kube: Kube, layer: str, control_plane: ControlPlane) -> None:
    kube.apply([namespace(layer), config_map(layer, "ours")], layer=layer)
    foreign(kube, config_map(layer, "theirs"))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs", "namespace": layer}}
    foreign(kube, secret)
    dry = Kube.connect(control_plane.kubeconfig, dry_run=True)
    for handle, verb in ((dry, "would delete"), (kube, "deleted")):
        table = handle.uninstall(layer, timeout=60)
        assert action(table, "Namespace", layer) == "kept, holds 2 objects of others"
        assert action(table, "ConfigMap", "ours") == verb
    assert kube.get("v1", "ConfigMap", "theirs", layer)
    assert action(kube.uninstall(layer, delete_data=[layer]), "Namespace", layer) == "deleted"
    assert kube.get("v1", "Namespace", layer) is None


def test_what_a_namespaces_own_programs_leave_does_not_keep_it(kube: Kube, layer: str) -> None:
    space = namespace(layer)
    space["metadata"]["annotations"] = {"platformlib.io/leftovers": "ConfigMap/made-*, Secret/made"}
    kube.apply([space], layer=layer)
    foreign(kube, config_map(layer, "made-1"))
    assert action(kube.uninstall(layer), "Namespace", layer) == "deleted"


def test_an_adopted_object_keeps_its_namespace(kube: Kube, layer: str) -> None:
    """The namespace is the layer's own, and what was adopted in it carries the layer's label by now."""
    kube.apply([namespace(layer)], layer=layer)
    foreign(kube, config_map(layer, "theirs", of="others"))
    objects = [namespace(layer), config_map(layer, "theirs", more="ours")]
    kube.apply(objects, layer=layer, adopt={f"ConfigMap/{layer}/theirs"})
    removed = kube.uninstall(layer)
    assert action(removed, "ConfigMap", "theirs") == "kept, adopted"
    assert action(removed, "Namespace", layer) == "kept, holds 1 object of others"
    assert (kube.get("v1", "ConfigMap", "theirs", layer) or {})["data"] == {"of": "others", "more": "ours"}


def test_what_is_marked_as_data_is_kept(kube: Kube, layer: str) -> None:
    space = namespace(layer)
    space["metadata"]["annotations"] = {"platformlib.io/data": "true"}
    kube.apply([space], layer=layer)
    assert action(kube.prune(layer, [config_map("default", "x")]), "Namespace", layer) == "kept, data"
    assert reference(space) in kube.inventory(layer), "it stays recorded until it is named"
    assert action(kube.uninstall(layer), "Namespace", layer) == "kept, data"
    assert action(kube.uninstall(layer, delete_data=[layer]), "Namespace", layer) == "deleted"


def test_a_definition_with_instances_of_others_is_kept(kube: Kube, layer: str) -> None:
    objects = [pick(realistic(layer), kind) for kind in ("Namespace", "CustomResourceDefinition", "Widget")]
    kube.apply(objects, layer=layer)
    theirs = deepcopy(objects[2])
    theirs["metadata"] = {"name": "theirs", "namespace": "default"}
    foreign(kube, theirs)
    name = objects[1]["metadata"]["name"]
    removed = kube.uninstall(layer, timeout=60)
    assert action(removed, "CustomResourceDefinition", name) == "kept, has 1 instance of others"
    assert action(removed, "Widget", "one") == "deleted"
    assert kube.api.get(reference(theirs))
    assert action(kube.uninstall(layer, delete_data=[name]), "CustomResourceDefinition", name) == "deleted"


def secret(namespace: str, value: str) -> Object:
    return {
        "apiVersion": "v1", "kind": "Secret", "stringData": {"password": value},
        "metadata": {"name": "root", "namespace": namespace, "annotations": {"platformlib.io/apply": "once"}},
    }  # fmt: skip


def test_a_generated_secret_is_made_once_and_never_compared(kube: Kube, layer: str) -> None:
    kube.apply([namespace(layer), secret(layer, "first")], layer=layer)
    made = kube.get("v1", "Secret", "root", layer)
    other = [namespace(layer), secret(layer, "second")]
    assert set(kube.apply(other, layer=layer, take_ownership=True)["action"]) == {"unchanged"}
    assert kube.diff(other, layer=layer).empty
    assert kube.get("v1", "Secret", "root", layer) == made
    removed = kube.uninstall(layer, timeout=60)
    assert action(removed, "Secret", "root") == "deleted"


def test_two_that_make_the_same_secret_end_with_one(kube: Kube, layer: str) -> None:
    kube.apply([namespace(layer)], layer=layer)
    done: dict[str, str] = {}

    def work(value: str) -> None:
        done[value] = action(kube.apply([secret(layer, value)], layer=layer), "Secret", "root")

    threads = [threading.Thread(target=work, args=(f"value-{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done.values()) == ["created", *["unchanged"] * 5]


def test_a_foreign_secret_is_not_taken_for_the_generated_one(kube: Kube, layer: str) -> None:
    kube.apply([namespace(layer)], layer=layer)
    foreign(kube, {key: value for key, value in secret(layer, "theirs").items() if key != "x"})
    with pytest.raises(KubeError, match=f"Secret {layer}/root"):
        kube.apply([secret(layer, "ours")], layer=layer)


def test_an_exceeded_quota_is_an_error_of_the_dry_run(kube: Kube, layer: str) -> None:
    """Although the set has the namespace, too."""
    quota = {
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": layer},
        "spec": {"hard": {"count/configmaps": "0"}},
    }  # fmt: skip
    kube.apply([namespace(layer), quota], layer=layer)
    kube.wait([quota], timeout=20)
    poll(
        lambda: bool((kube.get("v1", "ResourceQuota", "few", layer) or {}).get("status", {}).get("used")),
        timeout=20, what="the quota is counted",
    )  # fmt: skip
    with pytest.raises(KubeError, match="exceeded quota") as refused:
        kube.apply([namespace(layer), quota, config_map(layer, "one-more")], layer=layer, dry_run=True)
    assert f"raise the quota of the namespace {layer}" in refused.value.fix


def test_replicas_belong_to_the_autoscaler(kube: Kube, layer: str, control_plane: ControlPlane) -> None:
    objects = [pick(realistic(layer), kind) for kind in ("Namespace", "ServiceAccount", "ConfigMap", "Deployment")]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    scaler = {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": layer},
        "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9, "metrics": []},
    }  # fmt: skip
    objects[-1]["spec"]["replicas"] = 3
    kube.apply(objects, layer=layer)
    foreign(kube, scaler)

    def replicas() -> int:
        return int((kube.get("apps/v1", "Deployment", "web", layer) or {})["spec"]["replicas"])

    # Nobody scaled it yet: leaving the field out would reset it to 1.
    assert set(kube.apply(objects, layer=layer)["action"]) == {"unchanged"}
    assert replicas() == 3
    path = f"/apis/apps/v1/namespaces/{layer}/deployments/web/scale"
    control_plane.patch(path, {"spec": {"replicas": 7}}, manager="kube-controller-manager")
    kube.apply(objects, layer=layer)
    assert set(kube.apply(objects, layer=layer)["action"]) == {"unchanged"}
    assert replicas() == 7
    assert kube.diff(objects, layer=layer).empty


def test_two_platforms_on_one_cluster(control_plane: ControlPlane, kube: Kube, layer: str) -> None:
    first, second = (Kube.connect(control_plane.kubeconfig) for _ in range(2))
    first.claim("homelab", "kubeadm")
    try:
        with pytest.raises(WrongCluster):
            second.claim("other", "kubeadm")
        for name, distribution in (("other", "kubeadm"), ("homelab", "existing")):
            second.require(name, distribution)
            with pytest.raises(WrongCluster):
                second.apply([namespace(layer)], layer=layer)
        first.require("homelab", "kubeadm")
        first.apply([namespace(layer)], layer=layer)
    finally:
        assert first.release("homelab")
    assert first.identity() is None
    with pytest.raises(WrongCluster, match="not claimed"):
        first.apply([namespace(layer)], layer=layer)


def test_two_installs_at_once(control_plane: ControlPlane, layer: str) -> None:
    """Two processes apply and prune the same layer, each another version of it: one follows the other."""
    spaces, failed = [namespace(layer)], list[BaseException]()

    def install(version: int) -> None:
        kube = Kube.connect(control_plane.kubeconfig)
        objects = [*spaces, *(config_map(layer, f"v{version}-{number}") for number in range(5))]
        try:
            with kube.lock(layer, timeout=60):
                kube.apply(objects, layer=layer)
                kube.prune(layer, objects)
                assert len(kube.inventory(layer)) == len(objects)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=install, args=(version,)) for version in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert failed == []
    kube = Kube.connect(control_plane.kubeconfig)
    names = {obj["metadata"]["name"] for obj in kube.list("v1", "ConfigMap", layer)} - {"kube-root-ca.crt"}
    assert names == {ref.name for ref in kube.inventory(layer)} - {layer}
    assert len(names) == 5


def test_the_api_server_counts_no_write_of_a_dry_handle(
    control_plane: ControlPlane, kube: Kube, layer: str, tmp_path: Any
) -> None:
    objects = realistic(layer)
    kube.apply(objects[:8], layer=layer)
    dry = Kube.connect(control_plane.write_kubeconfig(tmp_path / "token", {"token": TOKEN}), dry_run=True)
    dry.require("homelab", "k3s")
    before = len(control_plane.audited())
    assert set(dry.apply(objects, layer=layer)["action"]) == {"created", "unchanged"}
    assert not dry.diff(objects, layer=layer).empty
    assert "would delete" in set(dry.prune(layer, objects[:4])["action"])
    assert "would delete" in set(dry.uninstall(layer)["action"])
    dry.claim("homelab", "k3s")
    with dry.lock(layer):
        assert dry.can("create", "pods", layer)
    sent = [(each["verb"], each["requestURI"]) for each in control_plane.audited()[before:]]
    assert len(sent) > 20
    changing = [(verb, uri) for verb, uri in sent if verb not in {"get", "list"} and "dryRun=All" not in uri]
    assert [(verb, uri) for verb, uri in changing if "selfsubjectaccessreviews" not in uri] == []
