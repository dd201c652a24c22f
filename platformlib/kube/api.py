"""The verbs of the Kubernetes API on plain dicts: discovery finds a kind's path, one builder makes all requests."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.parse import quote

from platformlib.errors import ApiError, KubeError
from platformlib.kube.batch import combine_errors, each
from platformlib.kube.objects import MANAGER, Object, Objects, Reference, reference
from platformlib.kube.session import GONE, JSON, NOT_FOUND, Response, Session

APPLY = "application/apply-patch+yaml"  # JSON is YAML
PAGE = 500  # objects of one list request
LIST_FROM = 8  # objects of a kind from which on a list is cheaper than asking for each
LIST_WASTE = 20  # objects that a list may read for each that is wanted
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
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

    def with_session(self, session: Session) -> "Discovery":
        """The same knowledge, asked by another session."""
        twin = copy(self)
        twin._session = session
        return twin

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

    def deletable(self) -> list[tuple[str, str]]:
        """Version and kind of everything in namespaces that can be listed and deleted, asked now."""
        groups = self._session.request("GET", "/apis").object().get("groups") or []
        versions = ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]
        found, failed = each(lambda version: (version, self._refresh(version)), versions)
        if failed:
            raise combine_errors(failed, heading=f"{len(failed)} API versions do not answer")
        return [
            (version, kind)
            for version, kinds in found
            for kind, resource in kinds.items()
            if resource.namespaced and {"list", "delete"} <= resource.verbs
        ]

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


def _checked(item: Any, ref: Reference) -> Object:
    """What a server calls an object, if it is one. Raises: KubeError."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise KubeError(f"the server answers with a {ref.kind} that has no name")
    found: Object = item
    return found


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
        twin.session, twin.discovery = session, self.discovery.with_session(session)
        return twin

    def call(self, method: str, ref: Reference, *, subresource: str = "", body: Any = None, **options: Any) -> Response:
        """One request to an object, or to its collection when the reference has no name.

        Raises:
            ApiError: with the object's name in front of the server's message.
        """
        path = self.path(ref) + (f"/{subresource}" if subresource else "")
        how = {key: options.pop(key) for key in ("content", "accept") if key in options}
        try:
            return self.session.request(method, path, params=options, body=body, **how)
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

    def get(self, ref: Reference) -> Object | None:
        """The live object, or None."""
        try:
            found = _checked(self.call("GET", ref).object(), ref)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return found

    def list(self, api_version: str, kind: str, namespace: str = "", **selectors: str | None) -> Objects:
        """Every object of a kind, page by page; `labelSelector` and `fieldSelector` narrow it.

        The server forgets the version that it pages through after some minutes; the list is started again then.
        """
        found = self._list(Reference(api_version, kind, namespace, ""), selectors)
        return found if found is not None else []

    def list_metadata(self, api_version: str, kind: str, namespace: str = "", **selectors: str | None) -> Objects:
        """As `list`, but apiVersion, kind and metadata of each object alone."""
        found = self._list(Reference(api_version, kind, namespace, ""), selectors, accept=METADATA)
        return found if found is not None else []

    def _list(
        self, collection: Reference, selectors: Mapping[str, str | None], *, accept: str = JSON, most: int | None = None
    ) -> Objects | None:
        """None when there are more than `most`."""
        for attempt in range(1, LIST_ATTEMPTS + 1):
            try:
                return self._pages(collection, selectors, accept, most)
            except ApiError as error:
                if error.status != GONE or attempt == LIST_ATTEMPTS:
                    raise
        raise AssertionError("a list ends by an answer or an error")

    def _pages(
        self, collection: Reference, selectors: Mapping[str, str | None], accept: str, most: int | None
    ) -> Objects | None:
        kind, token = {"apiVersion": collection.api_version, "kind": collection.kind}, None
        found: Objects = []
        while True:
            options: dict[str, Any] = {"limit": str(PAGE), "continue": token, **selectors}
            page = self.call("GET", collection, accept=accept, **options).object()
            about = page.get("metadata") or {}
            # An empty list may come as null. Items come without their kind, or with that of their metadata.
            found += [{**_checked(item, collection), **kind} for item in page.get("items") or []]
            if most is not None and len(found) + int(about.get("remainingItemCount") or 0) > most:
                return None
            token = about.get("continue")
            if not token:
                return found

    def get_many(self, refs: Iterable[Reference]) -> dict[Reference, Object]:
        """The live ones among many objects. Many of a kind are listed, few are asked for one by one."""
        groups: dict[tuple[str, str, str], list[Reference]] = {}
        for ref in refs:
            groups.setdefault((ref.api_version, ref.kind, ref.namespace), []).append(ref)
        found, left = dict[Reference, Object](), list[Reference]()
        for group in groups.values():
            listed = self._listed(group) if len(group) >= LIST_FROM else None
            if listed is None:
                left += group
            else:
                found |= listed
        live, failed = each(lambda ref: (ref, self.get_if_known(ref)), left)
        if failed:
            raise combine_errors(failed, heading=f"{len(failed)} objects cannot be read")
        return found | {ref: obj for ref, obj in live if obj}

    def _listed(self, group: Sequence[Reference]) -> dict[Reference, Object] | None:
        """From one list; None when it would read many more than are wanted, or the kind is not known."""
        first, wanted = group[0], {ref.name: ref for ref in group}
        try:
            if self.discovery.resource(first.api_version, first.kind).namespaced and not first.namespace:
                return None
            collection = Reference(first.api_version, first.kind, first.namespace, "")
            objects = self._list(collection, {}, most=LIST_WASTE * len(group))
        except UnknownKindError:
            return {}
        if objects is None:
            return None
        return {wanted[name]: obj for obj in objects if (name := obj["metadata"]["name"]) in wanted}

    def get_if_known(self, ref: Reference) -> Object | None:
        """None as well when the server does not know its kind."""
        try:
            return self.get(ref)
        except UnknownKindError:
            return None

    def apply(self, obj: Object, *, force: bool, dry_run: bool = False) -> Object:
        """Server-side apply; unknown fields are refused. Returns the object as the server has it."""
        ref = reference(obj)
        if not self.discovery.resource(ref.api_version, ref.kind).namespaced:
            obj = {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "namespace"}}
        options = {"fieldManager": MANAGER, "force": str(force).lower(), "fieldValidation": "Strict"}
        dry = {"dryRun": "All"} if dry_run else {}
        return _checked(self.call("PATCH", ref, body=obj, content=APPLY, **options, **dry).object(), ref)

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
