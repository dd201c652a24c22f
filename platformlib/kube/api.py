"""The verbs of the Kubernetes API on plain dicts: discovery finds a kind's path, one builder makes all requests."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.parse import quote

from platformlib.errors import ApiError, KubeError
from platformlib.kube.objects import MANAGER, Object, Objects, Reference, reference
from platformlib.kube.session import GONE, NOT_FOUND, Response, Session

APPLY = "application/apply-patch+yaml"  # JSON is YAML
PAGE = 500  # objects of one list request
LIST_ATTEMPTS = 5  # starts of a list whose later pages the server no longer has
DEPENDENTS_FIRST = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"})


class UnknownKindError(KubeError):
    """The server does not know this kind: its CustomResourceDefinition is not there, or not yet."""


@dataclass(frozen=True)
class Resource:
    """What discovery says of one kind."""

    plural: str
    namespaced: bool
    verbs: frozenset[str] = frozenset()


class Discovery:
    """Which REST path serves a kind: asked once for each API version, and again when a kind is missing."""

    def __init__(self, session: Session) -> None:
        self._session, self._lock = session, Lock()
        self._known: dict[str, dict[str, Resource]] = {}

    def resource(self, api_version: str, kind: str) -> Resource:
        """Raises: UnknownKindError."""
        found = self._known.get(api_version, {}).get(kind)
        if found is None:
            with self._lock:
                known = self._known.get(api_version, {})
                found = known.get(kind) or self._refresh(api_version).get(kind)
        if found is None:
            fix = "apply its CustomResourceDefinition first, or correct apiVersion and kind"
            raise UnknownKindError(f"the cluster has no kind {kind} in {api_version}", fix=fix)
        return found

    def knows(self, api_version: str, kind: str) -> bool:
        """Whether the server serves this kind now."""
        try:
            self.resource(api_version, kind)
        except UnknownKindError:
            return False
        return True

    def kinds(self, api_version: str) -> dict[str, Resource]:
        """Every kind that the server serves in an API version, asked now."""
        with self._lock:
            return self._refresh(api_version)

    def _refresh(self, api_version: str) -> dict[str, Resource]:
        try:
            listed = self._session.request("GET", root(api_version)).object().get("resources") or []
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            listed = []
        # "pods/log" and the like are subresources: they have the kind of another.
        own = [entry for entry in listed if "/" not in entry["name"]]
        self._known[api_version] = {
            entry["kind"]: Resource(entry["name"], bool(entry["namespaced"]), frozenset(entry.get("verbs") or ()))
            for entry in own
        }
        return self._known[api_version]


def root(api_version: str) -> str:
    """`/api/v1` or `/apis/<group>/<version>`."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


class Api:
    """Get, list, apply, create, delete. Errors are `ApiError` (refused) or `KubeError` (no answer)."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.discovery = Discovery(session)

    def with_retry_timeout(self, seconds: float) -> "Api":
        """The same server, with requests that are repeated for `seconds` at most."""
        return self._twin(self.session.with_retry_timeout(seconds))

    def with_guards(self, guards: tuple[Callable[[], None], ...]) -> "Api":
        """The same server, with other guards of its writes."""
        return self._twin(self.session.with_guards(guards))

    def _twin(self, session: Session) -> "Api":
        twin = copy(self)
        twin.session = session
        return twin

    def call(self, method: str, ref: Reference, *, subresource: str = "", body: Any = None, **options: Any) -> Response:
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
        scope = f"/namespaces/{quote(ref.namespace, '')}" if resource.namespaced and ref.namespace else ""
        return f"{root(ref.api_version)}{scope}/{resource.plural}" + (f"/{quote(ref.name, '')}" if ref.name else "")

    def namespaced_kinds(self) -> list[tuple[str, str]]:
        """apiVersion and kind of everything that can be listed and deleted in a namespace, each kind once.

        Raises:
            KubeError: an aggregated API does not answer, so nobody knows what it holds.
        """
        groups = self.session.request("GET", "/apis").json()["groups"]
        versions = ["v1", *(each["preferredVersion"]["groupVersion"] for each in groups)]
        return [
            (version, kind)
            for version in versions
            for kind, resource in self.discovery.kinds(version).items()
            if resource.namespaced and {"list", "delete"} <= resource.verbs
        ]

    def get(self, ref: Reference) -> Object | None:
        """The live object, or None."""
        try:
            found: Object = self.call("GET", ref).object()
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return found

    def list(self, api_version: str, kind: str, namespace: str = "", **selectors: str | None) -> Objects:
        """Every object of a kind, page by page; `labelSelector` and `fieldSelector` narrow it.

        The server forgets the version that it pages through after some minutes; the list is started again then.
        """
        for attempt in range(1, LIST_ATTEMPTS + 1):
            try:
                return self._pages(Reference(api_version, kind, namespace, ""), selectors)
            except ApiError as error:
                if error.status != GONE or attempt == LIST_ATTEMPTS:
                    raise
        raise AssertionError("a list ends by an answer or an error")

    def _pages(self, collection: Reference, selectors: dict[str, str | None]) -> Objects:
        kind, token = {"apiVersion": collection.api_version, "kind": collection.kind}, None
        found: Objects = []
        while True:
            options: dict[str, Any] = {"limit": str(PAGE), "continue": token, **selectors}
            page = self.call("GET", collection, **options).object()
            # Items of a list come without their kind; an empty list may come as null.
            found += [{**kind, **item} for item in page.get("items") or []]
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return found

    def apply(self, obj: Object, *, force: bool, dry_run: bool = False) -> Object:
        """Server-side apply; unknown fields are refused. Returns the object as the server has it."""
        ref = reference(obj)
        if not self.discovery.resource(ref.api_version, ref.kind).namespaced:
            obj = {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "namespace"}}
        options = {"fieldManager": MANAGER, "force": str(force).lower(), "fieldValidation": "Strict"}
        dry = {"dryRun": "All"} if dry_run else {}
        return self.call("PATCH", ref, body=obj, content=APPLY, **options, **dry).object()

    def create(self, obj: Object) -> Object:
        """Create by POST: fails with status 409 when it is there, so that one of two wins."""
        ref = reference(obj)
        collection = Reference(ref.api_version, ref.kind, ref.namespace, "")
        return self.call("POST", collection, body=obj, fieldManager=MANAGER).object()

    def delete(self, ref: Reference, *, uid: str | None = None, policy: str | None = None) -> bool:
        """Ask for its deletion; False when it was not there. Workloads stay until their pods are gone.

        Args:
            uid: delete only this incarnation of the object; another one is refused with status 409.
            policy: what happens to dependents: Foreground, Background or Orphan.
        """
        policy = policy or ("Foreground" if ref.kind in DEPENDENTS_FIRST else "Background")
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self.call("DELETE", ref, body=body)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return False
            raise
        return True
