"""Building: what is kept, what is made again, what is refused, and what a killed build leaves."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platformlib.bundle import Bundle, Event, Recipe, Tool, Workspace
from platformlib.bundle import disk as room
from platformlib.bundle.lock import exclusive
from platformlib.bundle.process import StepFailed, run
from platformlib.bundle.store import keys
from platformlib.errors import BundleError, ChecksumMismatch, DiskSpaceError
from tests.unit.bundle_toys import etc, image_of, shell, toy

REPOSITORY = Path(__file__).parents[2]


def kinds(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.kind, event.artifact) for event in events]


def built(cache: Path, recipes: list[Recipe], until: str | None = None) -> tuple[Bundle, list[tuple[str, str]]]:
    events: list[Event] = []
    bundle = Bundle(cache, recipes)
    bundle.build(until, on_event=events.append)
    return bundle, kinds(events)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


def test_second_build_reuses_everything(cache: Path) -> None:
    recipes = [toy("one"), toy("two", inputs=("one",))]
    built(cache, recipes)
    bundle, events = built(cache, recipes)
    assert events == [("reused", "one"), ("reused", "two")]
    assert bundle.binary("one").read_text() == "v1"


def test_changed_pin_rebuilds_it_and_what_stands_on_it_and_removes_the_old(cache: Path) -> None:
    built(cache, [toy("one"), toy("two", inputs=("one",)), toy("three")])
    bundle, events = built(cache, [toy("one", "v2"), toy("two", inputs=("one",)), toy("three")])
    assert [name for kind, name in events if kind == "finished"] == ["one", "two"]
    assert sorted(path.name for path in cache.glob("*-*")) == sorted(item.path.name for item in bundle.artifacts())


def test_an_optional_program_is_built_with_what_is_made_of_it_only_when_it_is_named(cache: Path) -> None:
    more, image = replace(toy("more"), optional=True), replace(toy("more-image", inputs=("more",)), optional=True)
    recipes = [toy("one"), more, image]
    bundle, events = built(cache, recipes)
    assert [name for kind, name in events if kind == "finished"] == ["one"]
    assert [artifact.name for artifact in bundle.artifacts()] == ["one"]
    Bundle(cache, recipes).build(extra=["more"])
    assert bundle.binary("more").read_text() == "v1"
    built(cache, recipes)
    assert bundle.binary("more").exists(), "a later build without it keeps it"
    with pytest.raises(BundleError, match=r"nothing optional: one\n  fix: one of more, more-image"):
        Bundle(cache, recipes).build(extra=["one"])


def test_until_builds_the_layers_up_to_it_alone(cache: Path) -> None:
    recipes = [toy("low"), toy("middle", layer="storage"), toy("high", layer="observability")]
    bundle, events = built(cache, recipes, "storage")
    assert [name for kind, name in events if kind == "finished"] == ["low", "middle"]
    assert dict(zip(bundle.table()["name"], bundle.table()["state"], strict=True))["high"] == "missing"


@pytest.mark.parametrize("call", [lambda b: b.build("nowhere"), lambda b: b.artifacts("nowhere")])
def test_unknown_layer_is_refused_by_name(cache: Path, call: Callable[[Bundle], object]) -> None:
    with pytest.raises(BundleError, match=r"no layer 'nowhere'[\s\S]*observability"):
        call(Bundle(cache, [toy("one")]))


def test_what_is_not_built_or_not_known_is_said(cache: Path) -> None:
    bundle = Bundle(cache, [toy("one")])
    with pytest.raises(BundleError, match=r"no one yet[\s\S]*bundle build"):
        bundle.binary("one")
    with pytest.raises(BundleError, match="no artifact 'two'"):
        bundle.binary("two")
    with pytest.raises(BundleError, match="not built: one"):
        bundle.verify()


names = st.sampled_from("abcde")


@settings(deadline=None)
@given(data=st.data())
def test_a_key_follows_from_the_pins_below_it_and_nothing_else(data: st.DataObject) -> None:
    order = "abcde"
    inputs = {name: tuple(data.draw(st.sets(st.sampled_from(order[:at])) if at else st.just(set())))
              for at, name in enumerate(order)}  # fmt: skip
    recipes = {name: toy(name, inputs=inputs[name]) for name in order}
    changed = data.draw(names)
    other = data.draw(
        st.sampled_from([toy(changed, "v2", inputs=inputs[changed]), replace(recipes[changed], version=2)])
    )
    after = keys(recipes | {changed: other})

    def stands_on_it(name: str) -> bool:
        return name == changed or any(stands_on_it(item) for item in inputs[name])

    before = keys(recipes)
    assert {name for name in order if before[name] != after[name]} == {name for name in order if stands_on_it(name)}
    assert keys({name: replace(recipe, expected_seconds=9, size=9) for name, recipe in recipes.items()}) == before


def test_failed_step_names_artifact_last_lines_log_and_fix_and_keeps_the_rest(cache: Path) -> None:
    broken = shell("broken", "sh", "-c", "seq 1 100 >&2; echo no such module >&2; exit 3")
    with pytest.raises(BundleError) as caught:
        Bundle(cache, [toy("one"), broken]).build()
    text = str(caught.value)
    assert "broken could not be built" in text
    assert "status 3" in text
    assert "no such module" in text
    assert "    82\n" in text
    assert "    81\n" not in text
    assert str(cache / "logs" / "broken.log") in text
    assert "bundle build" in caught.value.fix
    assert built(cache, [toy("one"), shell("broken", "true")])[1][0] == ("reused", "one")


def test_step_that_hangs_meets_its_deadline_with_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformlib.bundle.process.HEARTBEAT", 0.05)
    beats: list[float] = []
    with pytest.raises(StepFailed, match=r"still running after 0 s[\s\S]*begun"):
        run(["sh", "-c", "echo begun; sleep 60"], log=tmp_path / "log", timeout=0.4, on_beat=lambda: beats.append(0))
    assert len(beats) >= 3


def test_missing_programs_are_all_named_before_anything_is_built(cache: Path) -> None:
    tools = (Tool("no-such-compiler", "gcc-of-dreams"), Tool("no-such-linker", "binutils-of-dreams"))
    events: list[Event] = []
    with pytest.raises(
        BundleError, match=r"no-such-compiler, no-such-linker[\s\S]*apt-get install gcc-of-dreams binut"
    ):
        Bundle(cache, [toy("one"), replace(toy("two"), tools=tools)]).build(on_event=events.append)
    assert events == []


@pytest.mark.parametrize(("free", "fits"), [(16_000_000_000, True), (15_999_999_999, False)])
def test_room_is_asked_for_what_stays_and_the_worst_moment(cache: Path, free: int, fits: bool) -> None:
    recipes = [replace(toy(name), size=5_000_000_000, peak=peak) for name, peak in [("a", 10), ("b", 5_000_000_000)]]
    if fits:
        room.require(cache, recipes, lambda _: free)
    else:
        with pytest.raises(DiskSpaceError, match=rf"{cache}: the bundle needs 16.0 GB there, 16.0 GB are free"):
            room.require(cache, recipes, lambda _: free)


def test_full_disk_is_noticed_before_the_first_artifact(cache: Path) -> None:
    recipes = [toy("one"), replace(toy("two"), size=10**18)]
    with pytest.raises(DiskSpaceError, match="PLATFORMLIB_CACHE"):
        built(cache, recipes)
    assert Bundle(cache, recipes).artifacts()[0].state == "missing"


@pytest.mark.parametrize(("keep", "kept"), [("", False), ("1", True)])
def test_go_caches_go_when_the_bundle_is_whole(
    cache: Path, monkeypatch: pytest.MonkeyPatch, keep: str, kept: bool
) -> None:
    monkeypatch.setenv(room.KEEP_GO_CACHE, keep)
    modules = cache.parent / "go" / "mod" / "read-only"
    modules.mkdir(parents=True)
    (modules / "file").write_text("x")
    modules.chmod(0o500)
    recipes = [toy("low"), toy("high", layer="observability")]
    built(cache, recipes, "cluster")
    assert modules.exists()
    built(cache, recipes)
    assert modules.exists() is kept


def test_go_build_cache_goes_when_the_disk_is_short(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache.parent / "go" / "build").mkdir(parents=True)
    answers = iter([10**12, 10**6])  # enough in the beginning, not for the second artifact
    monkeypatch.setattr(room, "free", lambda _: next(answers))
    monkeypatch.setattr(room, "require", lambda *_: None)
    events = built(cache, [toy("one"), toy("two")])[1]
    assert events[2] == ("cleared", "two")
    assert not (cache.parent / "go" / "build").exists()


def flip(path: Path, offset: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset % len(content)] ^= 1 << bit
    path.write_bytes(content)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    cache = tmp_path_factory.mktemp("whole") / "bundle"
    return built(cache, [etc(), toy("one", "some content"), image_of("one", "pause")])[0]


@settings(deadline=None, max_examples=40)
@given(pick=st.integers(0, 10**6), offset=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found_and_mended_by_a_build(whole: Bundle, pick: int, offset: int, bit: int) -> None:
    stored = [path for path in sorted(whole.cache.rglob("*")) if path.is_file() and path.stat().st_size]
    files = [path for path in stored if path.name not in {".lock", "manifest.json"} and path.parent.name != "logs"]
    victim = files[pick % len(files)]
    flip(victim, offset, bit)
    twins = "|".join(re.escape(str(path)) for path in files if path.samefile(victim))  # hard links of one file
    with pytest.raises(ChecksumMismatch, match=rf"({twins}): expected[\s\S]*found[\s\S]*bundle build"):
        whole.verify()
    whole.build()
    assert whole.verify()["ok"].all()


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"files": 3}', "\x00\x01"])
def test_unreadable_record_means_that_it_is_built_again(cache: Path, record: str) -> None:
    bundle, _ = built(cache, [toy("one")])
    (bundle.artifacts()[0].path / "manifest.json").write_text(record)
    assert bundle.artifacts()[0].state == "missing"
    assert built(cache, [toy("one")])[1][-1] == ("finished", "one")


def test_file_too_many_or_too_few_makes_it_unfinished(cache: Path) -> None:
    bundle, _ = built(cache, [toy("one")])
    extra = bundle.binary("one").parent / "extra"
    extra.write_text("x")
    with pytest.raises(BundleError, match="not built: one"):
        bundle.verify()
    extra.unlink()
    assert bundle.verify()["ok"].all()
    bundle.binary("one").unlink()
    with pytest.raises(BundleError, match="not built: one"):
        bundle.verify()


# A shell starts what it puts into the background with SIGINT ignored, and so would be all that these tests start.
SLOW = """
import signal
import sys
from pathlib import Path
from platformlib.bundle import Bundle
from tests.unit.bundle_toys import shell, toy
signal.signal(signal.SIGINT, signal.default_int_handler)
Bundle(Path(sys.argv[1]), [toy("one"), shell("slow", "sh", "-c", "echo $$ > {pid}; exec sleep 600")]).build()
"""


def started(cache: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A build in another process, in the middle of its second artifact; and the process that it waits for."""
    pid = cache.parent / "pid"
    builder = subprocess.Popen([sys.executable, "-c", SLOW.format(pid=pid), str(cache)], cwd=REPOSITORY)
    wait_for(lambda: pid.exists() and bool(pid.read_text().strip()))
    return builder, int(pid.read_text())


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def interrupted(cache: Path) -> tuple[Path, int]:
    """A cache whose build was killed in the middle, and its child's number."""
    builder, child = started(cache)
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    return cache, child


def test_killed_build_goes_on_where_it_was(interrupted: tuple[Path, int]) -> None:
    cache, child = interrupted
    wait_for(lambda: not alive(child))  # no orphan writes on
    bundle, events = built(cache, [toy("one"), toy("slow", "quick now")])
    assert events == [("reused", "one"), ("started", "slow"), ("finished", "slow")]
    assert not (cache / ".unfinished").exists()
    assert bundle.verify()["ok"].all()


def test_second_build_waits_and_names_the_first(cache: Path) -> None:
    builder, child = started(cache)
    said: list[Event] = []
    both = rf"process {builder.pid}\b[\s\S]*kill {builder.pid}"
    with pytest.raises(BundleError, match=both), exclusive(cache / ".lock", said.append, patience=0.2, pause=0.05):
        pytest.fail("two builds at once")
    assert f"(process {builder.pid})" in said[0].message

    def interrupt(_: Event) -> None:
        builder.send_signal(signal.SIGINT)

    with exclusive(cache / ".lock", interrupt, patience=20, pause=0.05):
        assert builder.wait() != 0
    assert not alive(child)


def test_output_of_one_build_never_shows_before_it_is_whole(cache: Path) -> None:
    seen: list[bool] = []

    def make(ws: Workspace) -> None:
        (ws.output / "half").write_text("x")
        seen.append(any(cache.glob("one-*")))

    bundle, _ = built(cache, [Recipe("one", "cluster", make)])
    assert seen == [False]
    assert (bundle.artifacts()[0].path / "half").read_text() == "x"
