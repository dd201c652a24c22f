"""What the tests prove, and when they did: the markers `proves` and `full`, the parts of `scripts/test full`, the seed.

A test says what it proves with `@pytest.mark.proves("claim", room="kube")`; a room is a folder or module below
platformlib. A run with `--prove` writes docs/proof.md: a row for each claim with its date and commit. A row is stale
once its room or its test has changed since. Tests marked `full` run only with `--full`.

    python -m tests.proof [PART ...]     run parts, one pytest each; without a name, all that have not passed at HEAD
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from platformlib.lab import remove

ROOT = Path(__file__).parents[1]
PROOF = ROOT / "docs" / "proof.md"
SUITES = ("unit", "api", "servers", "notebooks")
# Of tests/lab, those with a small lab of their own come first, then what looks at a platform that nobody has touched
# (probes of the network ask DNS for the root). Those that change what others look at come last, and
# the one that compares the host with what it was at the very end.
FIRST = ("lab", "k3s", "uninstall", "dry_run", "platform")
LAST = ("moved", "upgrade", "kill", "host")
TEST_LAB = "platformlib-test"
HOUR = 3600
SEED = int(os.environ.get("PLATFORMLIB_SEED") or time.time_ns() % 2**32)
HEADER = """# What was proven

Written by `scripts/test full`. A row is *stale* once its room or its test has changed since the commit it names.

"""
COLUMNS = ("claim", "room", "state", "date", "commit", "test")
PART_COLUMNS = ("part", "result", "date", "commit", "minutes", "passed", "failed", "skipped")


@dataclass(frozen=True)
class Row:
    """One claim: `state` is proven, failed, or why it was not run."""

    claim: str
    room: str
    state: str
    date: str
    commit: str
    test: str

    @property
    def anchor(self) -> str:
        """What README and CHANGELOG link to: docs/proof.md#ANCHOR."""
        return self.test.rsplit("::", 1)[-1].removeprefix("test_").replace("_", "-")


@dataclass(frozen=True)
class Part:
    """The last run of one part."""

    part: str
    result: str
    date: str
    commit: str
    minutes: str
    passed: str
    failed: str
    skipped: str


@dataclass
class Proof:
    """docs/proof.md, read and written."""

    rows: dict[str, Row] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path = PROOF) -> "Proof":
        found = cls()
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if len(cells) == len(COLUMNS) and cells[0].startswith("<a id="):
                cells[0] = cells[0].split("</a>", 1)[1]
                cells[2], cells[5] = cells[2].split(", stale", 1)[0], cells[5].strip("`")
                row = Row(*cells)
                found.rows[row.claim] = row
            elif len(cells) == len(PART_COLUMNS) and cells[0] not in ("part", "---"):
                found.parts[cells[0]] = Part(*cells)
        return found

    def text(self) -> str:
        """The page: claims by room, parts, and what was not run."""
        rows = sorted(self.rows.values(), key=lambda row: (row.room, row.claim))
        lines = [_table(COLUMNS)]
        for row in rows:
            claim, state = f'<a id="{row.anchor}"></a>{row.claim}', row.state + stale(row)
            lines.append(_line(claim, row.room, state, row.date, row.commit, f"`{row.test}`"))
        lines += ["\n## Parts\n", _table(PART_COLUMNS)]
        lines += [
            _line(*vars(part).values()) for name, part in sorted(self.parts.items(), key=lambda it: _order(it[0]))
        ]
        lines += ["\n## Not run\n", *self._not_run(rows)]
        return HEADER + "\n".join(lines) + "\n"

    def _not_run(self, rows: list[Row]) -> list[str]:
        missing = [f"- part `{name}`" for name in parts() if name not in self.parts]
        missing += [f"- {row.claim}: {row.state}" for row in rows if row.state not in ("proven", "failed")]
        return missing or ["Everything was run."]

    def write(self, path: Path = PROOF) -> None:
        """Write the page; a reader finds the old one or the new one."""
        new = path.with_suffix(".new")
        new.write_text(self.text(), "utf-8")
        new.replace(path)


def _table(columns: Iterable[str]) -> str:
    names = list(columns)
    return f"{_line(*names)}\n|{'---|' * len(names)}"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def git(*arguments: str) -> str:
    """What git says of this repository; nothing where there is none."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def commit() -> str:
    """The commit of the work tree, with a plus where it has changes beyond the page itself."""
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{PROOF.relative_to(ROOT)}")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def room_path(room: str) -> Path | None:
    """A room's folder or module; None if there is no such room."""
    places = (ROOT / "platformlib" / room, ROOT / "platformlib" / f"{room}.py", ROOT / room)
    return next((place for place in places if place.exists()), None)


def stale(row: Row) -> str:
    """`, stale since COMMIT` if the row's room or test has changed since it was run."""
    place = room_path(row.room)
    if row.state not in ("proven", "failed") or place is None:
        return ""
    base, test = row.commit.rstrip("+"), row.test.split("::")[0]
    changed = git("log", "--format=%h", f"{base}..HEAD", "--", str(place), test).splitlines()
    return f", stale since {changed[-1]}" if changed else ""


def parts() -> list[str]:
    """Every part: a suite, or of tests/lab one module."""
    modules = [path.stem.removeprefix("test_") for path in (ROOT / "tests" / "lab").glob("test_*.py")]
    return sorted([*SUITES, *modules], key=_order)


def _order(part: str) -> tuple[int, int, str]:
    suite = SUITES.index(part) if part in SUITES else len(SUITES)
    place = LAST.index(part) + 1 if part in LAST else FIRST.index(part) - len(FIRST) if part in FIRST else 0
    return suite, place, part


def part_of(path: Path) -> str:
    """The part that a test module belongs to."""
    if not path.is_relative_to(ROOT / "tests"):
        return "other"
    suite = path.relative_to(ROOT / "tests").parts[0]
    return path.stem.removeprefix("test_") if suite == "lab" else suite


# The plugin.


@pytest.fixture(scope="session")
def seed() -> int:
    """The seed of whatever is drawn at random; `PLATFORMLIB_SEED` repeats a run."""
    return SEED


def pytest_report_header() -> str:
    return f"seed: {SEED} (PLATFORMLIB_SEED={SEED} draws the same again)"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("proof")
    group.addoption("--full", action="store_true", help="run the tests marked `full` as well")
    group.addoption("--part", choices=parts(), help="run this part alone")
    group.addoption("--prove", action="store_true", help="write docs/proof.md")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "proves(claim, room): what the test proves, and the room that it is about")
    config.addinivalue_line("markers", "full: too long for every run; `scripts/test full` runs it")
    config.pluginmanager.register(Recorder(config), "proof-recorder")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _order(part_of(item.path)))
    part, full = config.getoption("--part"), config.getoption("--full")
    kept = [
        item
        for item in items
        if (full or item.get_closest_marker("full") is None) and part in (None, part_of(item.path))
    ]
    for item in kept:
        for mark in item.iter_markers("proves"):
            if room_path(mark.kwargs["room"]) is None:
                raise pytest.UsageError(f"{item.nodeid}: there is no room {mark.kwargs['room']!r}")
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


class Recorder:
    """Keeps how each test ended, and writes the page at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.began = time.monotonic()
        self.outcomes: dict[str, str] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.claims: dict[str, list[tuple[str, str]]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            self.claims[item.nodeid] = [(mark.args[0], mark.kwargs["room"]) for mark in item.iter_markers("proves")]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        before = self.outcomes.get(report.nodeid, "proven")
        if report.failed:
            self.outcomes[report.nodeid] = "failed"
        elif report.skipped and before != "failed":
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.outcomes[report.nodeid] = f"not run: {reason.removeprefix('Skipped: ')}"
        else:
            self.outcomes.setdefault(report.nodeid, "proven")
        self.seconds[part_of(ROOT / report.nodeid.split("::")[0])] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if len(self.seconds) > 1:
            said = ", ".join(f"{part} {self.seconds[part]:.0f}" for part in sorted(self.seconds, key=_order))
            terminalreporter.write_line(f"seconds by part: {said}")

    def pytest_sessionfinish(self) -> None:
        if self.config.getoption("--prove"):
            proof = Proof.read()
            self.note(proof, f"{datetime.now(UTC):%Y-%m-%d}", commit())
            proof.write()

    def note(self, proof: Proof, date: str, at: str) -> None:
        """Put this run's outcomes into the page. A claim of several tests holds if all of them hold."""
        by_claim: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for test, claims in self.claims.items():
            for key in claims:
                by_claim[key].append(test)
        for (claim, room), tests in by_claim.items():
            states = [self.outcomes.get(test, "not run: the run ended before") for test in tests]
            worst = "failed" if "failed" in states else next((it for it in states if it != "proven"), "proven")
            ran = worst in ("proven", "failed")
            if ran or claim not in proof.rows or proof.rows[claim].state not in ("proven", "failed"):
                test = tests[0].split("[")[0]
                proof.rows[claim] = Row(claim, room, worst, date if ran else "", at if ran else "", test)
        if part := self.config.getoption("--part"):
            kinds = ("proven", "failed", "not run")
            counts = [sum(it.startswith(kind) for it in self.outcomes.values()) for kind in kinds]
            complete = len(self.outcomes) == len(self.claims) and not counts[1]
            minutes = f"{(time.monotonic() - self.began) / 60:.1f}"
            result = "passed" if complete else "failed"
            proof.parts[part] = Part(part, result, date, at, minutes, *map(str, counts))


# The command.


def main() -> int:
    """Run parts, each in a pytest of its own; 1 if one of them failed."""
    named = sys.argv[1:]
    if unknown := set(named) - set(parts()):
        sys.stderr.write(f"no part {', '.join(sorted(unknown))}; one of {', '.join(parts())}\n")
        return 2
    wanted = named or parts()
    failed = [part for part in wanted if (named or not _passed(part)) and not run(part)]
    if os.geteuid() == 0:
        remove(TEST_LAB)
    said = f"failed: {', '.join(failed)}" if failed else f"passed: {', '.join(wanted)}"
    sys.stdout.write(f"{said}; see docs/proof.md\n")
    return 1 if failed else 0


def _passed(part: str) -> bool:
    done = Proof.read().parts.get(part)
    if done is None or (done.result, done.commit) != ("passed", commit()) or done.commit.endswith("+"):
        return False
    sys.stdout.write(f"{part}: passed at {done.commit} on {done.date}\n")
    return True


def run(part: str, *, limit: float = HOUR) -> bool:
    """One part in a pytest of its own; interrupted after an hour, so that it still cleans up."""
    where = part if part in SUITES else f"lab/test_{part}.py"
    # The program, not the module: under `python -m` click calls every command `python -m …` in its help.
    pytest_program = str(Path(sys.executable).with_name("pytest"))
    argv = [pytest_program, f"tests/{where}", "--full", "--prove", f"--part={part}", "--durations=15"]
    process = subprocess.Popen(argv, cwd=ROOT, env=os.environ | {"KEEP_LAB": "1"})
    try:
        return process.wait(limit) == 0
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"{part}: longer than an hour; split it\n")
    except KeyboardInterrupt:
        process.wait()
        raise
    process.send_signal(signal.SIGINT)
    process.wait()
    return False


if __name__ == "__main__":
    sys.exit(main())
