"""An API server that is a function: what is sent to it, and what it answers."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import urllib3

from platformlib.kube import Kube
from platformlib.kube.credentials import Credentials
from platformlib.kube.session import Session


@dataclass(frozen=True)
class Sent:
    """One request."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """One answer: JSON, or the bytes of a server that speaks something else."""

    status: int = 200
    body: Any = field(default_factory=dict)

    def response(self) -> urllib3.HTTPResponse:
        """As the pool gives it."""
        raw = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return urllib3.HTTPResponse(io.BytesIO(raw), status=self.status, preload_content=False)


Server = Callable[[Sent], Answer]


class FakePool:
    """Stands where connections are; remembers what was sent."""

    def __init__(self, server: Server) -> None:
        self.server, self.sent = server, list[Sent]()

    def request(self, method: str, url: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """Ask the function; it may raise."""
        parts, body = urlsplit(url), options.get("body")
        sent = Sent(
            method,
            parts.path,
            dict(parse_qsl(parts.query)),
            dict(options["headers"]),
            json.loads(body) if body else None,
        )
        self.sent.append(sent)
        return self.server(sent).response()

    def clear(self) -> None:
        """No connection is open."""


def kubeconfig(folder: Path, user: dict[str, Any], **cluster: Any) -> Path:
    """A kubeconfig of one user."""
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    path.write_text(json.dumps(document))
    return path


def connect(path: Path, server: Server, *, dry_run: bool = False) -> Kube:
    """A connection to a function."""
    return Kube(Session(Credentials.load(path), pool=FakePool(server)), dry_run)


def refusal(status: int, message: str, reason: str = "R") -> Answer:
    """A Status object."""
    return Answer(status, {"kind": "Status", "message": message, "reason": reason})


KINDS = {
    "/api/v1": {
        "ConfigMap": "configmaps", "Namespace": "namespaces", "Pod": "pods", "Event": "events", "Secret": "secrets",
        "PersistentVolumeClaim": "persistentvolumeclaims",
    },
    "/apis/apps/v1": {"StatefulSet": "statefulsets", "Deployment": "deployments"},
    "/apis/apiextensions.k8s.io/v1": {"CustomResourceDefinition": "customresourcedefinitions"},
    "/apis/coordination.k8s.io/v1": {"Lease": "leases"},
    "/apis/authorization.k8s.io/v1": {"SelfSubjectAccessReview": "selfsubjectaccessreviews"},
}  # fmt: skip
CLUSTER_WIDE = frozenset({"Namespace", "CustomResourceDefinition", "SelfSubjectAccessReview"})
Object = dict[str, Any]


class MemoryServer:
    """Keeps objects by their path, as an API server does: versions, uids, conflicts, dry runs, preconditions."""

    def __init__(self, *objects: Object) -> None:
        self.objects: dict[str, Object] = {}
        self.number = 0
        for obj in objects:
            self.put(obj)

    def put(self, obj: Object) -> None:
        """Keep an object that was there before."""
        self._keep(self.path(obj), obj)

    @staticmethod
    def path(obj: Object) -> str:
        """Where an object is."""
        root = f"/apis/{obj['apiVersion']}" if "/" in obj["apiVersion"] else f"/api/{obj['apiVersion']}"
        namespace, name = obj["metadata"].get("namespace"), obj["metadata"]["name"]
        return f"{root}{f'/namespaces/{namespace}' if namespace else ''}/{KINDS[root][obj['kind']]}/{name}"

    def __call__(self, sent: Sent) -> Answer:
        """Answer one request."""
        if sent.path in KINDS:
            return Answer(200, {"resources": list(self._resources(sent.path))})
        if sent.path.endswith("accessreviews"):
            return Answer(200, {"status": {"allowed": True}})
        answer: Answer = getattr(self, f"_{sent.method.lower()}")(sent)
        return answer

    @staticmethod
    def _resources(root: str) -> Iterator[dict[str, Any]]:
        for kind, plural in KINDS[root].items():
            yield {"name": plural, "kind": kind, "namespaced": kind not in CLUSTER_WIDE, "verbs": ["list", "delete"]}

    def _get(self, sent: Sent) -> Answer:
        if sent.path in self.objects:
            return Answer(200, self.objects[sent.path])
        if sent.path.endswith("/log"):
            return Answer(200, b"a line")
        if sent.path == "/apis":
            return Answer(200, {"groups": []})
        if not any(sent.path.endswith(f"/{plural}") for kinds in KINDS.values() for plural in kinds.values()):
            return (
                refusal(404, "not found", "NotFound")
                if sent.path.startswith("/api")
                else Answer(200, {"gitVersion": "v1"})
            )
        label, _, value = sent.params.get("labelSelector", "").partition("=")
        plural = sent.path.rsplit("/", 1)[1]
        inside = sent.path.rsplit("/", 1)[0]
        items = [
            obj
            for path, obj in self.objects.items()
            if path.startswith(inside) and path.split("/")[-2] == plural
            if not label or (obj["metadata"].get("labels") or {}).get(label) == value
        ]
        return Answer(200, {"items": items or None, "metadata": {}})

    def _post(self, sent: Sent) -> Answer:
        if "name" not in (sent.body.get("metadata") or {}):
            return Answer(201, {})
        path = f"{sent.path}/{sent.body['metadata']['name']}"
        if path in self.objects:
            return refusal(409, "already exists", "AlreadyExists")
        return self._write(sent, path, sent.body)

    def _put(self, sent: Sent) -> Answer:
        live = self.objects.get(sent.path)
        if live is None:
            return refusal(404, "not found", "NotFound")
        version = sent.body["metadata"].get("resourceVersion")
        if version not in {None, live["metadata"]["resourceVersion"]}:
            return refusal(409, "the object has been modified", "Conflict")
        return self._write(sent, sent.path, sent.body)

    def _patch(self, sent: Sent) -> Answer:
        live = self.objects.get(sent.path, {"metadata": {}})
        metadata = {**live["metadata"], **(sent.body.get("metadata") or {})}
        return self._write(sent, sent.path, {**live, **sent.body, "metadata": metadata})

    def _delete(self, sent: Sent) -> Answer:
        live = self.objects.get(sent.path)
        if live is None:
            return refusal(404, "not found", "NotFound")
        wanted = (sent.body or {}).get("preconditions") or {}
        if any(live["metadata"][key] != value for key, value in wanted.items()):
            return refusal(409, "the precondition does not hold", "Conflict")
        if sent.params.get("dryRun") != "All":
            del self.objects[sent.path]
        return Answer(200, {"kind": "Status"})

    def _write(self, sent: Sent, path: str, obj: Object) -> Answer:
        return Answer(200, obj if sent.params.get("dryRun") == "All" else self._keep(path, obj))

    def _keep(self, path: str, obj: Object) -> Object:
        self.number += 1
        uid = (self.objects.get(path) or {"metadata": {}})["metadata"].get("uid") or f"uid-{self.number}"
        about = {"uid": uid, "resourceVersion": str(self.number)}
        self.objects[path] = {**obj, "metadata": {**obj["metadata"], **about}}
        return self.objects[path]


def config_map(name: str, namespace: str = "shop", layer: str = "", data: dict[str, str] | None = None) -> Object:
    """A ConfigMap, of a layer or of nobody."""
    about: Object = {"name": name, "namespace": namespace}
    labels = {"labels": {"platformlib.io/layer": layer}} if layer else {}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about | labels, "data": data or {}}
