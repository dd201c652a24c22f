"""The machines of a cluster: run a command, read and write a file, on this host or over SSH."""

from platformlib.machines.machine import Completed, Machine, each
from platformlib.machines.ssh import connect

__all__ = ["Completed", "Machine", "connect", "each"]
