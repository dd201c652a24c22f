"""What the hub serves to the machines: names (dnsmasq), images (docker-registry), and a way out when asked for.

The servers run as root without its capabilities: they read the bundle and write a log, and a machine that takes one
over cannot do more than that.
"""

import os
import signal
import socket
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from platformlib.errors import LabError
from platformlib.lab import cgroups
from platformlib.lab.parameters import REGISTRY_PORT
from platformlib.lab.plan import Plan
from platformlib.lab.shell import inside, launch, sh

SERVICES = ("names", "registry", "internet")
NAMES_PORT = 53
GiB = 2**30
OK = 200
# Out by the tap, but not to link-local addresses: a cloud host's credentials are served there.
ROUTER = """
table ip lab {{
  chain out {{ type nat hook postrouting priority srcnat; oifname "tap0" ip saddr {network} masquerade; }}
  chain stop {{ type filter hook forward priority filter; ip daddr 169.254.0.0/16 drop; }}
}}
"""


def services_up(plan: Plan, registry_config: str) -> None:
    """Start what does not run yet, and wait until each answers.

    Raises:
        LabError: a service ended or does not answer; with its last words.
    """
    write_hosts(plan)
    config = plan.folder / "registry.yaml"
    config.write_text(registry_config, "utf-8")
    start(plan, "names", inside(plan.hub, _with("net_bind_service", "setgid", argv=names(plan))))
    start(plan, "registry", inside(plan.hub, _with(argv=["docker-registry", "serve", str(config)])))
    if plan.settings.lab and plan.settings.lab.internet:
        way_out(plan)
    _wait(plan, "names", lambda: _accepts(str(plan.gateway), NAMES_PORT))
    _wait(plan, "registry", lambda: _serves(str(plan.gateway), REGISTRY_PORT))


def write_hosts(plan: Plan) -> None:
    """The machines by name: for their /etc/hosts, where it is mounted, and for dnsmasq."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    path = plan.folder / "hosts"
    listed = "".join(f"{machine.node.address} {machine.node.name}\n" for machine in (*plan.machines, *plan.gone))
    wanted = f"127.0.0.1 localhost\n{listed}"
    if _text(path) != wanted:
        path.write_text(wanted, "utf-8")  # in place: machines have this file mounted
        for process in cgroups.members(plan.service_group("names")):
            os.kill(process, signal.SIGHUP)


def _with(*capabilities: str, argv: list[str]) -> list[str]:
    """The command line as root with these capabilities alone; a folder of another user can be read through."""
    kept = ",".join(f"+{name}" for name in ("dac_read_search", *capabilities))
    return ["setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all,{kept}", "--", *argv]


def names(plan: Plan) -> list[str]:
    """dnsmasq: the machines by name; whatever else is asked is refused and written down, or asked outside."""
    upstream = ["--server=10.0.2.3"] if plan.settings.lab and plan.settings.lab.internet else []
    return [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        f"--addn-hosts={plan.folder / 'hosts'}",
        "--log-queries",
        f"--log-facility={plan.folder / 'names.log'}",
        f"--listen-address={plan.gateway}",
        "--bind-interfaces",
        "--pid-file=",
        "--user=root",
        "--group=root",
        "--local-ttl=60",
        *upstream,
    ]


def way_out(plan: Plan) -> None:
    """User-mode networking for the hub: the host's own addresses, routes and firewall stay as they are.

    The host's loopback stays closed. slirp4netns shows 10.0.2.2 as the host's 127.0.0.1 unless it is told not to.
    """
    options = ["--configure", "--mtu=1500", "--disable-host-loopback", "--enable-sandbox", "--netns-type=path"]
    start(plan, "internet", ["slirp4netns", *options, str(plan.hub), "tap0"])
    sh(*inside(plan.hub, ["sysctl", "-qw", "net.ipv4.ip_forward=1"]))
    sh(
        *inside(plan.hub, ["nft", "-f", "-"]),
        stdin="table ip lab\ndelete table ip lab" + ROUTER.format(network=plan.network),
    )


def start(plan: Plan, name: str, argv: list[str]) -> None:
    """Start a service in its own control group; no-op for one that runs."""
    group = plan.service_group(name)
    if not cgroups.members(group):
        (plan.folder / f"{name}.out").unlink(missing_ok=True)
        launch(cgroups.start_argv(group, 2 * GiB, 2, argv), plan.folder / f"{name}.out")


def _wait(plan: Plan, name: str, answers: Callable[[], bool], *, deadline: float = 10) -> None:
    end = time.monotonic() + deadline
    while not answers():
        ended = not cgroups.members(plan.service_group(name)) and time.monotonic() > end - deadline + 1
        if ended or time.monotonic() > end:
            out = plan.folder / f"{name}.out"
            words = "\n".join(_text(out).splitlines()[-5:])
            state = "ended" if ended else f"does not answer on {plan.gateway}"
            raise LabError(f"the lab's service `{name}` {state}\n{words}", fix=f"see {out}, then `platformlib lab up`")
        time.sleep(0.05)


def _accepts(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


def _serves(address: str, port: int) -> bool:
    connection = HTTPConnection(address, port, timeout=2)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def service_state(plan: Plan, name: str) -> str:
    """`running` or `stopped`."""
    return "running" if cgroups.members(plan.service_group(name)) else "stopped"


def refused_lookups(plan: Plan) -> list[str]:
    """Every name that a machine asked for and that does not belong to the lab, as `name (asked by address)`.

    Nothing is forwarded without `internet: true`, so each of these is something that wanted to go outside. HINFO is
    left out: it is how CoreDNS, at its start, asks for a random name to learn whether its questions come back to it.
    """
    lines = _text(plan.folder / "names.log").splitlines()
    own = {machine.node.name for machine in (*plan.machines, *plan.gone)}
    asked = [line.split(": ", 1)[1].split() for line in lines if " query[" in line and " query[HINFO]" not in line]
    return [f"{words[1]} (asked by {words[3]})" for words in asked if words[1] not in own]


def _text(path: Path) -> str:
    return path.read_text("utf-8", errors="replace") if path.exists() else ""
