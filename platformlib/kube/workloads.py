"""How far a Deployment, StatefulSet or DaemonSet has come, and what keeps it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from platformlib.kube.events import seen_at
from platformlib.kube.objects import Object, Objects
from platformlib.kube.pods import Trouble, latest, selected, worst

# Conditions of a Deployment that its controller will not leave by itself, and the seconds in which it still might:
# on a second run they are there from the first, while their cause may have been mended.
REFUSED = "FailedCreate"  # a quota or an admission rule refuses the pods
FINAL = {
    ("Progressing", "ProgressDeadlineExceeded"): 60.0,
    ("ReplicaFailure", REFUSED): 30.0,
}
RECENT = timedelta(minutes=2)  # an older event may tell of what has been mended


def _counts(obj: Object) -> dict[str, int]:
    """wanted, updated, available, total: the three kinds have names of their own for these."""
    status, spec = obj.get("status") or {}, obj["spec"]
    if obj["kind"] == "DaemonSet":
        names = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable", "currentNumberScheduled")
        wanted, updated, available, total = (status.get(name, 0) for name in names)
    else:
        wanted = spec.get("replicas", 1)
        updated, available, total = (
            status.get(name, 0) for name in ("updatedReplicas", "availableReplicas", "replicas")
        )
    return {"wanted": wanted, "updated": updated, "available": available, "total": total}


def summary(obj: Object) -> str:
    """Such as "2 of 3 available"."""
    counts = _counts(obj)
    return f"{counts['available']} of {counts['wanted']} available"


def incomplete(obj: Object) -> str:
    """What is missing to a finished rollout, or nothing."""
    counts = _counts(obj)
    if counts["updated"] < _to_update(obj, counts["wanted"]):
        return f"{counts['updated']} of {counts['wanted']} updated, {summary(obj)}"
    if counts["available"] < counts["wanted"]:
        return summary(obj)
    if obj["kind"] == "Deployment" and counts["total"] > counts["updated"]:
        return f"{counts['total'] - counts['updated']} old replicas are still there"
    return ""


def _to_update(obj: Object, wanted: int) -> int:
    """Replicas that a rollout replaces by itself: none with OnDelete, those from the partition on otherwise."""
    strategy: dict[str, Any] = obj["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return 0
    return max(0, wanted - ((strategy.get("rollingUpdate") or {}).get("partition") or 0))


def trouble(obj: Object, pods: Objects, events: Objects) -> Trouble | None:
    """Its own final condition, else the gravest cause among its pods, else that they are refused."""
    own = selected(pods, obj["spec"].get("selector"))
    of_own, of_parts = _condition(obj), worst(latest(own)) or _refused(obj, own, events)
    if of_own and of_parts:
        return Trouble(of_own.topic, f"{of_own.detail}; {of_parts.detail}", of_own.grace, of_parts.pod)
    return of_own or of_parts


def _refused(obj: Object, pods: Objects, events: Objects) -> Trouble | None:
    """Only a Deployment has a condition for it; the others have an event."""
    wanted = _counts(obj)["wanted"] if obj["kind"] != "Job" else 1
    about = [each for each in events if each.get("reason") == REFUSED and _same(each["involvedObject"], obj)]
    newest = max(about, key=seen_at, default=None)
    if newest is None or len(pods) >= wanted or datetime.now(UTC) - seen_at(newest) > RECENT:
        return None
    return Trouble(REFUSED, f"{REFUSED}: {newest.get('message', '')}", FINAL["ReplicaFailure", REFUSED])


def _same(about: dict[str, Any], obj: Object) -> bool:
    return (about.get("kind"), about.get("name")) == (obj["kind"], obj["metadata"]["name"])


def _condition(obj: Object) -> Trouble | None:
    for each in (obj.get("status") or {}).get("conditions") or []:
        grace = FINAL.get((each["type"], each.get("reason", "")))
        broken = each["status"] == ("True" if each["type"] == "ReplicaFailure" else "False")
        if grace is not None and broken:
            return Trouble(each["reason"], f"{each['reason']}: {each.get('message', '')}", grace)
    return None
