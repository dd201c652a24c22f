"""What a running cell does, in place in JupyterLab: its last lines, its seconds, and how long it usually takes.

When the cell has ended, text takes the widget's place: one line, with all lines folded below it.
Where no JupyterLab is, as under papermill, each line is printed as it comes.
"""

import html
import json
import os
import sys
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from platformlib.paths import cache_dir
from platformlib.text import visible

SHOWN, KEPT = 8, 500  # lines while a cell runs, and lines that stay
SOON = 2.0  # seconds after which a silent cell shows that it lives
EARLIER = 5  # runs of a cell that its usual time is made of
SESSION = "JPY_SESSION_NAME"  # is set in kernels of a Jupyter server, not in papermill's
STYLE = "line-height:1.35;font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,13px)"


class Paces:
    """How long cells took before, by the checksum of their source."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _read(self) -> dict[str, list[float]]:
        with suppress(OSError, ValueError):
            found = json.loads(self.path.read_text("utf-8"))
            if isinstance(found, dict):
                return found
        return {}

    def usual(self, source: str) -> float:
        """Seconds that a cell usually takes; 0 where nothing is known."""
        times = self._read().get(key_of(source), [])
        return float(median(times)) if times else 0.0

    def keep(self, source: str, seconds: float) -> None:
        """Remember one more run. Another notebook may write at the same moment: the last one wins, no file is torn."""
        found = self._read()
        found[key_of(source)] = [*found.get(key_of(source), []), round(seconds, 1)][-EARLIER:]
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = self.path.with_suffix(f".{os.getpid()}")
            new.write_text(json.dumps(found), "utf-8")
            new.replace(self.path)


def key_of(source: str) -> str:
    """A short name of a cell's source."""
    return f"{zlib.crc32(source.strip().encode()):08x}"


class Live:
    """Shows the running cell. `say` may be called by any thread."""

    def __init__(self, shell: Any, paces: Paces) -> None:
        self._shell, self._paces, self._lock = shell, paces, threading.RLock()
        self._lines: list[str] = []
        self._widget: Any = None
        self._place: Any = None
        self._began, self._usual, self._source = 0.0, 0.0, ""
        self._done = threading.Event()

    def say(self, line: str) -> None:
        """One more line of the running cell."""
        with self._lock:
            self._lines.append(line)
            self._show()

    def begin(self, info: Any) -> None:
        """A cell starts."""
        with self._lock:
            self._source = str(getattr(info, "raw_cell", "") or "")
            self._lines, self._widget = [], None
            self._began, self._usual = time.monotonic(), self._paces.usual(self._source)
            self._done = threading.Event()
        threading.Thread(target=self._tick, args=(self._done,), daemon=True).start()

    def end(self, result: Any) -> None:
        """The cell has ended: what is left is text."""
        self._done.set()
        with self._lock:
            seconds = time.monotonic() - self._began
            if self._widget is None:
                return
            from IPython.display import HTML

            # In the widget's own place: a notebook that is opened again knows no widget of this kernel.
            page = HTML(folded(self._lines, seconds))  # type: ignore[no-untyped-call]
            self._place.update(page)
            self._widget.close()
            self._widget = None
            if getattr(result, "success", True):
                self._paces.keep(self._source, seconds)

    def _tick(self, done: threading.Event) -> None:
        if done.wait(SOON):
            return
        while not done.is_set():
            with self._lock:
                if not done.is_set():
                    self._show()
            done.wait(1.0)

    def _show(self) -> None:
        seconds = time.monotonic() - self._began
        if self._widget is None:
            self._widget, self._place = self._made()
        bar, text = self._widget.children
        bar.value = min(0.98, seconds / self._usual) if self._usual else 0.0
        bar.layout.visibility = "visible" if self._usual else "hidden"
        text.value = running(self._lines, seconds, self._usual)

    @staticmethod
    def _made() -> tuple[Any, Any]:
        """The widget, and the place where it is shown."""
        from IPython.display import display
        from ipywidgets import HTML, FloatProgress, VBox

        box = VBox([FloatProgress(min=0.0, max=1.0, description=""), HTML()])
        return box, display(box, display_id=True)  # type: ignore[no-untyped-call]


def running(lines: list[str], seconds: float, usual: float) -> str:
    """The seconds so far, and the last lines."""
    of = f" of about {usual:.0f} s" if usual >= SOON else ""
    told = "<br>".join(html.escape(visible(line)) for line in lines[-SHOWN:])
    return f'<div style="{STYLE}"><b>{seconds:.0f} s{of}</b><br>{told}</div>'


def folded(lines: list[str], seconds: float) -> str:
    """All lines, to be unfolded; the last one is seen."""
    if not lines:
        return f'<div style="{STYLE}">{seconds:.0f} s</div>'
    told = "\n".join(html.escape(visible(line)) for line in lines[-KEPT:])
    left = f"\n… and {len(lines) - KEPT} lines before" if len(lines) > KEPT else ""
    head = f"{seconds:.0f} s · {len(lines)} lines · {html.escape(visible(lines[-1]))}"
    return f'<details style="{STYLE}"><summary>{head}</summary><pre>{told}{left}</pre></details>'


class Printed:
    """Prints each line as a whole, whichever thread says it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        """One line."""
        with self._lock:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


_watching: Live | None = None


def watch() -> Live | Printed:
    """Show what the cells of this notebook do from now on; outside of JupyterLab, print it."""
    global _watching  # noqa: PLW0603  one notebook has one view of its running cell
    found = sys.modules.get("IPython")
    shell = found.get_ipython() if found is not None else None
    if shell is None or not os.environ.get(SESSION):
        return Printed()
    if _watching is None:
        _watching = Live(shell, Paces(cache_dir() / "paces.json"))
        shell.events.register("pre_run_cell", _watching.begin)
        shell.events.register("post_run_cell", _watching.end)
        _watching.begin(None)
    return _watching
