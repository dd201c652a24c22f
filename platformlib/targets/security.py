"""The security layer as its notebooks ask for it: declared tables, requests that must be refused, what was found."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from platformlib import checks

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from platformlib.plots import Picture
    from platformlib.targets.target import Target


class Security:
    """What is declared about a target, and what proves it. Each `verify_…` shows its table, then raises CheckFailed."""

    def __init__(self, target: "Target") -> None:
        self.target = target
        self.settings = target.settings
        self._kept: dict[str, pd.DataFrame] = {}

    @property
    def profile(self) -> "pd.DataFrame":
        """namespace, level, workloads, reason."""
        from platformlib.security import pod_security

        return pod_security.table(self.settings)

    def pods(self) -> "pd.DataFrame":
        """namespace, pod, app, enforced, faults, allowed: every pod against the standard `restricted`."""
        from platformlib.security import pod_security

        return pod_security.pods(self.target.kube, self.settings)

    @property
    def personas(self) -> "pd.DataFrame":
        """persona, who, bound, purpose."""
        from platformlib.security import rbac

        return rbac.table(self.settings)

    def matrix(self) -> "pd.DataFrame":
        """persona, place, resource, verb, expected, found, ok: asked of the API server, cell by cell."""
        from platformlib.security import access

        return self._once("matrix", lambda: access.matrix(self.target.kube, self.settings))

    def can_i(self) -> "pd.DataFrame":
        """The matrix to read: initials of get, list, create, patch, delete."""
        from platformlib.security import access

        return access.grid(self.matrix())

    def grants(self) -> "pd.DataFrame":
        """subject, kind, role, namespace, verbs, resources, risk, declared: the grants that are worth a look."""
        from platformlib.security import access

        found = access.grants(self.target.kube)
        return found[(found["risk"] != "") & (found["declared"] != "kubernetes")].reset_index(drop=True)

    def unused_roles(self) -> "pd.DataFrame":
        """role: those that nothing is bound to."""
        import pandas as pd

        from platformlib.security import access

        return pd.DataFrame({"role": access.unused(self.target.kube)})

    def kubeconfig(self, persona: str) -> "Path":
        """A fresh kubeconfig of a persona; mode 0600."""
        from platformlib.security import credentials

        return credentials.kubeconfig(self.target.kube, self.settings, persona)

    def quotas(self) -> "pd.DataFrame":
        """namespace, resource, used, hard, share."""
        from platformlib.security import quotas

        return quotas.usage(self.target.kube)

    def quota_shares(self) -> "pd.DataFrame":
        """namespace, resource, value: the share of each quota in use, as a picture wants it."""
        found = self.quotas()[["namespace", "resource", "share"]].rename(columns={"share": "value"})
        found.attrs |= {"picture": "bar", "unit": "ratio", "title": "Quota in use"}
        return found

    @property
    def flows(self) -> "pd.DataFrame":
        """flow, from, to, ports, why: what is open."""
        from platformlib.security import flows

        return flows.table(self.settings)

    def truth(self) -> "pd.DataFrame":
        """Every pod to every listening port: source, to, their nodes, port, protocol, expected, found, ok, by."""
        from platformlib.security import truth

        return self._once("truth", lambda: truth.table(self.target.kube, self.settings))

    def connectivity(self) -> "Picture":
        """The truth table as a matrix of apps."""
        from platformlib.security import pictures, truth

        return pictures.connectivity(truth.by_app(self.truth(), self.target.kube))

    def enforcement(self) -> "pd.DataFrame":
        """try, seconds, passed: how long a new pod is not under its policies yet."""
        from platformlib.security import network

        return network.enforcement(self.target.kube)

    def coverage(self) -> "pd.DataFrame":
        """layer, rule, accepted, refused, words, ok: both examples of every rule, really sent."""
        return self._once("coverage", self._covered)

    def _covered(self) -> "pd.DataFrame":
        import pandas as pd

        from platformlib.security import access, coverage, network

        kube = self.target.kube
        tables = [coverage.table(kube), access.requests(kube, self.settings), network.table(kube, self.settings)]
        return pd.concat(tables, ignore_index=True)

    def untested(self) -> "pd.DataFrame":
        """rule: policies in the cluster that no example is about."""
        import pandas as pd

        from platformlib.security import coverage

        return pd.DataFrame({"rule": coverage.untested(self.target.kube, self.coverage())})

    def reports(self) -> "pd.DataFrame":
        """time, policy, result, namespace, kind, name, message."""
        from platformlib.security import reports

        return reports.frame(self.target.kube)

    def report_counts(self) -> "pd.DataFrame":
        """policy, result, value: how many objects, as a picture wants it."""
        found = self.reports().groupby(["policy", "result"]).size().reset_index(name="value")
        found.attrs |= {"picture": "bar", "title": "PolicyReports", "empty": "no report was written yet"}
        return found

    def findings(self) -> "pd.DataFrame":
        """about, object, found, fix: every deviation from what was declared, as it is now."""
        from platformlib.security import posture

        return posture.findings(self.target.kube, self.settings, self.target.layers["security"].diff())

    def record(self) -> "pd.DataFrame":
        """Keep the counts of this moment; returns the history."""
        from platformlib.security import posture

        posture.record(self.target.kube, self.settings, self.findings())
        return self.history()

    def history(self) -> "pd.DataFrame":
        """Index: time. findings and results of the PolicyReports, a row each recorded posture."""
        from platformlib.security import posture

        found = posture.history(self.settings)
        found.attrs |= {"picture": "series", "title": "Posture over time", "empty": "nothing was recorded yet"}
        return found

    def verify(self, *names: str) -> "pd.DataFrame":
        """Some of: pods, matrix, connectivity, coverage, posture. Raises CheckFailed, with the table."""
        return checks.verify(checks.run([self._check(name) for name in names]))

    def _check(self, name: str) -> checks.Check:
        from platformlib.security import coverage, posture, truth

        makers = {
            "pods": lambda: _all(
                "pods", self.pods().rename(columns={"allowed": "ok"}), "no fault without an exception"
            ),
            "matrix": lambda: _all("matrix", self.matrix(), "every answer is the expected one"),
            "connectivity": lambda: truth.check(self.truth()),
            "coverage": lambda: coverage.check(self.coverage()),
            "posture": lambda: posture.check(self.findings()),
        }
        return makers[name]()

    def _once(self, name: str, make: Callable[[], "pd.DataFrame"]) -> "pd.DataFrame":
        """Requests that were sent for one cell are not sent again for the next."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]


def _all(name: str, table: "pd.DataFrame", expected: str) -> checks.Check:
    wrong = table[~table["ok"]]
    lines = [" ".join(map(str, row)) for row in wrong.head(5).itertuples(index=False)]
    said = "; ".join(lines) or f"{len(table)} rows"
    return checks.Check(name, expected, "the table names each", lambda: (len(wrong) == 0 and len(table) > 0, said))
