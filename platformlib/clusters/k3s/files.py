"""Many small files in one round trip: each is written beside its target and renamed, and only when it differs."""

from base64 import b64encode
from dataclasses import dataclass

from platformlib.machines import Machine

# Arguments in threes: path, mode, content in base64; mode `-` takes the file away. Prints the paths that changed.
WRITE = """set -eu
while [ $# -gt 0 ]; do
  path=$1 mode=$2 content=$3; shift 3
  if [ "$mode" = - ]; then
    if [ -e "$path" ]; then rm -f "$path"; echo "$path"; fi
    continue
  fi
  mkdir -p "$(dirname "$path")"
  new=$(mktemp "$path.XXXXXX")
  printf %s "$content" | base64 -d > "$new"; chmod "$mode" "$new"
  if cmp -s "$new" "$path" && [ "$(stat -c %a "$path")" = "$mode" ]; then rm -f "$new"; continue; fi
  sync "$new"; mv -f "$new" "$path"; echo "$path"
done"""


@dataclass(frozen=True)
class File:
    """What a path should be: this content in this mode; `content` None means that it should not be there.

    Never a secret: contents pass as arguments. Tokens are written by standard input.
    """

    path: str
    content: str | None
    mode: int = 0o600


def write(machine: Machine, files: list[File]) -> bool:
    """Make all files so, in their order; True when any was changed."""
    arguments = [word for file in files for word in _words(file)]
    return bool(machine.shell(WRITE, *arguments, timeout=120).strip())


def _words(file: File) -> tuple[str, str, str]:
    if file.content is None:
        return file.path, "-", ""
    return file.path, f"{file.mode:o}", b64encode(file.content.encode()).decode()
