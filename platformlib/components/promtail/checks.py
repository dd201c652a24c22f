"""A line that a pod writes comes back from Loki, with the labels of the pod."""

from uuid import uuid4

from platformlib.checks import Check, Found
from platformlib.components import proving
from platformlib.components.proving import Context, Object

LINE = "platformlib-probe-line"
WITHIN = 120  # seconds
LABELS = ("namespace", "pod", "container", "node", "app", "stream", "detected_level")


def checks(context: Context) -> list[Check]:
    """One log line."""
    return [
        Check(
            "log line",
            f"a line that a pod writes is in Loki, with {', '.join(LABELS)}",
            "is Loki ready? kubectl logs -A -l app.kubernetes.io/name=promtail has the other end",
            lambda: _line(context, uuid4().hex),
            anytime=True,
        ),
    ]


def _line(context: Context, marker: str) -> Found:
    writer = proving.job(LINE, proving.pod(LINE, 'echo "level=warn msg=$MARKER"', {"MARKER": marker}), seconds=WITHIN)
    with proving.alone(context.kube, "line") as name:
        context.kube.apply([writer], layer=name)
        context.kube.wait([writer], timeout=WITHIN)
        pod = context.kube.list("v1", "Pod", proving.NAMESPACE, label_selector=f"app.kubernetes.io/name={LINE}")[0]
        wanted = _labels(pod)
        asked = Check("", "", "", lambda: _read(context, marker, wanted), patience=60).run()
        return asked.ok, asked.found


def _labels(pod: Object) -> dict[str, str]:
    values = (proving.NAMESPACE, pod["metadata"]["name"], "probe", pod["spec"]["nodeName"], LINE, "stdout", "warn")
    return dict(zip(LABELS, values, strict=True))


def _read(context: Context, marker: str, wanted: dict[str, str]) -> Found:
    lines = context.loki.lines(f'{{namespace="{proving.NAMESPACE}", app="{LINE}"}} |= `{marker}`', "15m")
    if len(lines) != 1:
        return False, f"{len(lines)} lines"
    found = {name: str(lines.iloc[0].get(name)) for name in LABELS}
    wrong = [f"{name}={found[name]}, not {value}" for name, value in wanted.items() if found[name] != value]
    return not wrong, "; ".join(wrong) or ", ".join(f"{name}={value}" for name, value in found.items())
