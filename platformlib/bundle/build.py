"""Builds what is missing, one artifact after another; what is finished stays finished, however the build ends."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from platformlib.bundle import disk
from platformlib.bundle.process import StepFailed, run
from platformlib.bundle.recipe import Event, OnEvent, Recipe, Workspace
from platformlib.bundle.store import Store
from platformlib.errors import BundleError

UNFINISHED = ".unfinished"
SHORTEST_DEADLINE = 1800.0  # seconds; else ten times what it usually takes


@dataclass(frozen=True)
class Builder:
    """Makes artifacts into `store`; `keys` has the key of every recipe that there is."""

    store: Store
    keys: Mapping[str, str]
    go_caches: Path
    on_event: OnEvent

    def path(self, name: str) -> Path:
        return self.store.path(name, self.keys[name])

    def build(self, recipes: Sequence[Recipe]) -> None:
        """Reuse what is whole, build the rest; host tools and disk space are checked before anything is built."""
        shutil.rmtree(self.store.root / UNFINISHED, ignore_errors=True)
        missing = [recipe for recipe in recipes if not self._reuse(recipe)]
        require_tools(missing)
        disk.require(self.store.root, missing)
        for recipe in missing:
            self._one(recipe)

    def _reuse(self, recipe: Recipe) -> bool:
        """Is it there, and every byte of it right?"""
        whole = not self.store.damage(self.path(recipe.name))
        if whole:
            self.on_event(Event("reused", recipe.name, expected=recipe.expected_seconds))
        return whole

    def remove_stale(self, known: set[str], *, unknown: bool) -> None:
        """Remove artifacts of other keys: those of the names in `known`, and of names that there are no longer."""
        for name, folder in self.store.folders():
            of_ours = name in known and folder != self.path(name)
            if of_ours or (unknown and name not in self.keys):
                shutil.rmtree(folder)

    def _one(self, recipe: Recipe) -> None:
        self._make_room(recipe)
        start = time.monotonic()
        event = Event("started", recipe.name, expected=recipe.expected_seconds)
        self.on_event(event)

        def beat() -> None:
            self.on_event(replace(event, kind="heartbeat", elapsed=time.monotonic() - start))

        ws = self._workspace(recipe, beat)
        try:
            recipe.make(ws)
        except StepFailed as error:
            raise BundleError(f"{recipe.name} could not be built: {error}", fix=_fix(error)) from None
        seconds = time.monotonic() - start
        self.store.adopt(ws.output, self.path(recipe.name), self._about(recipe, seconds))
        shutil.rmtree(self.store.root / UNFINISHED)
        self.on_event(replace(event, kind="finished", elapsed=seconds))

    def _workspace(self, recipe: Recipe, beat: Any) -> Workspace:
        room, logs = self.store.root / UNFINISHED, self.store.root / "logs"
        shutil.rmtree(room, ignore_errors=True)
        for folder in (room / "output", room / "scratch", logs):
            folder.mkdir(parents=True, exist_ok=True)
        log = logs / f"{recipe.name}.log"
        log.write_bytes(b"")
        deadline = max(SHORTEST_DEADLINE, 10 * recipe.expected_seconds)

        def step(argv: Sequence[str | Path], **options: Any) -> None:
            run(argv, log=log, timeout=deadline, on_beat=beat, **options)

        inputs = {name: self.path(name) for name in recipe.inputs}
        return Workspace(room / "output", room / "scratch", log, inputs, self.go_caches, step)

    def _about(self, recipe: Recipe, seconds: float) -> dict[str, Any]:
        return {"name": recipe.name, "key": self.keys[recipe.name], "seconds": round(seconds, 1)}

    def _make_room(self, recipe: Recipe) -> None:
        """Unrelated modules share little of Go's build cache: it goes when the disk is short."""
        if disk.free(self.store.root) < disk.needed([recipe]) and disk.drop(self.go_caches / "build"):
            self.on_event(Event("cleared", recipe.name, "Go's build cache, the disk being short"))


def require_tools(recipes: Sequence[Recipe]) -> None:
    """Raise `BundleError` naming every program that the host lacks."""
    missing = sorted({tool for recipe in recipes for tool in recipe.tools if not tool.present}, key=lambda t: t.program)
    if missing:
        fix = f"apt-get install {' '.join(dict.fromkeys(tool.package for tool in missing))}"
        raise BundleError(f"this host lacks {', '.join(tool.program for tool in missing)}", fix=fix)


def _fix(error: StepFailed) -> str:
    if "no space left" in str(error).lower():
        return "make room on that disk, then run `platformlib bundle build` again: finished artifacts are kept"
    return "mend the cause that the log shows, then run `platformlib bundle build` again: finished artifacts are kept"
