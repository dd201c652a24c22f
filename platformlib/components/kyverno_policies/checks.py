"""Policies are in force: all ready, and one of them refuses when it is asked."""

from platformlib.checks import Check, Found
from platformlib.components.proving import Context, Object
from platformlib.errors import ApiError
from platformlib.kube import Reference
from platformlib.security import examples
from platformlib.security.declared import enforced

PODS = Reference("v1", "Pod", "default", "")
KINDS = ("ValidatingPolicy", "MutatingPolicy", "GeneratingPolicy", "ImageValidatingPolicy")


def checks(context: Context) -> list[Check]:
    """Every policy, and a pod that has to be refused."""
    return [
        Check(
            "policies",
            "every policy is ready",
            "kubectl get vpol,mpol,gpol -o yaml; then the log of the admission controller",
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
