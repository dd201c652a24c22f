"""What the bundle consists of, in the order in which the layers need it.

Sizes and seconds are measured ones: two cores, an empty cache.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from platformlib.bundle.debian import base_recipe, busybox_recipe, rootfs_recipe
from platformlib.bundle.golang import go_recipe
from platformlib.bundle.image import Settings
from platformlib.bundle.imaging import Plan, etc_recipe, image_recipe
from platformlib.bundle.pause import pause_recipe
from platformlib.bundle.recipe import Recipe
from platformlib.bundle.tarlayer import NET_BIND_SERVICE, Entry, Folder, Link, program
from platformlib.bundle.upstream import manifest_recipe
from platformlib.versions import versions

MB = 1_000_000
NOBODY, NONROOT, LOKI = "65534:65534", "65532:65532", "10001:10001"
KUBERNETES = "usr/local/bin/kubernetes"


def _built(name: str) -> Path:
    return Path(name, "bin", name)


def _kubernetes_images() -> Recipe:
    """Four images over one layer: the program is chosen by the name that it is called by."""
    names = {"kube-apiserver": "etc", "kube-controller-manager": "etc", "kube-scheduler": "etc", "kube-proxy": "base"}
    plans = [Plan(name, Settings([f"/usr/local/bin/{name}"]), foundation) for name, foundation in names.items()]
    links: list[Entry] = [Link(f"usr/local/bin/{name}", "kubernetes") for name in names]
    entries = [program(KUBERNETES, _built("kubernetes")), *links]
    return image_recipe("kubernetes-images", "cluster", plans, entries, size=150 * MB)


def _image(name: str, layer: str, path: str, settings: Settings, *more: Entry, foundation: str = "etc") -> Recipe:
    """An image of one static program at `path`."""
    entries = [program(path, _built(name)), *more]
    return image_recipe(f"{name}-image", layer, [Plan(name, settings, foundation)], entries, size=100 * MB)


def _applets(inputs: Mapping[str, Path]) -> list[Entry]:
    names = (inputs["busybox"] / "applets.txt").read_text("utf-8").split()
    return [Link(f"bin/{name}", "busybox") for name in names if name != "busybox"]


def _cluster() -> list[Recipe]:
    coredns = program("coredns", _built("coredns"), capability=NET_BIND_SERVICE)
    return [
        rootfs_recipe(),
        base_recipe(),
        etc_recipe(),
        pause_recipe(),
        _image("pause", "cluster", "pause", Settings(["/pause"], user="65535:65535"), foundation=""),
        go_recipe("kubernetes", "cluster", seconds=407, size=1500 * MB, peak=3000 * MB),
        _kubernetes_images(),
        go_recipe("etcd", "cluster", seconds=28, size=300 * MB, peak=500 * MB),
        _image("etcd", "cluster", "usr/local/bin/etcd", Settings(["/usr/local/bin/etcd"])),
        go_recipe("coredns", "cluster", seconds=120, size=800 * MB, peak=1500 * MB),
        image_recipe(
            "coredns-image", "cluster", [Plan("coredns", Settings(["/coredns"], user=NONROOT))], [coredns], size=80 * MB
        ),
        go_recipe("kube-router", "cluster", seconds=161, size=600 * MB, peak=1500 * MB),
        _image(
            "kube-router", "cluster", "usr/local/bin/kube-router",
            Settings(["/usr/local/bin/kube-router"], workdir="/root"), foundation="base",
        ),
    ]  # fmt: skip


def _security() -> list[Recipe]:
    """Five programs of one module: the first compiles it, the others link what is in Go's cache already."""
    more = ("kyvernopre", "kyverno-background-controller", "kyverno-cleanup-controller", "kyverno-reports-controller")
    built = [
        go_recipe("kyverno", "security", seconds=600, size=2500 * MB, peak=4000 * MB),
        *(go_recipe(name, "security", seconds=60, size=150 * MB, peak=500 * MB) for name in more),
    ]
    programs = ("kyverno", *more)
    paths = {name: f"ko-app/{versions()['modules'][name]['package'].rpartition('/')[2]}" for name in programs}
    images = [_image(name, "security", path, Settings([f"/{path}"], user=NONROOT)) for name, path in paths.items()]
    return [manifest_recipe("kyverno", "security"), *built, *images]


def _storage() -> list[Recipe]:
    return [
        go_recipe("local-path-provisioner", "storage", seconds=86, size=400 * MB, peak=1200 * MB),
        _image(
            "local-path-provisioner", "storage", "usr/bin/local-path-provisioner",
            Settings(command=["local-path-provisioner"]),
        ),
        busybox_recipe(),
        image_recipe(
            "busybox-image", "storage", [Plan("busybox", Settings(command=["sh"]))],
            [program("bin/busybox", _built("busybox"))], more=_applets, size=3 * MB,
        ),
    ]  # fmt: skip


def _observability() -> list[Recipe]:
    layer = "observability"
    return [
        go_recipe("metrics-server", layer, seconds=169, size=500 * MB, peak=1500 * MB),
        _image("metrics-server", layer, "metrics-server", Settings(["/metrics-server"], user=NOBODY)),
        go_recipe("kube-state-metrics", layer, seconds=117, size=500 * MB, peak=1500 * MB),
        _image(
            "kube-state-metrics", layer, "kube-state-metrics",
            Settings(["/kube-state-metrics", "--port=8080", "--telemetry-port=8081"], user=NOBODY),
        ),
        go_recipe("node-exporter", layer, seconds=12, size=100 * MB, peak=300 * MB),
        _image("node-exporter", layer, "bin/node_exporter", Settings(["/bin/node_exporter"], user=NOBODY)),
        go_recipe("prometheus", layer, seconds=164, size=1000 * MB, peak=2000 * MB),
        _image(
            "prometheus", layer, "bin/prometheus",
            Settings(
                ["/bin/prometheus"],
                ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"],
                NOBODY, "/prometheus",
            ),
            Folder("etc/prometheus", owner=65534), Folder("prometheus", 0o775, 65534),
        ),
        go_recipe("loki", layer, seconds=264, size=2000 * MB, peak=4000 * MB),
        _image(
            "loki", layer, "usr/bin/loki",
            Settings(["/usr/bin/loki"], ["-config.file=/etc/loki/local-config.yaml"], LOKI),
            Folder("etc/loki", owner=10001), Folder("loki", owner=10001),
        ),
        go_recipe("logcli", layer, seconds=7, size=60 * MB, peak=200 * MB),
        go_recipe("promtail", layer, seconds=250, size=1500 * MB, peak=3000 * MB),
        _image(
            "promtail", layer, "usr/bin/promtail",
            Settings(["/usr/bin/promtail"], ["-config.file=/etc/promtail/config.yml"]),
            Folder("etc/promtail"),
        ),
    ]  # fmt: skip


@cache
def catalogue() -> tuple[Recipe, ...]:
    """Every recipe, in build order."""
    return (*_cluster(), *_security(), *_storage(), *_observability())
