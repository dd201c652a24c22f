"""One machine: argv in, status and output out; files arrive whole and checked, or the old one stays.

`run` and `shell` are for reading. Whatever changes the machine goes through `change`, `change_shell`, `write`, `upload`
or `remove`, which a machine made with `dry_run=True` refuses.
"""

import hashlib
import os
import shlex
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from platformlib.errors import CommandFailed, DryRunRefused, NodeError, TransferFailed

T = TypeVar("T")
Source = bytes | IO[bytes]

# $1 path, $2 mode, $3 length, $4 SHA-256. Written beside the target, compared, and only then renamed over it: whatever
# is lost on the way, the path has the old content or the new one. The first `find` removes what a crash left behind.
RECEIVE = """set -eu
dir=$(dirname "$1"); mkdir -p "$dir"
find "$dir" -maxdepth 1 -name '.platformlib.??????' -mmin +60 -delete
new=$(mktemp "$dir/.platformlib.XXXXXX"); trap 'rm -f "$new"' EXIT; trap 'exit 1' HUP INT PIPE TERM
cat > "$new"
got="$(stat -c %s "$new") $(sha256sum < "$new" | cut -c1-64)"
if [ "$got" != "$3 $4" ]; then echo "$got"; exit 46; fi
chmod "$2" "$new"
if cmp -s "$new" "$1" && [ "$(stat -c %a "$1")" = "$2" ]; then echo same; exit; fi
sync "$new"; mv -fT "$new" "$1"; echo changed"""
# $1 path. The file is read once; the sum of what was read follows on standard error. A read error spoils the sum.
SEND = """[ -e "$1" ] || exit 44
set -e; exec < "$1"
{ { tee /dev/fd/3 || printf x; } | sha256sum | sed 's/^/platformlib /' >&2; } 3>&1 | cat"""
REMOVE = '[ -e "$1" ] || [ -L "$1" ] || exit 0; rm -f "$1"; echo removed'
TRANSFER = 600.0  # seconds for one file
MISSING, INCOMPLETE = 44, 46  # statuses of these scripts


@dataclass(frozen=True)
class Completed:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.status == 0


class Machine:
    """This host as one machine of the cluster; `SshMachine` is the same over SSH.

    Args:
        dry_run: refuse everything that would change the machine.
    """

    def __init__(self, name: str, address: str, *, dry_run: bool = False) -> None:
        self.name, self.address, self.dry_run = name, address, dry_run

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {self.address}{', dry run' if self.dry_run else ''})"

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The command line that this host starts to run `argv` on the machine."""
        return list(argv)

    def run(
        self, argv: Sequence[str], *, stdin: str | bytes | None = None, timeout: float = 60, check: bool = True
    ) -> Completed:
        """Run a command that reads; use `change` for one that changes the machine.

        Args:
            argv: a list, never a shell line.
            timeout: in seconds.
            check: raise on a non-zero status.

        Raises:
            CommandFailed: a non-zero status.
            NodeError: the machine could not be reached, the connection was lost, or the deadline passed.
        """
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = self._execute(argv, data or b"", timeout)
        if check and not done.ok:
            raise CommandFailed(self.name, _shown(argv), done.status, done.stdout + done.stderr)
        return done

    def shell(self, script: str, *arguments: str, stdin: str | bytes | None = None, timeout: float = 60) -> str:
        """Run a POSIX shell script that reads, with positional arguments; its standard output."""
        return self.run(["sh", "-c", script, "sh", *arguments], stdin=stdin, timeout=timeout).stdout

    def change(
        self, argv: Sequence[str], *, stdin: str | bytes | None = None, timeout: float = 60, check: bool = True
    ) -> Completed:
        """Run a command that changes the machine; as `run` otherwise.

        Raises:
            DryRunRefused: this handle may only read.
        """
        self._refuse(_shown(argv))
        return self.run(argv, stdin=stdin, timeout=timeout, check=check)

    def change_shell(self, script: str, *arguments: str, stdin: str | bytes | None = None, timeout: float = 60) -> str:
        """Run a POSIX shell script that changes the machine; as `shell` otherwise. Raises DryRunRefused."""
        return self.change(["sh", "-c", script, "sh", *arguments], stdin=stdin, timeout=timeout).stdout

    def read(self, path: str) -> bytes | None:
        """A file's content, whole; None where there is no file. Raises TransferFailed."""
        import tempfile

        with tempfile.TemporaryFile() as file:
            return file.read() if self._fetch(path, file) else None

    def download(self, path: str, target: Path, mode: int = 0o600) -> bool:
        """Copy a file to this host; False where there is no file. The target is replaced only by the whole content.

        Raises:
            TransferFailed: it arrived incomplete; the target is unchanged.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with os.fdopen(os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as file:
                if not self._fetch(path, file):
                    return False
                os.fsync(file.fileno())
            new.chmod(mode)
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
        return True

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> bool:
        """Make a file have this content and mode; True when it was changed. Raises DryRunRefused, TransferFailed."""
        data = content.encode() if isinstance(content, str) else content
        return self._store(path, data, len(data), hashlib.sha256(data).hexdigest(), mode)

    def upload(self, source: Path, path: str, mode: int = 0o755) -> bool:
        """Make a file equal to a local one, which is sent only when it differs; True when it was sent.

        Raises:
            DryRunRefused: this handle may only read.
            TransferFailed: it arrived incomplete; the old file is still in place.
        """
        self._refuse(f"upload {path}")
        with source.open("rb") as file:
            wanted = hashlib.file_digest(file, "sha256").hexdigest()
            if self.run(["sha256sum", path], check=False).stdout.startswith(wanted):
                return False
            file.seek(0)
            return self._store(path, file, source.stat().st_size, wanted, mode)

    def remove(self, path: str) -> bool:
        """Delete one file; True when it was there. Raises DryRunRefused."""
        return self.change_shell(REMOVE, path).strip() == "removed"

    def _store(self, path: str, content: Source, length: int, digest: str, mode: int) -> bool:
        self._refuse(f"write {path}")
        argv = ["sh", "-c", RECEIVE, "sh", path, f"{mode:o}", str(length), digest]
        done = self._execute(argv, content, TRANSFER)
        if done.status == INCOMPLETE:
            raise TransferFailed(self.name, f"{path}: {done.stdout.split()[0]} of {length} bytes arrived")
        if not done.ok:
            raise CommandFailed(self.name, f"write {path}", done.status, done.stdout + done.stderr)
        return done.stdout.strip() == "changed"

    def _fetch(self, path: str, sink: IO[bytes]) -> bool:
        """Copy a file into `sink`, compare length and sum, and rewind; False where there is no file."""
        done = self._execute(["sh", "-c", SEND, "sh", path], b"", TRANSFER, sink=sink)
        if done.status == MISSING:
            return False
        if not done.ok:
            raise CommandFailed(self.name, f"read {path}", done.status, done.stderr)
        length = sink.seek(0, os.SEEK_END)
        sink.seek(0)
        digest = hashlib.file_digest(sink, "sha256").hexdigest()  # type: ignore[arg-type]
        if done.stderr.split()[-3:-1] != ["platformlib", digest]:
            said = done.stderr.strip().splitlines()[:1]
            raise TransferFailed(self.name, f"{path}: the {length} bytes that arrived are not the whole file {said}")
        sink.seek(0)
        return True

    def _refuse(self, what: str) -> None:
        if self.dry_run:
            raise DryRunRefused(f"{self.name}: a dry run changes nothing; refused: {what}")

    def _execute(
        self, argv: Sequence[str], source: Source, timeout: float, *, sink: IO[bytes] | None = None
    ) -> Completed:
        """Run `argv` with `source` as its standard input, which is never this process's own; output into `sink`."""
        given: dict[str, Any] = {"input": source} if isinstance(source, bytes) else {"stdin": source}
        out = sink or subprocess.PIPE
        try:
            done: subprocess.CompletedProcess[bytes] = subprocess.run(
                self.argv(argv), stdout=out, stderr=subprocess.PIPE, timeout=timeout, check=False, **given
            )
        except subprocess.TimeoutExpired:
            shown = shlex.join(argv)[:120]
            raise NodeError(self.name, f"`{shown}` did not end within {timeout:g} s") from None
        said = (done.stdout or b"").decode(errors="replace")
        return Completed(done.returncode, said, done.stderr.decode(errors="replace"))


def _shown(argv: Sequence[str]) -> str:
    """A command as a person would name it: a long script by its first words."""
    line = " ".join(argv).replace("\n", "; ")
    return line if len(line) <= 100 else line[:97] + "…"  # noqa: PLR2004 - a line's width


def each(machines: Iterable[Machine], work: Callable[[Machine], T]) -> dict[str, T]:
    """Run `work` for every machine in parallel; results by machine name.

    Raises:
        NodeError: the failure, or all failures together, after every machine has ended its work.
    """
    targets = list(machines)
    with ThreadPoolExecutor(max_workers=max(len(targets), 1)) as pool:
        futures = {machine.name: pool.submit(work, machine) for machine in targets}
    failures = {name: error for name, future in futures.items() if (error := future.exception())}
    if len(failures) == 1:
        raise next(iter(failures.values()))
    if failures:
        raise NodeError(", ".join(failures), "\n  ".join(["all of these failed", *map(str, failures.values())]))
    return {name: future.result() for name, future in futures.items()}
