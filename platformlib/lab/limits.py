"""One limit of the host that three machines exceed: inotify instances, of which Debian allows 128 a user.

systemd, containerd, kubelet and every container that watches files take some. The host's own value is kept, and
given back when its last lab is gone.
"""

from pathlib import Path

from platformlib.lab import cgroups
from platformlib.lab.plan import Plan
from platformlib.paths import state_dir

LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH = 1024


def kept() -> Path:
    """Where the host's own value stands while a lab is up."""
    return state_dir(".host") / LIMIT.name


def raise_limit() -> bool:
    """Allow enough; True when the host's limit was raised."""
    own = LIMIT.read_text("utf-8").strip()
    if int(own) >= ENOUGH:
        return False
    kept().write_text(own, "utf-8")
    LIMIT.write_text(str(ENOUGH), "utf-8")
    return True


def give_back(plan: Plan) -> None:
    """Restore the host's own value, unless another lab still runs."""
    if kept().exists() and not cgroups.others(plan.group):
        LIMIT.write_text(kept().read_text("utf-8"), "utf-8")
        kept().unlink()
