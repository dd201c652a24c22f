"""Every error that a user can meet, as one tree.

PlatformError                what went wrong; `.fix` says what to do about it
├── DryRunRefused            a write was asked of a handle that may only read
├── SettingsError            a parameters file that was refused; `.faults` lists every fault
├── NodeError                something on one machine; `.node` names it
│   ├── NodeUnreachable      no answer, or no SSH there
│   ├── AuthenticationFailed the machine refused the key
│   ├── HostKeyChanged       another machine answers at this address
│   ├── CommandFailed        a command ended with a non-zero status
│   └── TransferFailed       a file arrived incomplete; the old one is still in place
├── LabError                 the host cannot carry the lab, or a machine of it did not start
├── BundleError              an artifact could not be built or served
│   ├── ChecksumMismatch     a file is not what was built
│   └── DiskSpaceError       not enough room; says how much is needed
├── ClusterError             installing or joining failed
│   ├── PreflightFailed      a machine is not fit; `.table` has every result
│   └── WrongCluster         the cluster is not this platform's: another name, UID or distribution, or no claim
├── KubeError                the Kubernetes API refused or failed
│   ├── ApiError             one request was refused; `.status` and `.reason` are the server's
│   ├── ApplyConflict        another field manager owns a field
│   ├── WaitTimeout          the deadline passed; names the last cause; `.table` has every object
│   └── TerminalCondition    it will never become ready; names the cause; `.table` has every object
├── QueryError               a query was refused, failed or came back broken
│   ├── BadQuery             the server cannot parse or run it; never retried
│   ├── SourceUnavailable    no answer, or one that may pass; it was retried
│   ├── QueryCancelled       the caller stopped it
│   ├── NotRecorded          replay has no answer of this shape
│   └── IncompleteAnswer     fewer results than the server counted
├── CheckFailed              a check did not hold; `.table` has every result
└── RunbookError             a notebook could not be run, or a cell of it failed
    ├── ParameterError       an unknown parameter, a wrong type, a missing parameters cell
    ├── RunInterrupted       by Ctrl-C or SIGTERM; `.run` can be gone on with
    └── CellFailed           a cell raised; `.ename`, `.evalue` are its error, `.output` the written notebook
"""

import os
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformlib.text import visible


class PlatformError(Exception):
    """Base of every error of this package: a sentence, and the fix if one is known."""

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(f"{message}\n  fix: {fix}" if fix else message)
        self.fix = fix

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: message and fix, since the frames of a library tell a reader of a runbook nothing.

        `PLATFORMLIB_TRACEBACK=1` brings the frames back.
        """
        frames = traceback.format_exception(self) if os.environ.get("PLATFORMLIB_TRACEBACK") else []
        return [*map(visible, frames), f"{type(self).__name__}: {visible(str(self))}"]


class DryRunRefused(PlatformError):
    """A write was asked of a handle that may only read: a dry run changes nothing, whoever asks."""


@dataclass(frozen=True, order=True)
class Fault:
    """One fault of a parameters file: where, what stands there, what was expected."""

    path: str
    value: str
    expected: str

    def __str__(self) -> str:
        return f"{self.path}: {self.value} — expected {self.expected}"


class SettingsError(PlatformError):
    """A parameters file that was refused before anything was touched."""

    def __init__(self, faults: Iterable[Fault], *, source: str = "settings") -> None:
        self.faults = sorted(set(faults))
        count = f"{len(self.faults)} fault" + ("s" if len(self.faults) != 1 else "")
        super().__init__("\n  ".join([f"{source}: {count}, nothing was touched", *map(str, self.faults)]))


class NodeError(PlatformError):
    """Something on one machine."""

    def __init__(self, node: str, message: str, *, fix: str = "") -> None:
        super().__init__(f"{node}: {message}", fix=fix)
        self.node = node


class NodeUnreachable(NodeError):
    """The machine does not answer, or no SSH server does."""


class AuthenticationFailed(NodeError):
    """The machine refused the key."""


class HostKeyChanged(NodeError):
    """The machine shows another host key than the one that was kept."""


class CommandFailed(NodeError):
    """A command ended with a non-zero status."""

    def __init__(self, node: str, command: str, status: int, output: str) -> None:
        tail = "\n    ".join(output.strip().splitlines()[-12:])
        super().__init__(node, f"`{command}` ended with status {status}\n    {tail}")
        self.command, self.status, self.output = command, status, output


class TransferFailed(NodeError):
    """A file arrived incomplete or altered: nothing was replaced."""

    def __init__(self, node: str, message: str) -> None:
        super().__init__(node, f"{message}; nothing was replaced", fix="run it again; if it recurs, see the network")


class LabError(PlatformError):
    """The host cannot carry the lab, or a machine of it did not start."""


class BundleError(PlatformError):
    """An artifact could not be built, stored or served."""


class ChecksumMismatch(BundleError):
    """A file is not what was built or published."""


class DiskSpaceError(BundleError):
    """Not enough room on a file system."""


class TableError(PlatformError):
    """Base of the errors that carry a result table."""

    def __init__(self, message: str, *, table: Any = None, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.table = table


class ClusterError(PlatformError):
    """Installing, joining or reaching the cluster failed."""


class PreflightFailed(ClusterError, TableError):
    """A machine is not fit to carry the platform."""


class WrongCluster(ClusterError):
    """The kubeconfig leads to another cluster than the parameters name."""


class KubeError(PlatformError):
    """The Kubernetes API refused a request, or did not answer."""


class ApiError(KubeError):
    """The server's refusal of one request: `status` is HTTP's, `reason` and `causes` are those of its Status object."""

    def __init__(
        self, message: str, *, status: int, reason: str = "", causes: Iterable[dict[str, str]] = (), fix: str = ""
    ) -> None:
        super().__init__(message, fix=fix)
        self.message, self.status, self.reason, self.causes = message, status, reason, list(causes)


class ApplyConflict(KubeError):
    """Another field manager owns a field that an object sets."""


class WaitTimeout(KubeError, TableError):
    """A deadline passed; the message names the last cause."""


class TerminalCondition(KubeError, TableError):
    """An object reached a condition that waiting cannot mend."""


class QueryError(PlatformError):
    """A query was refused, failed, or its answer could not be read."""


class BadQuery(QueryError):
    """The server cannot parse or run the query; retrying would not help."""


class SourceUnavailable(QueryError):
    """No server answered, or one was overloaded; retried until the deadline."""


class QueryCancelled(QueryError):
    """The caller stopped the query before it was whole."""


class NotRecorded(QueryError):
    """The recordings that are replayed have no answer to a query of this shape."""


class IncompleteAnswer(QueryError):
    """The server has more than it answered with."""


class CheckFailed(TableError):
    """A check did not hold."""


class RunbookError(PlatformError):
    """A notebook could not be run, or one of its cells failed."""


class ParameterError(RunbookError):
    """Parameters that a notebook does not take; refused before its kernel starts."""


class RunInterrupted(RunbookError):
    """A run was interrupted; its completed steps need not be done again."""

    def __init__(self, run: str, notebook: str) -> None:
        command = f"platformlib run {notebook} --resume-from {run}"
        super().__init__(f"interrupted; continue with: {command}")
        self.run, self.command = run, command


class CellFailed(RunbookError):
    """A cell of a notebook raised; the notebook was written to `output` with all that came before."""

    def __init__(self, message: str, *, ename: str, evalue: str, output: Path) -> None:
        super().__init__(message, fix=f"see {output}; correct the cause, then run again with --resume")
        self.ename, self.evalue, self.output = ename, evalue, output
