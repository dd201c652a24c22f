"""Which REST path serves a kind: asked of the server once for each API version, and again when a kind is missing."""

from dataclasses import dataclass
from threading import Lock

from platformlib.errors import ApiError, KubeError
from platformlib.kube.session import Session

NOT_FOUND = 404


class UnknownKindError(KubeError):
    """The server does not know this kind: its CustomResourceDefinition is not there, or not yet."""


@dataclass(frozen=True)
class Resource:
    """What discovery says of one kind."""

    plural: str
    namespaced: bool


class Discovery:
    """A cache that a miss refreshes, so that a definition that was just applied is found."""

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

    def _refresh(self, api_version: str) -> dict[str, Resource]:
        try:
            listed = self._session.request("GET", root(api_version)).json().get("resources") or []
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            listed = []
        # "pods/log" and the like are subresources: they have the kind of another.
        own = [entry for entry in listed if "/" not in entry["name"]]
        self._known[api_version] = {entry["kind"]: Resource(entry["name"], bool(entry["namespaced"])) for entry in own}
        return self._known[api_version]


def root(api_version: str) -> str:
    """`/api/v1` or `/apis/<group>/<version>`."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
