"""A cluster-wide lock: a Lease that its holder renews, and that the next one takes over when nobody renews it."""

import getpass
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from platformlib.errors import ApiError, KubeError, WaitTimeout
from platformlib.kube.api import Api
from platformlib.kube.objects import Object, Reference, reference
from platformlib.kube.session import CONFLICT, NOT_FOUND
from platformlib.polling import poll

SECONDS = 10  # without a renewal its holder counts as dead
LONG_AGO = timedelta(seconds=60)  # clocks differ by less: a lease this old needs not be watched for SECONDS
EVERY, LOOK = 3.0, 0.5  # seconds between renewals, and between looks at another's


def lease(name: str) -> Reference:
    """The object that holds the lock."""
    return Reference("coordination.k8s.io/v1", "Lease", "kube-system", f"platformlib-{name}")


class Held:
    """A lease that this process holds and renews."""

    def __init__(self, api: Api, live: Object, renewed: float) -> None:
        self.api, self.ref, self.holder = api, reference(live), _holder(live)
        self._live, self._renewed, self._lost = live, renewed, ""
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._renew_until_ended, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Return only if nobody else can believe to hold the lease.

        Raises:
            KubeError: another one took it, it was deleted, or it could not be renewed in time.
        """
        if not self._lost and time.monotonic() - self._renewed > SECONDS - LOOK:
            self._renew(self.api)
        if self._lost:
            fix = "run it again when the other run has ended: what was done stays, and the rest follows"
            raise KubeError(f"{self.ref} is lost: {self._lost}; nothing more is written", fix=fix)

    def _renew_until_ended(self) -> None:
        impatient = self.api.with_retry_timeout(EVERY)
        while not self._ended.wait(EVERY) and not self._lost:
            # A server that is away for a moment is asked again; `check` decides whether that took too long.
            with suppress(KubeError):
                self._renew(impatient)

    def _renew(self, api: Api) -> None:
        with self._lock:
            if self._lost or self._ended.is_set():
                return
            began, spec = time.monotonic(), {**self._live["spec"], "renewTime": _now()}
            try:
                self._live = _put(api, {**self._live, "spec": spec})
                self._renewed = began
            except ApiError as error:
                if error.status not in {CONFLICT, NOT_FOUND}:
                    raise
                self._see_who_holds_it(api)

    def _see_who_holds_it(self, api: Api) -> None:
        """After a conflict: another one took the lease, or the answer to a renewal was lost on its way."""
        live = api.get(self.ref)
        if live is None:
            self._lost = "it was deleted"
        elif _holder(live) != self.holder:
            self._lost = f"{_holder(live)} holds it now"
        else:
            self._live = live

    def release(self) -> None:
        """Delete it, only if it is still the same one."""
        self._ended.set()
        self._thread.join()
        only = {"resourceVersion": self._live["metadata"]["resourceVersion"]}
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": only}
        with suppress(KubeError):
            self.api.call("DELETE", self.ref, body=body)


# The leases that the running code holds. Worker threads of `parallel.each` inherit them.
HELD: ContextVar[tuple[Held, ...]] = ContextVar("HELD", default=())


def check() -> None:
    """A guard of writes: the code that holds a lease stops when it is lost. Raises: KubeError."""
    for held in HELD.get():
        held.check()


@contextmanager
def lock(api: Api, name: str, *, timeout: float) -> Iterator[None]:
    """See `Kube.lock`."""
    ref, server = lease(name), api.session.credentials.server
    again = any((held.ref, held.api.session.credentials.server) == (ref, server) for held in HELD.get())
    if api.session.dry_run or again:
        yield
        return
    own = api.with_guards(tuple(guard for guard in api.session.guards if guard is not check))
    holder = f"{getpass.getuser()}@{socket.gethostname()} process {os.getpid()} {uuid4().hex[:8]}"
    held = Held(own, *_acquired(own, ref, holder, timeout))
    token = HELD.set((*HELD.get(), held))
    try:
        yield
    finally:
        HELD.reset(token)
        held.release()


def _acquired(api: Api, ref: Reference, holder: str, timeout: float) -> tuple[Object, float]:
    """The taken lease, and when it was taken. This machine's clock tells for how long another's was not renewed."""
    seen, since, live = "", 0.0, None

    def take() -> tuple[Object, float] | None:
        nonlocal seen, since, live
        live, now = api.get(ref), time.monotonic()
        version = str(((live or {}).get("metadata") or {}).get("resourceVersion"))
        seen, since = (seen, since) if version == seen else (version, now)
        if live is None or now - since > SECONDS or _long_dead(live) or _holder(live) == holder:
            taken = _taken(api, ref, live, holder)
            return (taken, now) if taken else None
        return None

    taken = poll(take, timeout=timeout, interval=LOOK, growing=False)
    if taken is None:
        raise WaitTimeout(f"{ref} is held by {_holder(live or {})}", fix="wait until that run has ended, or end it")
    return taken


def _taken(api: Api, ref: Reference, live: Object | None, holder: str) -> Object | None:
    """None when another one was quicker."""
    version = {} if live is None else {"resourceVersion": live["metadata"]["resourceVersion"]}
    wanted = {
        "apiVersion": ref.api_version, "kind": ref.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace, **version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": SECONDS, "acquireTime": _now(), "renewTime": _now()},
    }  # fmt: skip
    try:
        return api.create(wanted) if live is None else _put(api, wanted)
    except ApiError as error:
        if error.status not in {CONFLICT, NOT_FOUND}:
            raise
        return None


def _put(api: Api, obj: Object) -> Object:
    return api.call("PUT", reference(obj), body=obj).object()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _holder(live: Object) -> str:
    return str((live.get("spec") or {}).get("holderIdentity") or "nobody")


def _long_dead(live: Object) -> bool:
    renewed = (live.get("spec") or {}).get("renewTime")
    return not renewed or datetime.now(UTC) - datetime.fromisoformat(renewed) > LONG_AGO
