"""The distributions: one small interface, one module each. Everything above is the same code for all of them."""

from collections.abc import Callable
from pathlib import Path

from platformlib.clusters.driver import Driver
from platformlib.clusters.existing import Existing
from platformlib.clusters.k3s import K3s
from platformlib.clusters.kubeadm import Kubeadm
from platformlib.errors import ClusterError
from platformlib.settings import Settings

__all__ = ["Driver", "driver"]

_DRIVERS: dict[str, Callable[[Settings, Path | None], Driver]] = {"existing": Existing, "k3s": K3s, "kubeadm": Kubeadm}


def driver(settings: Settings, *, program: Path | None = None) -> Driver:
    """The driver of the distribution that the settings name.

    `program` is the distribution's binary from a bundle; without one, the nodes must have it already.
    """
    distribution = settings.cluster.distribution
    if distribution not in _DRIVERS:
        raise ClusterError(f"no driver for {distribution} yet", fix=f"cluster.distribution: one of {sorted(_DRIVERS)}")
    return _DRIVERS[distribution](settings, program)
