"""The machines of a cluster: run a command, read and write a file, on this host or over SSH."""

from platformlib.nodes.machine import Completed, Machine
from platformlib.nodes.parallel import each
from platformlib.nodes.ssh import connect

__all__ = ["Completed", "Machine", "connect", "each"]
