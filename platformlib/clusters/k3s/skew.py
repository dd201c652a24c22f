"""Which version may follow which: Kubernetes' version skew policy, applied before anything is touched."""

import re
from collections.abc import Mapping

from platformlib.errors import ClusterError

Version = tuple[int, int, int, int]
KUBELET_LAG = 3


def parse(text: str) -> Version:
    """`v1.35.4+k3s1` as (1, 35, 4, 1).

    Raises:
        ClusterError: it is no release of k3s.
    """
    match = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)\+k3s(\d+)", text)
    if not match:
        raise ClusterError(f"{text or 'no version'} is no release of k3s", fix="such as v1.35.4+k3s1")
    major, minor, patch, release = (int(group) for group in match.groups())
    return major, minor, patch, release


def refuse(servers: Mapping[str, str], agents: Mapping[str, str], wanted: str) -> None:
    """Servers move up by one minor version at a time, never down; agents may lag behind by three.

    Raises:
        ClusterError: the step is not allowed; names the node and the version to go to first.
    """
    then = parse(wanted)
    for name, version in {**servers, **agents}.items():
        if then < parse(version):
            fix = "rollback() goes back to the snapshot from before an upgrade, with its binary"
            raise ClusterError(f"{wanted} is older than {version} on {name}", fix=fix)
    for name, version in servers.items():
        now = parse(version)
        if then[:2] > (now[0], now[1] + 1):
            fix = f"upgrade to the newest v{now[0]}.{now[1] + 1} first"
            raise ClusterError(f"{version} on {name} to {wanted} skips a minor version", fix=fix)
    for name, version in agents.items():
        if then[1] - parse(version)[1] > KUBELET_LAG:
            fix = f"upgrade {name} to v{then[0]}.{then[1] - KUBELET_LAG} or later first"
            raise ClusterError(
                f"{version} on {name} would lag behind {wanted} by more than three minor versions", fix=fix
            )
