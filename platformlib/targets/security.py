"""Security as its notebooks use it: what is declared, requests that must be refused, what was found."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from platformlib import checks
from platformlib.errors import PlatformError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from platformlib.plots import Picture
    from platformlib.settings import Settings
    from platformlib.targets.target import Target


class Security:
    """What is declared about a target, and what proves it. `verify` shows a table first, then raises CheckFailed."""

    def __init__(self, target: "Target") -> None:
        self.target = target
        self._kept: dict[str, pd.DataFrame] = {}

    @cached_property
    def settings(self) -> "Settings":
        """The target's settings, with what was read from a cluster that others installed."""
        from platformlib.security.observe import observed

        given = self.target.settings
        return observed(given, self.target.kube) if given.cluster.distribution == "existing" else given

    @property
    def profile(self) -> "pd.DataFrame":
        """The Pod Security Standard of each namespace. Columns: namespace, level, workloads, reason."""
        from platformlib.security import pod_security

        return pod_security.table(self.settings)

    def pods(self) -> "pd.DataFrame":
        """Every pod against `restricted`. Columns: namespace, pod, app, enforced, faults, allowed."""
        from platformlib.security import pod_security

        return pod_security.pods(self.target.kube, self.settings)

    @property
    def personas(self) -> "pd.DataFrame":
        """Columns: persona, who, bound, purpose."""
        from platformlib.security import rbac

        return rbac.table(self.settings)

    def matrix(self) -> "pd.DataFrame":
        """The API server's answer to every cell. Columns: persona, place, resource, verb, expected, found, ok."""
        from platformlib.security import access

        return self._once("matrix", lambda: access.matrix(self.target.kube, self.settings))

    def can_i(self) -> "pd.DataFrame":
        """The matrix to read: initials of get, list, create, patch, delete."""
        from platformlib.security import access

        return access.grid(self.matrix())

    def grants(self) -> "pd.DataFrame":
        """Grants worth a look. Columns: subject, kind, role, namespace, verbs, resources, risk, declared."""
        from platformlib.security import access

        found = access.grants(self.target.kube)
        return found[(found["risk"] != "") & (found["declared"] != "kubernetes")].reset_index(drop=True)

    def unused_roles(self) -> "pd.DataFrame":
        """Roles without a binding. Columns: role."""
        import pandas as pd

        from platformlib.security import access

        return pd.DataFrame({"role": access.unused(self.target.kube)})

    def kubeconfig(self, persona: str) -> "Path":
        """A new kubeconfig of a persona, valid for eight hours; mode 0600."""
        from platformlib.security import credentials

        return credentials.kubeconfig(self.target.kube, self.settings, persona)

    def quotas(self) -> "pd.DataFrame":
        """Quotas and their use, the fullest first. Columns: namespace, resource, used, hard, share."""
        from platformlib.security import quotas

        return quotas.usage(self.target.kube)

    def quota_shares(self) -> "pd.DataFrame":
        """The share of each quota in use, for a picture. Columns: namespace, resource, value (0 to 1)."""
        found = self.quotas()[["namespace", "resource", "share"]].rename(columns={"share": "value"})
        found.attrs |= {"picture": "bar", "unit": "ratio", "title": "Quota in use"}
        return found

    @property
    def flows(self) -> "pd.DataFrame":
        """The allowed connections. Columns: flow, from, to, ports, why."""
        from platformlib.security import flows

        return flows.table(self.settings)

    def connections(self) -> "pd.DataFrame":
        """Every pod to every listening port, tried once. See `connectivity.table` for the columns."""
        from platformlib.security import connectivity

        return self._once("connections", lambda: connectivity.table(self.target.kube, self.settings))

    def connectivity(self) -> "Picture":
        """The connections as a matrix of apps."""
        from platformlib.security import connectivity

        return connectivity.picture(connectivity.by_app(self.connections(), self.target.kube))

    def enforcement(self) -> "pd.DataFrame":
        """How long a new pod is not under its policies yet. Columns: try, seconds, passed."""
        from platformlib.security import network

        return network.enforcement(self.target.kube)

    def coverage(self) -> "pd.DataFrame":
        """Both examples of every rule, sent once. Columns: layer, rule, accepted, refused, words, ok."""
        return self._once("coverage", self._covered)

    def _covered(self) -> "pd.DataFrame":
        import pandas as pd

        from platformlib.security import access, coverage, network

        kube = self.target.kube
        tables = [coverage.table(kube, self.settings), access.requests(kube, self.settings), network.table(kube)]
        return pd.concat(tables, ignore_index=True)

    def untested(self) -> "pd.DataFrame":
        """Policies in the cluster that no example is about. Columns: rule."""
        import pandas as pd

        from platformlib.security import coverage

        return pd.DataFrame({"rule": coverage.untested(self.target.kube, self.coverage())})

    def reports(self) -> "pd.DataFrame":
        """Results of the policies, the newest first. See `posture.reports` for the columns."""
        from platformlib.security import posture

        return posture.reports(self.target.kube)

    def report_counts(self) -> "pd.DataFrame":
        """How many objects have each result, for a picture. Columns: policy, result, value."""
        found = self.reports().groupby(["policy", "result"]).size().reset_index(name="value")
        found.attrs |= {"picture": "bar", "title": "PolicyReports", "empty": "no report was written yet"}
        return found

    def findings(self) -> "pd.DataFrame":
        """Every difference from what was declared, as it is now. Columns: about, object, found, fix."""
        from platformlib import composition
        from platformlib.security import posture

        own = composition.provider(self.settings, "namespaces")
        if own is None:
            raise PlatformError("no component of this platform makes namespaces", fix="see platform.layers")
        return posture.findings(self.target.kube, self.settings, self.target.layers[own.layer].diff())

    def record(self) -> "pd.DataFrame":
        """Keep the counts of this moment; returns the history."""
        from platformlib.security import posture

        posture.record(self.target.kube, self.settings, self.findings())
        return self.history()

    def history(self) -> "pd.DataFrame":
        """The recorded counts. Index: time. Columns: findings, and the results of the policies."""
        from platformlib.security import posture

        found = posture.history(self.settings)
        found.attrs |= {"picture": "series", "title": "Posture over time", "empty": "nothing was recorded yet"}
        return found

    def verify(self, *names: str) -> "pd.DataFrame":
        """Some of: pods, matrix, connectivity, coverage, posture. Raises CheckFailed, with the table."""
        return checks.verify(checks.run([self._check(name) for name in names]))

    def _check(self, name: str) -> checks.Check:
        from platformlib.security import connectivity, coverage, posture

        makers = {
            "pods": lambda: _all(
                "pods", self.pods().rename(columns={"allowed": "ok"}), "no fault without an exception"
            ),
            "matrix": lambda: _all("matrix", self.matrix(), "every answer is the expected one"),
            "connectivity": lambda: connectivity.check(self.connections()),
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
