"""The systemd units, and the record of what k3s was started from."""

from platformlib.clusters.k3s import layout
from platformlib.settings import Node

# One line for each input of k3s. What it prints at a start is kept by the unit itself, so "restart needed" is a
# comparison of two texts: nothing is forgotten when a run is cut off between a changed file and the restart.
INPUTS = f"""#!/bin/sh
readlink -f {layout.BINARY}
sha256sum {layout.CONFIG} {layout.REGISTRIES} {layout.TOKEN} {layout.AGENT_TOKEN} \\
  {layout.ADMISSION} {layout.AUDIT_POLICY} /etc/systemd/system/k3s.service /etc/systemd/system/k3s-agent.service \\
  2>/dev/null
ls -l --time-style=+ {layout.IMAGES} 2>/dev/null
true
"""
UNIT = f"""[Unit]
Description=Lightweight Kubernetes ({{verb}}), kept by platformlib
Documentation=https://docs.k3s.io
Wants=network-online.target
After=network-online.target
# Servers wait for each other after a power failure: never give up.
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStartPre=-/bin/sh -c '{layout.INPUTS} > {layout.STARTED}'
ExecStart={layout.BINARY} {{verb}}
# Pods outlive a restart of k3s.
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s

[Install]
WantedBy=multi-user.target
"""


def text(node: Node) -> str:
    """The unit of a server or an agent."""
    return UNIT.format(verb="server" if node.role == "control-plane" else "agent")


def path(node: Node) -> str:
    return f"/etc/systemd/system/{layout.unit(node.role)}.service"
