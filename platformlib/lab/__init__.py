"""The lab: the machines of a parameters file as real systemd machines on one Linux host.

Each machine has its own network namespace, control groups, disk, systemd and sshd. They hang on a bridge inside one
more namespace, the hub, which also serves their names and their images. The host's own network gets a single link and
no rule; its kernel settings stay as they are, but for one limit that is given back.
"""

from platformlib.lab.lab import Lab, remove
from platformlib.lab.parameters import require_machines, resolve

__all__ = ["Lab", "remove", "require_machines", "resolve"]
