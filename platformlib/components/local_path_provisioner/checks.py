"""A claim without a class gets a volume that keeps what is written to it, whoever provides it."""

from uuid import uuid4

from platformlib.checks import Check, Found
from platformlib.components import proving
from platformlib.components.proving import Context, Object
from platformlib.kube.objects import DATA

NAME = "platformlib-probe-volume"
WITHIN = 120  # seconds for each of the two pods
DEFAULT = "storageclass.kubernetes.io/is-default-class"


def checks(context: Context) -> list[Check]:
    """Default class, and a volume in use."""
    return [
        Check(
            "default storage class",
            "exactly one",
            f"mark one StorageClass with the annotation {DEFAULT}, and no other",
            lambda: _default(context),
        ),
        Check(
            "volume",
            "one pod writes to a new claim, a second reads it back",
            "kubectl describe pvc; kubectl -n storage logs deploy/local-path-provisioner",
            lambda: _volume(context, uuid4().hex),
            anytime=True,
        ),
    ]


def _default(context: Context) -> Found:
    classes = context.kube.list("storage.k8s.io/v1", "StorageClass")
    names = [each["metadata"]["name"] for each in classes if _marked(each)]
    return len(names) == 1, ", ".join(names) or "none"


def _marked(each: Object) -> bool:
    return (each["metadata"].get("annotations") or {}).get(DEFAULT) == "true"


def _volume(context: Context, text: str) -> Found:
    # What a probe writes may go: other claims are kept when their layer is uninstalled.
    metadata = {**proving.meta(NAME), "annotations": {DATA: "false"}}
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata,
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
    }  # fmt: skip
    write = _job("write", 'echo "$TEXT" > /data/probe && sync', text)
    read = _job("read", 'test "$(cat /data/probe)" = "$TEXT"', text)
    with proving.alone(context.kube, "volume") as name:
        for each in (write, read):
            context.kube.apply([claim, each], layer=name)
            context.kube.wait([each], timeout=WITHIN)
        return True, _kind(context)


def _job(verb: str, script: str, text: str) -> Object:
    volumes: dict[str, Object] = {"data": {"persistentVolumeClaim": {"claimName": NAME}}}
    name = f"{NAME}-{verb}"
    return proving.job(name, proving.pod(name, script, {"TEXT": text}, volumes), seconds=WITHIN)


def _kind(context: Context) -> str:
    """What sort of volume the claim got: backups can tell `local` from `hostPath`."""
    volumes = context.kube.list("v1", "PersistentVolume")
    own = (each["spec"] for each in volumes if (each["spec"].get("claimRef") or {}).get("name") == NAME)
    spec: Object = next(own, {})
    kind = next((kind for kind in ("local", "hostPath", "csi", "nfs") if kind in spec), "other")
    return f"written and read back, {kind} volume of class {spec.get('storageClassName')}"
