"""A Prometheus and a Loki of the bundle as processes of this machine, on loopback, with made data."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

BINARIES = "PLATFORMLIB_TEST_BINARIES"

PROMETHEUS = """\
global: {scrape_interval: 5s}
storage:
  tsdb: {out_of_order_time_window: 60d}
  exemplars: {max_exemplars: 1000}
scrape_configs:
- job_name: prometheus
  scrape_native_histograms: true
  static_configs: [{targets: ["127.0.0.1:PORT"], labels: {node: here}}]
- job_name: nobody
  static_configs: [{targets: ["127.0.0.1:1"]}]
rule_files: [rules.yaml]
"""
RULES = """\
groups:
- name: example
  interval: 5s
  rules:
  - {record: "job:up:sum", expr: sum by (job) (up)}
  - {alert: TargetDown, expr: up == 0, labels: {severity: warning}, annotations: {summary: nobody answers}}
"""
# The limits that matter to a client are the platform's own, or Loki's defaults.
LOKI = """\
auth_enabled: false
server: {http_listen_port: PORT, grpc_listen_port: GRPC, http_listen_address: 127.0.0.1, grpc_listen_address: 127.0.0.1,
  log_level: error, grpc_server_max_recv_msg_size: 268435456, grpc_server_max_send_msg_size: 268435456}
common:
  instance_addr: 127.0.0.1
  path_prefix: FOLDER
  replication_factor: 1
  ring: {kvstore: {store: inmemory}}
  storage: {filesystem: {chunks_directory: FOLDER/chunks, rules_directory: FOLDER/rules}}
schema_config:
  configs: [{from: 2020-01-01, store: tsdb, object_store: filesystem, schema: v13, index: {prefix: i_, period: 24h}}]
pattern_ingester: {enabled: true, lifecycler: {min_ready_duration: 0s}}
ingester: {lifecycler: {min_ready_duration: 0s}}
frontend: {encoding: protobuf}
analytics: {reporting_enabled: false}
limits_config:
  ingestion_rate_mb: 1000
  ingestion_burst_size_mb: 1000
  per_stream_rate_limit: 1GB
  per_stream_rate_limit_burst: 1GB
  reject_old_samples: false
  allow_structured_metadata: true
  volume_enabled: true
"""
PLATFORM_LIMITS = """\
  max_entries_limit_per_query: 50000
  max_query_series: 5000
  discover_service_name: []
  max_query_parallelism: 8
  tsdb_max_query_parallelism: 16
querier: {max_concurrent: 4}
chunk_store_config:
  chunk_cache_config: {embedded_cache: {enabled: true, max_size_mb: 64}}
"""


def binary(name: str) -> Path | None:
    """A program of the bundle, or of the folder that PLATFORMLIB_TEST_BINARIES names; None when there is none."""
    if folder := os.environ.get(BINARIES):
        return path if (path := Path(folder) / name).exists() else None
    try:
        from platformlib.bundle import Bundle

        path = Bundle().binary(name)
    except Exception:
        return None
    return path if path.exists() else None


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(command: list[str], url: str, ready: str, folder: Path, *, deadline: float = 90) -> Iterator[str]:
    """A program from its start until `ready` answers, and to its end afterwards."""
    log = folder / "log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, cwd=folder) as process:
        try:
            _await(f"{url}{ready}", process, log, time.monotonic() + deadline)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _await(url: str, process: "subprocess.Popen[bytes]", log: Path, deadline: float) -> None:
    while True:
        try:
            if httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{url} is not ready: {log.read_text(errors='replace')[-1500:]}")
        time.sleep(0.2)


@contextmanager
def prometheus(program: Path, folder: Path) -> Iterator[str]:
    """A Prometheus that takes remote writes of old samples; gives its URL."""
    port = free_port()
    (folder / "prometheus.yml").write_text(PROMETHEUS.replace("PORT", str(port)))
    (folder / "rules.yaml").write_text(RULES)
    flags = [
        "config.file=prometheus.yml",
        "storage.tsdb.path=data",
        "storage.tsdb.retention.time=400d",
        "log.level=error",
    ]
    flags += ["web.enable-remote-write-receiver", "enable-feature=exemplar-storage"]
    command = [str(program), *(f"--{flag}" for flag in [*flags, f"web.listen-address=127.0.0.1:{port}"])]
    with running(command, f"http://127.0.0.1:{port}", "/-/ready", folder) as url:
        yield url


@contextmanager
def loki(program: Path, folder: Path, *, limits: str = PLATFORM_LIMITS) -> Iterator[str]:
    """A Loki with the platform's limits (or `limits=""` for a foreign one's defaults); gives its URL."""
    port, grpc = free_port(), free_port()
    text = LOKI.replace("PORT", str(port)).replace("GRPC", str(grpc)).replace("FOLDER", str(folder)) + limits
    (folder / "loki.yaml").write_text(text)
    with running([str(program), "-config.file=loki.yaml"], f"http://127.0.0.1:{port}", "/ready", folder) as url:
        yield url
