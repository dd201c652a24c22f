"""What `benchmarks.engine` measures, each in a process of its own: applying objects, and sending single requests."""

import json
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Work = Callable[[], int]
Object = dict[str, Any]
SENDERS = 8  # threads of the request cases


def objects(count: int) -> list[Object]:
    """ConfigMaps of five keys, in a namespace that no other run has."""
    space = f"bench-{time.time_ns()}"
    made: list[Object] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}]
    data = {f"key-{number}": "v" * 40 for number in range(5)}
    for number in range(count):
        about = {"name": f"object-{number}", "namespace": space, "labels": {"app": "bench"}}
        made.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data})
    return made


def apply_ours(kubeconfig: str, count: str, state: str) -> Work:
    """`Kube.apply`: planned by the server's dry run, recorded, applied. `state` is new or unchanged."""
    import pandas as pd  # noqa: F401  of which the result table is made

    from platformlib.kube import Kube

    kube, made = Kube.connect(Path(kubeconfig)), objects(int(count))
    layer = made[0]["metadata"]["name"]
    expected = {"new": "created", "unchanged": "unchanged"}[state]

    def work() -> int:
        return int((kube.apply(made, layer=layer)["action"] == expected).sum())

    if state == "unchanged":
        work()
    else:
        kube.version()
    return work


def apply_kubectl(kubectl: str, kubeconfig: str, count: str, state: str) -> Work:
    """`kubectl apply --server-side` of the same objects from one file."""
    made = objects(int(count))
    path = Path(f"/tmp/{made[0]['metadata']['name']}.json")  # noqa: S108  removed below
    command = [kubectl, f"--kubeconfig={kubeconfig}", "apply", "--server-side", f"--filename={path}"]

    def work() -> int:
        path.write_text("\n---\n".join(map(json.dumps, made)))
        try:
            done = subprocess.run(command, capture_output=True, check=True)
        finally:
            path.unlink()
        return len(done.stdout.splitlines())

    if state == "unchanged":
        work()
    return work


def _sent(count: str, send: Callable[[Object], Any], threads: int = SENDERS) -> Work:
    """The same server-side applies by dry run, many at once."""
    made = objects(int(count))
    for obj in made[1:]:
        obj["metadata"]["namespace"] = "default"
    send(made[1])

    def work() -> int:
        with ThreadPoolExecutor(threads) as pool:
            return len(list(pool.map(send, made[1:])))

    return work


def requests_ours(kubeconfig: str, count: str) -> Work:
    """By `platformlib.kube.api`."""
    from platformlib.kube import Kube

    kube = Kube.connect(Path(kubeconfig))
    return _sent(count, lambda obj: kube.api.apply(obj, force=False, dry_run=True))


def requests_dynamic(kubeconfig: str, count: str) -> Work:
    """By `kubernetes.dynamic`, to plain dicts."""
    from kubernetes import client, config, dynamic

    given = client.Configuration()
    config.load_kube_config(kubeconfig, client_configuration=given)
    given.connection_pool_maxsize = 32
    found: Any = dynamic.DynamicClient(client.ApiClient(given))  # type: ignore[no-untyped-call]
    maps = found.resources.get(api_version="v1", kind="ConfigMap")

    def send(obj: Object) -> Any:
        about = obj["metadata"]
        how = {"field_manager": "platformlib", "dry_run": "All", "field_validation": "Strict"}
        return maps.server_side_apply(body=obj, name=about["name"], namespace=about["namespace"], **how).to_dict()

    return _sent(count, send)


def requests_httpx(kubeconfig: str, count: str) -> Work:
    """By httpx, as platformlib did before."""
    import httpx

    from platformlib.kube.credentials import Credentials

    own = Credentials.load(Path(kubeconfig))
    limits = httpx.Limits(max_connections=32, max_keepalive_connections=32)
    client = httpx.Client(base_url=own.server, verify=own.tls, trust_env=False, limits=limits, timeout=30)
    headers = {"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"}
    params = {"fieldManager": "platformlib", "dryRun": "All", "fieldValidation": "Strict"}

    def send(obj: Object) -> Any:
        path = f"/api/v1/namespaces/default/configmaps/{obj['metadata']['name']}"
        return client.patch(path, json=obj, headers=headers, params=params).raise_for_status().json()

    return _sent(count, send)


CASES: dict[str, Callable[..., Work]] = {
    case.__name__: case for case in (apply_ours, apply_kubectl, requests_ours, requests_dynamic, requests_httpx)
}
