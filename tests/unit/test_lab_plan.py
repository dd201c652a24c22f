"""A lab is planned from settings alone, and a host that cannot carry it is told why."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

import platformlib as pl
from platformlib.errors import LabError
from platformlib.lab.host import check, missing
from platformlib.lab.machine import quantity
from platformlib.lab.network import routes_of_host
from platformlib.lab.plan import Plan, plan
from platformlib.lab.services import refused_lookups


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLATFORMLIB_STATE", str(tmp_path))
    return tmp_path


def lab(network: str, *addresses: str, memory: str = "64Mi", name: str = "here") -> Plan:
    nodes = [
        {"name": f"m{number}", "address": address, "role": "worker" if number else "control-plane"}
        for number, address in enumerate(addresses)
    ]
    cluster = {"distribution": "kubeadm", "nodes": nodes, "network": {"nodes": network}}
    return plan(pl.load({"name": name, "cluster": cluster, "lab": {"machine": {"memory": memory}}}))


def test_names_of_links_fit_the_kernel_and_differ_between_labs() -> None:
    plans = [lab("192.168.77.0/24", "192.168.77.2", "192.168.77.3", name=name) for name in ("a", "b" * 63)]
    links = [link for made in plans for link in (made.link, *(machine.link for machine in made.machines))]
    assert len(set(links)) == len(links)
    assert all(len(link) <= 15 for link in links)


@pytest.mark.parametrize("address", ["192.168.77.1", "192.168.77.254"])
def test_an_address_that_the_lab_needs_is_refused(address: str) -> None:
    with pytest.raises(LabError, match=f"m0 has the address {address}, which the lab needs"):
        lab("192.168.77.0/24", address)


def test_a_subnet_that_the_host_routes_is_refused_before_anything_is_made(state: Path) -> None:
    routes = [route["dst"] for route in routes_of_host() if "/" in route["dst"]]
    if not routes:
        pytest.skip("this host routes no subnet")
    taken = IPv4Network(routes[0])
    if not taken.is_private:
        pytest.skip(f"the host's {taken} is not private, so the settings refuse it already")
    made = lab(str(taken), str(taken[2]))
    assert any(f"already routes {taken}" in fault for fault in missing(made))
    with pytest.raises(LabError, match="nothing was made"):
        check(made)
    assert not made.folder.exists()


def test_more_memory_than_the_host_has_is_refused() -> None:
    faults = list(missing(lab("192.168.77.0/24", "192.168.77.2", memory="900Ti")))
    assert any("1 machines of 900Ti are more than this host's" in fault for fault in faults)


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    told = list(missing(lab("192.168.77.0/24", "192.168.77.2")))
    assert "no `systemd-nspawn` — apt-get install systemd-container" in told


@pytest.mark.parametrize(
    ("text", "size"), [("512", 512), ("1k", 1000), ("64Mi", 64 * 2**20), ("1.5Gi", 3 * 2**29), ("2G", 2 * 10**9)]
)
def test_quantities(text: str, size: int) -> None:
    assert quantity(text) == size


LOG = """Nov 23 16:25:50 dnsmasq[7]: query[A] m0 from 192.168.77.3
Nov 23 16:25:50 dnsmasq[7]: config m0 is 192.168.77.2
Nov 23 16:25:51 dnsmasq[7]: query[AAAA] registry.example from 192.168.77.2
Nov 23 16:25:51 dnsmasq[7]: query[HINFO] 7445.1517 from 192.168.77.2
Nov 23 16:25:51 dnsmasq[7]: config error is REFUSED (EDE: not ready)
"""


def test_only_names_from_outside_count_as_refused() -> None:
    made = lab("192.168.77.0/24", "192.168.77.2")
    made.folder.mkdir(parents=True)
    (made.folder / "names.log").write_text(LOG)
    assert refused_lookups(made) == ["registry.example (asked by 192.168.77.2)"]
