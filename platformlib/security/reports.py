"""What the policies say of everything that runs, accepted before or after they came: PolicyReports as frames."""

from typing import TYPE_CHECKING

from platformlib.security.declared import Object

if TYPE_CHECKING:
    import pandas as pd

    from platformlib.kube import Kube

API = "wgpolicyk8s.io/v1alpha2"
COLUMNS = ("time", "policy", "result", "namespace", "kind", "name", "message", "source")
JUDGES = frozenset({"KyvernoValidatingPolicy", "KyvernoImageValidatingPolicy"})


def frame(kube: "Kube") -> "pd.DataFrame":
    """time (UTC), policy, result (pass, fail, warn, error, skip), namespace, kind, name, message, source; newest first.

    Source: PolicyReport and ClusterPolicyReport of the Policy Working Group, which Kyverno writes.
    """
    import pandas as pd

    reports = [each for kind in ("PolicyReport", "ClusterPolicyReport") for each in kube.list(API, kind)]
    rows = [row for report in reports for row in _rows(report)]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"time": "int64"})
    table["time"] = pd.to_datetime(table["time"], unit="s", utc=True)
    return table.sort_values("time", ascending=False, ignore_index=True)


def _rows(report: Object) -> list[list[object]]:
    scope, namespace = report.get("scope") or {}, report["metadata"].get("namespace", "")
    return [
        [int(each["timestamp"]["seconds"]), each["policy"], each["result"], namespace,
         scope.get("kind", ""), scope.get("name", ""), each.get("message", ""), each.get("source", "")]
        for each in report.get("results") or []
    ]  # fmt: skip


def failures(reports: "pd.DataFrame", excepted: list[str]) -> "pd.DataFrame":
    """The failures that no declared exception explains. A mutating policy judges nobody: it comes at admission only."""
    bad = reports["result"].isin(["fail", "error"]) & ~reports["namespace"].isin(excepted)
    return reports[bad & reports["source"].isin(JUDGES)].reset_index(drop=True)
