"""One machine: argv in, status and output out; files written atomically, and only when they differ."""

import hashlib
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from platformlib.errors import CommandFailed, NodeError

# Written beside the target and renamed, so that a lost connection never leaves half a file.
WRITE = """set -eu
mkdir -p "$(dirname "$1")"
new=$(mktemp "$1.XXXXXX"); trap 'rm -f "$new"' EXIT
cat > "$new"; chmod "$2" "$new"
if cmp -s "$new" "$1" && [ "$(stat -c %a "$1")" = "$2" ]; then echo same; exit; fi
sync "$new"; mv -f "$new" "$1"; echo changed"""


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
    """This host, as one node of the cluster; `SshMachine` is the same over SSH."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {self.address})"

    def argv(self, argv: Sequence[str]) -> list[str]:
        """What is really started here for `argv` on the machine."""
        return list(argv)

    def run(
        self, argv: Sequence[str], *, stdin: str | bytes | None = None, timeout: float = 60, check: bool = True
    ) -> Completed:
        """Run `argv` (a list, never a shell line); `timeout` in seconds.

        Raises:
            CommandFailed: a non-zero status, unless `check` is false.
            NodeError: the machine could not be reached, or the deadline passed.
        """
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = self._communicate(self.argv(argv), data, timeout, shlex.join(argv))
        if check and not done.ok:
            raise CommandFailed(self.name, _shown(argv), done.status, done.stdout + done.stderr)
        return done

    def shell(self, script: str, *arguments: str, stdin: str | bytes | None = None, timeout: float = 60) -> str:
        """Run a POSIX shell script with positional arguments; its standard output."""
        return self.run(["sh", "-c", script, "sh", *arguments], stdin=stdin, timeout=timeout).stdout

    def read(self, path: str) -> bytes | None:
        """A file's content; None where there is none."""
        done = self.run(["sh", "-c", '[ -e "$1" ] || exit 44; base64 -w0 "$1"', "sh", path], check=False)
        if done.status == 44:  # noqa: PLR2004 - our own script's status
            return None
        if not done.ok:
            raise CommandFailed(self.name, f"read {path}", done.status, done.stderr)
        from base64 import b64decode

        return b64decode(done.stdout)

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> bool:
        """Make a file have this content and mode; True when it had not."""
        return self.shell(WRITE, path, f"{mode:o}", stdin=content, timeout=120).strip() == "changed"

    def upload(self, source: Path, path: str, mode: int = 0o755) -> bool:
        """Make a file equal to a local one, which is sent only when it differs; True when it was sent."""
        with source.open("rb") as file:
            wanted = hashlib.file_digest(file, "sha256").hexdigest()
        if self.run(["sha256sum", path], check=False).stdout.startswith(wanted):
            return False
        with source.open("rb") as file:
            self.shell(WRITE, path, f"{mode:o}", stdin=file.read(), timeout=600)
        return True

    def _communicate(self, argv: list[str], data: bytes | None, timeout: float, shown: str) -> Completed:
        try:
            # An empty input, not this process's own: a remote command must never read the notebook's standard input.
            done = subprocess.run(argv, input=data or b"", capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise NodeError(self.name, f"`{shown[:120]}` did not end within {timeout:g} s") from None
        return Completed(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def _shown(argv: Sequence[str]) -> str:
    """A command as a person would name it: a long script by its first words."""
    line = " ".join(argv).replace("\n", "; ")
    return line if len(line) <= 100 else line[:97] + "…"  # noqa: PLR2004 - a line's width
