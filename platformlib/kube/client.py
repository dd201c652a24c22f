"""The facade: everything that the platform asks of a Kubernetes API."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformlib.kube import apply as applying
from platformlib.kube import deletion, identity, inventory, lease
from platformlib.kube import diff as differing
from platformlib.kube import events as eventful
from platformlib.kube import wait as waiting
from platformlib.kube.api import Api
from platformlib.kube.batch import OnEvent
from platformlib.kube.credentials import Credentials
from platformlib.kube.identity import Identity
from platformlib.kube.objects import Object, Objects, Reference, reference
from platformlib.kube.session import ServiceRoute, Session

if TYPE_CHECKING:
    import pandas as pd

References = list[Reference]


class Kube:
    """One cluster. Every request has a timeout, and is repeated for a while when the control plane restarts.

    Args:
        session: the connection.
        dry_run: refuse every write. `apply`, `prune` and `uninstall` then return what they would do.
    """

    def __init__(self, session: Session, dry_run: bool = False) -> None:
        session.dry_run = session.dry_run or dry_run
        session.guards = (lease.check, *session.guards)
        self.api = Api(session)
        self._guard: identity.Guard | None = None

    @classmethod
    def connect(cls, kubeconfig: Path, context: str | None = None, *, dry_run: bool = False) -> "Kube":
        """Read a kubeconfig; nothing is asked of the server yet.

        Raises:
            KubeError: no such file or context, or broken credentials.
        """
        return cls(Session(Credentials.load(Path(kubeconfig).expanduser(), context)), dry_run)

    @property
    def dry_run(self) -> bool:
        """Whether this handle refuses every write."""
        return self.api.session.dry_run

    @cached_property
    def api_client(self) -> Any:
        """A `kubernetes.client.ApiClient` for code that speaks the official package, under the same dry run and checks.

        Example:
            from kubernetes.client import CoreV1Api
            CoreV1Api(kube.api_client).list_namespaced_pod("default")
        """
        from platformlib.kube.official import GuardedClient

        return GuardedClient(self.api.session)

    def __repr__(self) -> str:
        own = self.api.session.credentials
        return f"Kube({own.server}, context={own.context!r}, user={own.user!r})"

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self.api.session.credentials.server

    def version(self) -> str:
        """The server's version, such as v1.35.4."""
        return str(self.api.session.request("GET", "/version").json()["gitVersion"])

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """The live object, or None."""
        return self.api.get(Reference(api_version, kind, namespace or "", name))

    def list(
        self, api_version: str, kind: str, namespace: str | None = None, label_selector: str | None = None
    ) -> Objects:
        """Every object of a kind, in one namespace or in all."""
        return self.api.list(api_version, kind, namespace or "", labelSelector=label_selector)

    def apply(
        self,
        objects: Sequence[Object],
        *,
        layer: str,
        adopt: Collection[str] = frozenset(),
        expected: Sequence[Object] = (),
        dry_run: bool = False,
        take_ownership: bool = False,
        on_event: OnEvent | None = None,
    ) -> "pd.DataFrame":
        """Server-side apply as field manager `platformlib`, in order of kinds, recorded in the layer's inventory.

        The server's dry run plans all objects first: a conflict or a bad object refuses the whole set before anything
        is changed. Unchanged objects are not sent again.

        Args:
            objects: what the layer consists of. An annotation `platformlib.io/apply: once` creates an object when it is
                absent and never compares it; replicas that an autoscaler manages are left to it.
            layer: the inventory that records the objects.
            adopt: live objects that no platform applied and that may be taken over, such as "Namespace/shop" or
                "ConfigMap/shop/web". Others refuse the set. `prune` and `uninstall` never delete adopted objects.
            expected: what a dry run may rely on before it is there: namespaces and definitions of earlier layers.
            dry_run: only plan; a dry handle always does.
            take_ownership: overwrite fields that another field manager owns. `diff` shows them.
            on_event: called after each change.

        Returns:
            A row for each object, in order of applying. Columns:
                kind, namespace, name: the object.
                action: created, configured or unchanged; of a claim that grows with its StatefulSet, expanded ("would
                    expand" when only planned) or "kept, " and the reason.

        Raises:
            ApplyConflict: another field manager owns a field.
            KubeError: an object is not ours, a volume would shrink, or the server refuses an object.
            WrongCluster: the cluster is not the required platform's.

        Example:
            kube.apply(parse(text), layer="storage")
        """
        self._verify()
        return applying.apply(
            self.api,
            objects,
            layer=layer,
            adopt=adopt,
            expected=expected,
            dry_run=dry_run or self.dry_run,
            take_ownership=take_ownership,
            on_event=on_event,
        )

    def diff(
        self, objects: Sequence[Object], *, layer: str | None = None, expected: Sequence[Object] = ()
    ) -> "pd.DataFrame":
        """What applying with `take_ownership` would change. Changes nothing.

        Args:
            objects: as of `apply`.
            layer: show what `prune` would delete of this layer, too.
            expected: as of `apply`.

        Returns:
            A row for each field that differs. Columns:
                kind, namespace, name: the object.
                field: a path such as spec.template.spec.containers[web].image; empty for a whole object.
                live, wanted: the values as text; those of Secrets are masked.
        """
        return differing.diff(self.api, objects, layer=layer, expected=expected)

    def wait(self, objects: Iterable[Object], *, timeout: float, on_event: OnEvent | None = None) -> "pd.DataFrame":
        """Wait until all objects are ready, by the rules of their kinds.

        Args:
            objects: what to wait for.
            timeout: seconds; 0 looks once.
            on_event: called every 5 s with what is not ready, and why.

        Returns:
            A row for each object. Columns:
                kind, namespace, name: the object.
                ready: whether it is.
                seconds: from the beginning until it was seen ready.
                detail: how far it is; "exists" when its kind has nothing that tells more.

        Raises:
            TerminalCondition: an object cannot become ready. WaitTimeout: `timeout` seconds have passed. Both name the
                last cause, and have the table as `.table`.
        """
        return waiting.wait(self.api, [reference(obj) for obj in objects], timeout=timeout, on_event=on_event)

    def inventory(self, layer: str) -> References:
        """What the layer has applied."""
        return inventory.read(self.api, layer)

    def prune(
        self,
        layer: str,
        keep: Iterable[Object],
        *,
        delete_data: Collection[str] = (),
        timeout: float = 300,
        on_event: OnEvent | None = None,
    ) -> "pd.DataFrame":
        """Delete what the layer once applied and `keep` no longer has, and wait until it is gone.

        Args:
            layer: the inventory.
            keep: the objects that the layer consists of now.
            delete_data: data that may be deleted: "shop" (a namespace), "observability/storage-loki-0" (a claim),
                "widgets.example.org" (a definition). Claims, namespaces that hold claims or objects of others, and
                definitions with instances of others are kept unless they are named here.
            timeout: seconds for all of it.
            on_event: called after each rank of kinds.

        Returns:
            A row for each object. Columns:
                kind, namespace, name: the object.
                action: deleted, absent, or "kept, " and the reason; on a dry handle "would delete" instead of deleted.

        Raises:
            KubeError: `keep` is empty, but the layer has objects: use `uninstall`.
            WaitTimeout: an object is not gone in time; names the finalizer or condition that holds it.
            WrongCluster: the cluster is not the required platform's.
        """
        self._verify()
        return deletion.prune(
            self.api, layer, map(reference, keep), delete_data=delete_data, timeout=timeout, on_event=on_event
        )

    def uninstall(
        self,
        layer: str,
        *,
        delete_data: Collection[str] = (),
        timeout: float = 300,
        on_event: OnEvent | None = None,
    ) -> "pd.DataFrame":
        """Delete everything that the layer applied, in reverse order, and its inventory.

        Arguments, table and errors are those of `prune`. Kept objects leave the inventory as well. They keep the
        layer's label, so that a later call with `delete_data` finds them.
        """
        self._verify()
        return deletion.uninstall(self.api, layer, delete_data=delete_data, timeout=timeout, on_event=on_event)

    def delete(self, obj: Object | Reference, *, timeout: float = 120) -> bool:
        """Delete one object and wait until it is gone; False when it was not there."""
        self._verify()
        ref = obj if isinstance(obj, Reference) else reference(obj)
        live = self.api.get_if_known(ref)
        there = live is not None and self.api.delete(ref, uid=live["metadata"]["uid"])
        if live:
            deletion.wait_gone(self.api, {ref: live}, timeout=timeout)
        return there

    def service(self, namespace: str, name: str, port: int | str, *, scheme: str = "http") -> ServiceRoute:
        """The route to a service through the API server."""
        return ServiceRoute(namespace, name, port, scheme, self.api.session)

    def identity(self) -> Identity | None:
        """What the cluster is marked with: name, uid, distribution. None when no platform claimed it."""
        return identity.identity(self.api)

    def claim(self, name: str, distribution: str) -> None:
        """Mark the cluster as that of the platform `name`; complete a mark of an older version. Repeatable.

        Raises:
            WrongCluster: it carries another platform or distribution, or the platform lives on another cluster.
        """
        if not self.dry_run:
            identity.claim(self.api.with_guards((lease.check,)), name, distribution)

    def release(self, name: str) -> bool:
        """Take the platform's mark off the cluster; False when it had none.

        Raises:
            WrongCluster: it carries another platform.
        """
        if self.dry_run:
            return self.identity() is not None
        return identity.release(self.api.with_guards((lease.check,)), name)

    def require(self, name: str, distribution: str) -> None:
        """From now on, write only to the cluster of this platform: every change verifies its identity first.

        An answer that does not come is a no. A dry handle accepts a cluster that is not claimed yet.
        """
        session, guard = self.api.session, identity.Guard(lambda: self.api, name, distribution)
        session.guards = (*(each for each in session.guards if each is not self._guard), guard)
        self._guard = guard

    def _verify(self) -> None:
        """The first step of every verb that changes something. Raises: WrongCluster, KubeError."""
        if self._guard:
            self._guard.verify(unclaimed=self.dry_run)

    def lock(self, name: str, *, timeout: float = 300) -> AbstractContextManager[None]:
        """Hold a cluster-wide Lease lock; a dead holder expires after 10 s.

        The code inside, and the threads of `each` that it starts, stop before their next write when the lease is lost.
        A dry handle takes no lease. Code that holds the lock may ask for it again.

        Raises:
            WaitTimeout: another one holds it longer than `timeout` seconds; names the holder.
        """
        return lease.lock(self.api, name, timeout=timeout)

    def logs(
        self, namespace: str, pod: str, container: str | None = None, *, tail: int = 100, previous: bool = False
    ) -> str:
        """The last `tail` lines of a container, or of its previous run."""
        return eventful.logs(self.api, namespace, pod, container, tail=tail, previous=previous)

    def events(self, namespace: str | None = None, *, warnings: bool = False) -> "pd.DataFrame":
        """time (UTC), type, reason, kind, namespace, name, count, message; the oldest first."""
        return eventful.events(self.api, namespace or "", warnings=warnings)

    def can(self, verb: str, resource: str, namespace: str | None = None) -> bool:
        """Whether these credentials may do it; `resource` is such as "pods" or "deployments.apps"."""
        plural, _, group = resource.partition(".")
        attributes: dict[str, Any] = {"verb": verb, "resource": plural, "group": group, "namespace": namespace or ""}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        collection = Reference(review["apiVersion"], review["kind"], "", "")
        answer = self.api.call("POST", collection, body={**review, "spec": {"resourceAttributes": attributes}}).json()
        return bool(answer["status"]["allowed"])
