"""Where a parameters file is, seen from wherever a kernel happens to work."""

from pathlib import Path

from platformlib.errors import Fault, SettingsError


def resolve(path: str | Path, *near: Path) -> Path:
    """A parameters file by a path relative to the working folder, to a folder in `near`, or to a notebook's folder.

    A kernel of JupyterLab works in the notebook's folder, papermill's in the one where it was called;
    the same default has to hold in both.

    Raises:
        SettingsError: no such file; names the places.
    """
    folders = list(dict.fromkeys([Path(), *near, Path("notebooks")]))
    wanted = Path(path).expanduser()
    if found := next((folder / wanted for folder in folders if (folder / wanted).is_file()), None):
        return found
    places = ", ".join(sorted({str((folder / wanted).resolve()) for folder in folders}))
    raise SettingsError([Fault(str(path), f"no such file (looked for {places})", "a parameters file")])
