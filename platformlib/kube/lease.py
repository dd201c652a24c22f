"""One at a time: a Lease that its holder renews, and that the next one takes over when nobody renews it."""

import getpass
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from platformlib.errors import ApiError, KubeError, WaitTimeout
from platformlib.kube.api import Api
from platformlib.kube.objects import Object, Reference, reference
from platformlib.kube.plan import CONFLICT

SECONDS = 10  # without a renewal: its holder was killed
LONG_AGO = timedelta(seconds=60)  # no two clocks differ by so much, so nobody needs to watch this one
EVERY, LOOK = 3.0, 0.5  # seconds between renewals, and between looks at another's


def lease(name: str) -> Reference:
    """Where it is kept."""
    return Reference("coordination.k8s.io/v1", "Lease", "kube-system", f"platformlib-{name}")


@contextmanager
def held(api: Api, name: str, *, timeout: float) -> Iterator[None]:
    """See `Kube.alone`."""
    holder = f"{getpass.getuser()}@{socket.gethostname()} process {os.getpid()} {uuid4().hex[:8]}"
    live, ended = [_acquired(api, lease(name), holder, timeout)], threading.Event()
    renewing = threading.Thread(target=_renew, args=(api, live, ended), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        _release(api, live[0])


def _acquired(api: Api, ref: Reference, holder: str, timeout: float) -> Object:
    """Its own clock tells how long nobody renewed it: machines' clocks differ."""
    deadline = time.monotonic() + timeout
    seen, since = "", 0.0
    while True:
        live, now = api.get(ref), time.monotonic()
        version = str(((live or {}).get("metadata") or {}).get("resourceVersion"))
        seen, since = (seen, since) if version == seen else (version, now)
        if live is None or now - since > SECONDS or _long_dead(live) or _holder(live) == holder:
            taken = _taken(api, ref, live, holder)
            if taken is not None:
                return taken
        if now > deadline:
            raise WaitTimeout(f"{ref} is held by {_holder(live or {})}", fix="wait until that run has ended, or end it")
        time.sleep(LOOK)


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
        if error.status != CONFLICT:
            raise
        return None


def _put(api: Api, obj: Object) -> Object:
    answer: Object = api.call("PUT", reference(obj), body=obj).json()
    return answer


def _renew(api: Api, live: list[Object], ended: threading.Event) -> None:
    """Until the end. A server that is away for a moment is asked again; a lease that was taken over is let go."""
    while not ended.wait(EVERY):
        try:
            live[0] = _put(api, {**live[0], "spec": {**live[0]["spec"], "renewTime": _now()}})
        except ApiError as error:
            if error.status == CONFLICT:
                return
        except KubeError:
            continue


def _release(api: Api, live: Object) -> None:
    """Only if it is still the same one."""
    only = {"resourceVersion": live["metadata"]["resourceVersion"]}
    with suppress(KubeError):
        api.call("DELETE", reference(live), body={"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": only})


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _holder(live: Object) -> str:
    return str((live.get("spec") or {}).get("holderIdentity") or "nobody")


def _long_dead(live: Object) -> bool:
    renewed = (live.get("spec") or {}).get("renewTime")
    return not renewed or datetime.now(UTC) - datetime.fromisoformat(renewed) > LONG_AGO
