"""The engine beside `kubectl apply --server-side`, and our client beside others: `python -m benchmarks.engine`.

A real API server with etcd and the controllers runs on loopback; peer and ours take turns. It needs the programs of the
bundle (kubernetes, etcd), or PLATFORMLIB_TEST_BINARIES=FOLDER that has them.
"""

import os
import platform
import subprocess
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import engine_failures, local
from benchmarks.report import measure, table
from tests.api.control_plane import ControlPlane, free_port

PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kubectl")
READY_WITHIN = 60.0  # seconds


@contextmanager
def control_plane(folder: Path) -> Iterator[tuple[str, str]]:
    """kubectl and a kubeconfig of a fresh control plane."""
    kubernetes, etcd = local.binary("kubernetes"), local.binary("etcd")
    if kubernetes is None or etcd is None:
        raise SystemExit(f"no kubernetes or etcd: build the bundle, or set {local.BINARIES}=FOLDER")
    programs = folder / "programs"
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).symlink_to(kubernetes)
    (programs / "etcd").symlink_to(etcd)
    plane = ControlPlane(folder, free_port(), free_port(), free_port())
    plane.write_credentials()
    with ExitStack() as stack:
        for name, arguments in plane.programs().items():
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            argv = [str(programs / name), *arguments]
            process = stack.enter_context(subprocess.Popen(argv, stdout=log, stderr=log))
            stack.callback(process.terminate)
            if name == "kube-apiserver":
                _wait_ready(str(programs / "kubectl"), str(plane.kubeconfig))
        yield str(programs / "kubectl"), str(plane.kubeconfig)


def _wait_ready(kubectl: str, kubeconfig: str) -> None:
    deadline = time.monotonic() + READY_WITHIN
    command = [kubectl, f"--kubeconfig={kubeconfig}", "get", "namespace", "kube-system"]
    while subprocess.run(command, capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            raise SystemExit("the API server did not become ready")
        time.sleep(0.5)


def main() -> None:
    """Print a table for each number of objects, new and unchanged, and one of the clients."""
    parser = ArgumentParser(prog="benchmarks.engine", description=__doc__)
    parser.add_argument("--objects", type=int, nargs="*", default=[1000, 3000, 5000])
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, load {load} when it began.", flush=True)
    with TemporaryDirectory(prefix="benchmarks-") as name, control_plane(Path(name)) as (kubectl, kubeconfig):
        for count in chosen.objects:
            for state in ("new", "unchanged"):
                given = [str(count), state]
                cases = {"kubectl": ["apply_kubectl", kubectl, kubeconfig, *given]}
                cases["platformlib"] = ["apply_ours", kubeconfig, *given]
                found = measure(cases, chosen.repeats)
                print(table(f"{count:,} ConfigMaps, {state}", found, "kubectl"), flush=True)
                ratio = found["platformlib"].median() / found["kubectl"].median()
                print(f"\nplatformlib takes {ratio:.2f} times kubectl's time (medians).", flush=True)
        print(engine_failures.table(), flush=True)
        cases = {name: [f"requests_{case}", kubeconfig, "1000"] for name, case in CLIENTS.items()}
        print(table("1,000 dry-run applies in 8 threads", measure(cases, chosen.repeats), "httpx"), flush=True)


CLIENTS = {"httpx": "httpx", "kubernetes.dynamic": "dynamic", "platformlib (urllib3)": "ours"}


if __name__ == "__main__":
    main()
