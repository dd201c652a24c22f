"""Security: the rules are there, in force, and one of each kind refuses when it is asked."""

from platformlib.checks import Check, Found
from platformlib.errors import ApiError
from platformlib.kube import Reference
from platformlib.layers.proofs.context import Context, Object, pods_run, same
from platformlib.security import examples
from platformlib.security.declared import ENFORCE, enforced, namespaces

PODS = Reference("v1", "Pod", "default", "")
KINDS = ("ValidatingPolicy", "MutatingPolicy", "GeneratingPolicy", "ImageValidatingPolicy")


def checks(context: Context) -> list[Check]:
    """Kyverno, namespaces, default denies, policies, and a pod that has to be refused."""
    closed = [each.name for each in namespaces(context.settings) if each.default_deny]
    return [
        pods_run(context, "kyverno"),
        Check(
            "namespaces",
            "each enforces the Pod Security Standard that was declared for it",
            "apply the layer security again, with take_ownership=True",
            lambda: _labelled(context),
        ),
        Check(
            "default deny",
            f"in {', '.join(closed)}",
            "apply the layer security again",
            lambda: same(_closed(context, closed), closed),
        ),
        Check(
            "policies",
            "every policy is ready",
            "kubectl get vpol,mpol,gpol -o yaml; kubectl -n kyverno logs deploy/kyverno-admission-controller",
            lambda: _ready(context),
            patience=60,
        ),
        Check(
            "a pod with the tag latest",
            f"{'refused' if enforced(context.settings) else 'admitted with a warning'} by the policy disallow-latest",
            "do Kyverno's webhooks exist? kubectl get validatingwebhookconfigurations",
            lambda: _refused(context),
            patience=60,
        ),
    ]


def _labelled(context: Context) -> Found:
    live = {
        each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in context.kube.list("v1", "Namespace")
    }
    wanted = {each.name: each.pods for each in namespaces(context.settings) if not each.exists}
    wrong = [f"{name}: {live.get(name, {}).get(ENFORCE)} instead of {level}" for name, level in wanted.items()
             if live.get(name, {}).get(ENFORCE) != level]  # fmt: skip
    return not wrong, "; ".join(wrong) or ", ".join(f"{name} {level}" for name, level in wanted.items())


def _closed(context: Context, wanted: list[str]) -> list[str]:
    found = context.kube.list("networking.k8s.io/v1", "NetworkPolicy")
    named = {each["metadata"]["namespace"] for each in found if each["metadata"]["name"] == "default-deny"}
    return sorted(named & set(wanted))


def _ready(context: Context) -> Found:
    live = [each for kind in KINDS for each in context.kube.list("policies.kyverno.io/v1", kind)]
    waiting = [each["metadata"]["name"] for each in live if not _is_ready(each)]
    return bool(live) and not waiting, f"not ready: {', '.join(waiting)}" if waiting else f"{len(live)} policies"


def _is_ready(policy: Object) -> bool:
    """A generating policy has no condition: its controller watches by itself."""
    said = ((policy.get("status") or {}).get("conditionStatus") or {}).get("ready")
    return said is not False and (said is True or policy["kind"] == "GeneratingPolicy")


def _refused(context: Context) -> Found:
    """By the server's dry run, which asks the webhooks and keeps nothing."""
    bad = examples.merged(
        examples.pod("platformlib-probe-latest", "default"),
        {"spec": {"containers": [{"name": "main", "image": "docker.io/library/busybox:latest"}]}},
    )
    try:
        answer = context.kube.api.call("POST", PODS, body=bad, dryRun="All")
    except ApiError as error:
        return enforced(context.settings) and "disallow-latest" in str(error), str(error).splitlines()[0]
    said = "; ".join(answer.warnings)
    return not enforced(context.settings) and "disallow-latest" in said, said or "let through"
