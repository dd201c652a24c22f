"""Which platform a cluster belongs to: a name, the cluster's UID and its distribution, kept in both places.

In the cluster they stand in the ConfigMap kube-system/platformlib, on this machine in `state_dir(name)/identity.json`.
The UID is that of the namespace kube-system, which lives exactly as long as its cluster.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Lock

from platformlib.errors import ApiError, KubeError, WrongCluster
from platformlib.kube.api import Api
from platformlib.kube.objects import MANAGER, Object, Reference, prepared
from platformlib.kube.session import CONFLICT
from platformlib.paths import state_dir

MARK = Reference("v1", "ConfigMap", "kube-system", "platformlib")
HOME = Reference("v1", "Namespace", "", "kube-system")
FRESH = 5.0  # seconds for which one check serves all writes of a verb


@dataclass(frozen=True)
class Identity:
    """What a cluster is marked with. Marks of older versions have a name alone: `uid` and `distribution` are empty."""

    name: str
    uid: str = ""
    distribution: str = ""

    def __str__(self) -> str:
        return f"{self.name!r} ({self.distribution or 'no distribution'}, uid {self.uid or 'not recorded'})"


def identity(api: Api) -> Identity | None:
    """What the cluster is marked with, or None."""
    return _identity(api.get(MARK))


def _identity(mark: Object | None) -> Identity | None:
    data = (mark or {}).get("data") or {}
    name = data.get("name")
    return Identity(str(name), str(data.get("uid", "")), str(data.get("distribution", ""))) if name else None


def cluster_uid(api: Api) -> str:
    """The UID of the namespace kube-system. Raises: KubeError when the server does not tell it."""
    uid = ((api.get(HOME) or {}).get("metadata") or {}).get("uid")
    if not uid:
        raise KubeError("the API server does not tell the UID of the namespace kube-system")
    return str(uid)


def claim(api: Api, name: str, distribution: str) -> None:
    """See `Kube.claim`. Created by POST: of two installs at once, one loses and is told so."""
    wanted = Identity(name, cluster_uid(api), distribution)
    _refuse_another_home(api, wanted)
    live = api.get(MARK)
    found = _identity(live)
    if found is None or found == Identity(name) or found == Identity(name, wanted.uid):
        found = _mark(api, live, wanted)
    if found != wanted:
        raise _wrong(api, wanted, found)
    remember(wanted)


def _mark(api: Api, live: Object | None, wanted: Identity) -> Identity | None:
    """Write the mark, or complete one of an older version; returns what stands there then, whoever wrote it."""
    own = {"apiVersion": "v1", "kind": MARK.kind, "metadata": {"name": MARK.name, "namespace": MARK.namespace}}
    mark = prepared({**own, "data": asdict(wanted)}, None)
    try:
        if live is None:
            api.create(mark)
        else:
            mark["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
            api.call("PUT", MARK, body=mark, fieldManager=MANAGER)
    except ApiError as error:
        if error.status != CONFLICT:
            raise
    return identity(api)


def release(api: Api, name: str) -> bool:
    """See `Kube.release`."""
    live = api.get(MARK)
    found = _identity(live)
    if live is None or found is None:
        return False
    if found.name != name or found.uid not in {"", cluster_uid(api)}:
        raise _wrong(api, Identity(name, cluster_uid(api), found.distribution), found)
    gone = api.delete(MARK, uid=live["metadata"].get("uid"))
    forget(name)
    return gone


def verify(api: Api, name: str, distribution: str, *, unclaimed: bool = False) -> None:
    """Return only if the cluster is the platform's. An answer that does not come is an error, too.

    Args:
        unclaimed: accept a cluster that has no mark.

    Raises:
        WrongCluster: it carries another platform, another distribution, or is not claimed. KubeError: no answer.
    """
    found, wanted = identity(api), Identity(name, cluster_uid(api), distribution)
    if found is None and unclaimed:
        return
    if found != wanted:
        raise _wrong(api, wanted, found)
    _refuse_another_home(api, wanted)
    if not api.session.dry_run and recall(name) is None:
        remember(wanted)


class Guard:
    """Verifies the cluster before a write; one verification serves the writes of the next seconds."""

    def __init__(self, api: Callable[[], Api], name: str, distribution: str) -> None:
        self._api, self.name, self.distribution = api, name, distribution
        self._lock, self._verified, self._credentials = Lock(), float("-inf"), object()

    def __call__(self) -> None:
        """Raises: WrongCluster, KubeError."""
        with self._lock:
            # Credentials that were read again may lead elsewhere; they are another object then.
            same = self._credentials is self._api().session.credentials
            if not same or time.monotonic() - self._verified > FRESH:
                self.verify(unclaimed=False)

    def verify(self, *, unclaimed: bool) -> None:
        """Verify now. Raises: WrongCluster, KubeError."""
        api = self._api()
        credentials = api.session.credentials
        verify(api, self.name, self.distribution, unclaimed=unclaimed)
        if not unclaimed:
            self._verified, self._credentials = time.monotonic(), credentials


def _wrong(api: Api, wanted: Identity, found: Identity | None) -> WrongCluster:
    own = api.session.credentials
    where = f"{own.server} (context {own.context} of {own.path})"
    if found is None:
        message = f"{where} is not claimed by the platform {wanted.name!r}"
        return WrongCluster(message, fix="run `platformlib claim`, or the install runbook, which claims it first")
    message = f"{where} carries the platform {found}, not {wanted}"
    if found.name != wanted.name:
        return WrongCluster(message, fix=f"give the kubeconfig of {wanted.name!r}, or the parameters of {found.name!r}")
    if found.uid and found.uid != wanted.uid:
        fix = f"the mark was copied from another cluster; if that is meant, delete {MARK}, then claim the cluster"
        return WrongCluster(message, fix=fix)
    if not found.uid or not found.distribution:
        fix = "the mark is of an older version: run `platformlib claim`, which completes it"
        return WrongCluster(message, fix=fix)
    fix = f"set cluster.distribution to {found.distribution!r}; a platform is never moved to another distribution"
    return WrongCluster(message, fix=fix)


def _path(name: str) -> Path:
    return state_dir(name) / "identity.json"


def remember(identity: Identity) -> None:
    """Keep it on this machine; a killed run leaves the old file or the new one."""
    path = _path(identity.name)
    with NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False, encoding="utf-8") as file:
        json.dump(asdict(identity), file)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)


def recall(name: str) -> Identity | None:
    """What this machine remembers of the platform `name`. Raises: KubeError for a file that cannot be read."""
    path = _path(name)
    try:
        return Identity(**json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise KubeError(
            f"{path}: {error}", fix="restore the file, or remove it if the cluster is the right one"
        ) from None


def forget(name: str) -> None:
    """Remove what this machine remembers: the cluster is gone, or given up."""
    _path(name).unlink(missing_ok=True)


def _refuse_another_home(api: Api, wanted: Identity) -> None:
    """A platform lives on one cluster: another one is a wrong kubeconfig, or the cluster was built anew."""
    known = recall(wanted.name)
    if known is None or known.uid == wanted.uid:
        return
    own = api.session.credentials
    fix = f"give the right kubeconfig; if the old cluster is gone for good, remove {_path(wanted.name)}"
    raise WrongCluster(
        f"{own.server} (context {own.context}) is not the cluster of the platform {wanted.name!r}: "
        f"its uid is {wanted.uid}, the platform's was {known.uid} so far",
        fix=fix,
    )
