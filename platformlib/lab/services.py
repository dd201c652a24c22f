"""What the hub serves to the machines: names (dnsmasq), images (docker-registry), and a way out when asked for."""

from pathlib import Path

from platformlib.lab import cgroups
from platformlib.lab.plan import Plan
from platformlib.lab.shell import inside, launch, sh

REGISTRY_PORT = 5000
GiB = 2**30
ROUTER = """
table ip lab {{
  chain out {{ type nat hook postrouting priority srcnat; oifname "tap0" ip saddr {network} masquerade; }}
}}
"""


def services_up(plan: Plan, registry_config: str) -> None:
    """Start what does not run yet."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    config = plan.folder / "registry.yaml"
    config.write_text(registry_config, "utf-8")
    start(plan, "names", names(plan))
    start(plan, "registry", ["docker-registry", "serve", str(config)])
    if plan.settings.lab.internet:
        way_out(plan)


def names(plan: Plan) -> list[str]:
    """dnsmasq: the machines by name; whatever else is asked is refused and written down, or asked outside."""
    hosts = [f"--host-record={machine.node.name},{machine.node.address}" for machine in plan.machines]
    upstream = ["--server=10.0.2.3"] if plan.settings.lab.internet else []
    return [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--log-queries",
        f"--log-facility={plan.folder / 'names.log'}",
        f"--listen-address={plan.gateway}",
        "--bind-interfaces",
        "--pid-file=",
        "--user=root",
        "--local-ttl=60",
        *hosts,
        *upstream,
    ]


def way_out(plan: Plan) -> None:
    """User-mode networking for the hub: the host's own addresses, routes and firewall stay as they are."""
    space = ["slirp4netns", "--configure", "--mtu=1500", "--netns-type=path", f"/run/netns/{plan.hub}", "tap0"]
    start(plan, "internet", space, in_hub=False)
    sh(*inside(plan.hub, ["sysctl", "-qw", "net.ipv4.ip_forward=1"]))
    sh(
        *inside(plan.hub, ["nft", "-f", "-"]),
        stdin="table ip lab\ndelete table ip lab" + ROUTER.format(network=plan.network),
    )


def start(plan: Plan, name: str, argv: list[str], *, in_hub: bool = True) -> None:
    """Start a service in its own control group, in the hub's namespace; no-op for one that runs."""
    group = f"{plan.group}-{name}"
    if cgroups.members(group):
        return
    command = inside(plan.hub, argv) if in_hub else argv
    launch(cgroups.start_argv(group, 2 * GiB, 2, command), plan.folder / f"{name}.out")


def service_state(plan: Plan, name: str) -> str:
    """`running` or `stopped`."""
    return "running" if cgroups.members(f"{plan.group}-{name}") else "stopped"


def services_down(plan: Plan) -> None:
    """End every service."""
    for name in ("names", "registry", "internet"):
        cgroups.kill(f"{plan.group}-{name}")


def refused_lookups(plan: Plan) -> list[str]:
    """Every name that a machine asked for and that does not belong to the lab, as `name (asked by address)`.

    Nothing is forwarded without `internet: true`, so each of these is something that wanted to go outside. HINFO is
    left out: it is how CoreDNS, at its start, asks for a random name to learn whether its questions come back to it.
    """
    log = plan.folder / "names.log"
    lines = _text(log).splitlines()
    own = {machine.node.name for machine in plan.machines}
    asked = [line.split(": ", 1)[1].split() for line in lines if " query[" in line and " query[HINFO]" not in line]
    return [f"{words[1]} (asked by {words[3]})" for words in asked if words[1] not in own]


def _text(path: Path) -> str:
    return path.read_text("utf-8", errors="replace") if path.exists() else ""
