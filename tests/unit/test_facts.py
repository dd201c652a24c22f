"""What is read of a machine, where a machine is not the usual one."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from platformlib.machines import Machine
from platformlib.machines.facts import facts

ROUTES = """default via 192.0.2.1 dev eth0
blackhole 10.9.0.0/16
unreachable default metric 4278198272
unreachable 10.10.0.0/16 proto bird
10.20.0.0/16
\tnexthop dev eth0 weight 1
192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.2
"""


def test_routes_of_every_type_are_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ip"
    program.write_text(f'#!/bin/sh\n[ "$2" = route ] || exit 0\ncat <<END\n{ROUTES}END\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin:/usr/sbin:/sbin")
    found = facts(Machine("here", "127.0.0.1")).routes
    assert found == ("10.9.0.0/16", "10.10.0.0/16", "10.20.0.0/16", "192.0.2.0/24")
    assert all(IPv4Network(route) for route in found)
