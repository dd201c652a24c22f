"""The configurations that are rendered, given to the programs that will read them."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import Any

import pytest
import yaml

from platformlib.bundle import Bundle
from platformlib.components.prometheus.checks import rule_names
from platformlib.errors import PlatformError
from tests.unit.test_manifests import OBJECTS, settings_with

Files = Callable[[str], Path]


@pytest.fixture
def binary() -> Callable[[str], str]:
    def find(name: str) -> str:
        try:
            path = Bundle().binary(name)
        except PlatformError as error:
            pytest.skip(f"{name} is not in the bundle: {error}")
        if not path.exists():
            pytest.skip(f"{name} is not in the bundle: no {path}")
        return str(path)

    return find


@pytest.fixture
def config(tmp_path: Path) -> Files:
    def write(name: str) -> Path:
        """The files of a ConfigMap, in a folder."""
        folder = tmp_path / name
        folder.mkdir()
        data = next(obj["data"] for obj in OBJECTS if obj["kind"] == "ConfigMap" and obj["metadata"]["name"] == name)
        for key, text in data.items():
            (folder / key).write_text(text)
        return folder

    return write


def run(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env=environment)


def test_loki_accepts_its_configuration(binary: Callable[[str], str], config: Files) -> None:
    done = run(binary("loki"), "-verify-config", f"-config.file={config('loki') / 'loki.yaml'}")
    assert done.returncode == 0, done.stderr


def test_promtail_accepts_its_configuration(binary: Callable[[str], str], config: Files) -> None:
    done = run(binary("promtail"), "-check-syntax", f"-config.file={config('promtail') / 'promtail.yaml'}")
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture
def prometheus(binary: Callable[[str], str], config: Files, tmp_path: Path) -> Any:
    """A running Prometheus with the rendered configuration; discovery has no cluster to ask, and says so in its log."""
    own = config("prometheus") / "prometheus.yaml"
    for name in ("prometheus-rules", "prometheus-scrape"):
        own.write_text(own.read_text().replace(f"/etc/{name}", str(config(name))))
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [
        "--enable-feature=auto-reload-config",
        "--config.auto-reload-interval=1s",
        f"--config.file={own}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    log = tmp_path / "log"
    with log.open("wb") as output, subprocess.Popen([binary("prometheus"), *arguments], stderr=output) as process:
        try:
            yield lambda path: _ask(port, path, process, log)
        finally:
            process.terminate()


def _ask(port: int, path: str, process: subprocess.Popen[bytes], log: Path) -> Any:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.1)


def test_prometheus_accepts_its_configuration_and_every_rule(prometheus: Callable[[str], Any]) -> None:
    loaded = yaml.safe_load(prometheus("/api/v1/status/config")["yaml"])
    assert loaded["scrape_config_files"] and loaded["rule_files"]
    assert loaded["storage"]["tsdb"]["retention"]["time"] == "2d"
    groups = prometheus("/api/v1/rules")["groups"]
    names = [rule["name"] for group in groups for rule in group["rules"]]
    assert sorted(names) == sorted(rule_names(settings_with()))


def test_prometheus_reads_the_file_of_a_new_component_by_itself(
    prometheus: Callable[[str], Any], tmp_path: Path
) -> None:
    prometheus("/api/v1/status/config")
    job = {"job_name": "shop", "static_configs": [{"targets": ["127.0.0.1:1"]}]}
    (tmp_path / "prometheus-scrape" / "shop.yaml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    deadline = time.monotonic() + 30
    while "shop" not in (pools := prometheus("/api/v1/scrape_pools")["scrapePools"]):
        assert time.monotonic() < deadline, pools
        time.sleep(0.2)
