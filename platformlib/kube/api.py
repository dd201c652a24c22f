"""The verbs of the Kubernetes API on plain dicts; one builder makes every request."""

from copy import copy
from typing import Any

from platformlib.errors import ApiError, KubeError
from platformlib.kube.discovery import NOT_FOUND, Discovery, root
from platformlib.kube.objects import MANAGER, Object, Objects, Reference, reference
from platformlib.kube.session import Session

APPLY = "application/apply-patch+yaml"  # JSON is YAML
PAGE = 500  # objects of one list request
DEPENDENTS_FIRST = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"})


class Api:
    """Get, list, apply, create, delete. Errors are `ApiError` (refused) or `KubeError` (no answer)."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.discovery = Discovery(session)

    def hurried(self, patience: float) -> "Api":
        """The same server, with `patience` seconds of retries."""
        twin = copy(self)
        twin.session = self.session.hurried(patience)
        return twin

    def call(self, method: str, ref: Reference, *, subresource: str = "", body: Any = None, **options: Any) -> Any:
        """One request to an object, or to its collection when the reference has no name.

        Raises:
            ApiError: with the object's name in front of the server's message.
        """
        path = self.path(ref) + (f"/{subresource}" if subresource else "")
        content = options.pop("content", "application/json")
        try:
            return self.session.request(method, path, params=options, body=body, content=content)
        except ApiError as error:
            message = f"{ref}: {error.message}"
            raise ApiError(
                message, status=error.status, reason=error.reason, causes=error.causes, fix=error.fix
            ) from None

    def path(self, ref: Reference) -> str:
        """The REST path. Raises: KubeError when a namespaced object has no namespace."""
        resource = self.discovery.resource(ref.api_version, ref.kind)
        if resource.namespaced and ref.name and not ref.namespace:
            raise KubeError(f"{ref} has no namespace", fix="set metadata.namespace")
        scope = f"/namespaces/{ref.namespace}" if resource.namespaced and ref.namespace else ""
        return f"{root(ref.api_version)}{scope}/{resource.plural}" + (f"/{ref.name}" if ref.name else "")

    def get(self, ref: Reference) -> Object | None:
        """The live object, or None."""
        try:
            found: Object = self.call("GET", ref).json()
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return found

    def list(self, api_version: str, kind: str, namespace: str = "", **selectors: str | None) -> Objects:
        """Every object of a kind, page by page; `labelSelector` and `fieldSelector` narrow it."""
        collection, token = Reference(api_version, kind, namespace, ""), None
        found: Objects = []
        while True:
            options: dict[str, Any] = {"limit": str(PAGE), "continue": token, **selectors}
            page = self.call("GET", collection, **options).json()
            # Items of a list come without their kind.
            found += [{"apiVersion": api_version, "kind": kind, **item} for item in page["items"]]
            token = page["metadata"].get("continue")
            if not token:
                return found

    def apply(self, obj: Object, *, force: bool, dry_run: bool = False) -> Object:
        """Server-side apply; unknown fields are refused. Returns the object as the server has it."""
        ref = reference(obj)
        if not self.discovery.resource(ref.api_version, ref.kind).namespaced:
            obj = {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "namespace"}}
        options = {"fieldManager": MANAGER, "force": str(force).lower(), "fieldValidation": "Strict"}
        dry = {"dryRun": "All"} if dry_run else {}
        answer: Object = self.call("PATCH", ref, body=obj, content=APPLY, **options, **dry).json()
        return answer

    def create(self, obj: Object) -> Object:
        """Create by POST: fails with status 409 when it is there, so that one of two wins."""
        ref = reference(obj)
        collection = Reference(ref.api_version, ref.kind, ref.namespace, "")
        created: Object = self.call("POST", collection, body=obj, fieldManager=MANAGER).json()
        return created

    def delete(self, ref: Reference) -> bool:
        """Ask for its deletion; False when it was not there. Workloads stay until their pods are gone."""
        policy = "Foreground" if ref.kind in DEPENDENTS_FIRST else "Background"
        try:
            self.call("DELETE", ref, body={"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy})
        except ApiError as error:
            if error.status == NOT_FOUND:
                return False
            raise
        return True
