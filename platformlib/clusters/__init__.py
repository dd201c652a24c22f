"""The distributions: one small interface, one module each. Everything above is the same code for all of them."""

from pathlib import Path

from platformlib.clusters.driver import Driver
from platformlib.clusters.existing import Existing
from platformlib.clusters.k3s import K3s
from platformlib.clusters.kubeadm import Kubeadm
from platformlib.errors import ClusterError
from platformlib.settings import Settings

__all__ = ["Driver", "driver"]

_DRIVERS: dict[str, type[Existing] | type[K3s] | type[Kubeadm]] = {
    "existing": Existing,
    "k3s": K3s,
    "kubeadm": Kubeadm,
}


def driver(settings: Settings, *, program: Path | None = None, dry_run: bool = False) -> Driver:
    """The driver of the distribution that the settings name.

    Args:
        program: the distribution's binary from a bundle; without one, the machines must have it already.
        dry_run: its machines refuse every change, and its verbs say what they would do.
    """
    distribution = settings.cluster.distribution
    if distribution not in _DRIVERS:
        raise ClusterError(f"no driver for {distribution} yet", fix=f"cluster.distribution: one of {sorted(_DRIVERS)}")
    return _DRIVERS[distribution](settings, program, dry_run=dry_run)
