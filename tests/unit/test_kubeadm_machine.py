"""kubeadm's scripts for real, on a machine in namespaces of its own: what they put there, and what they take away."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from platformlib.bundle import Bundle
from platformlib.clusters.kubeadm import install, remove, upgrade
from platformlib.clusters.kubeadm.install import Program
from platformlib.errors import CommandFailed, PlatformError
from tests.unit.boxes import Box, box, program
from tests.unit.kubeadm_world import NEW, OLD
from tests.unit.test_clusters import CONTROL, LAB, fit


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with box(tmp_path_factory.mktemp("box")) as made:
        yield made


@pytest.fixture
def machine(shared: Box) -> Iterator[Box]:
    """A machine that is used for other things, too."""
    shared.calls()
    for path, content in USERS.items():
        shared.write(path, content)
    yield shared
    shared.at("/etc/fail").unlink(missing_ok=True)
    remove.remove(shared, PODS)
    for path in USERS:
        shared.remove(path)


# What a user may have there; all of it is the same after an uninstall.
USERS = {
    "/etc/containerd/config.toml": "# mine\n",
    "/etc/kubernetes/audit.conf": "mine\n",
    "/etc/kubernetes/manifests/proxy.yaml": "kind: Pod\n",
    "/usr/local/bin/kubectl": "#!/bin/sh\n# mine\n",
    "/var/lib/cni/networks/podman/10.88.0.2": "podman's\n",
    "/etc/cni/net.d/87-podman.conflist": "{}\n",
    "/opt/local-path/pvc-1/data": "a volume\n",
}
PODS = LAB.cluster.network.pods
PLACES = ("/etc", "/usr/local", "/var/lib", "/opt")
SEEN = replace(fit("k3s-master"), node="k3s-master")


def installed(machine: Box, folder: Path) -> Program:
    bundled = Program(program(folder, OLD), OLD, "x86_64")
    install.prepare(machine, LAB, SEEN, bundled)
    install.init(machine, LAB, CONTROL, SEEN)
    return bundled


def test_an_uninstall_puts_back_what_was_there_and_takes_what_was_not(machine: Box, tmp_path: Path) -> None:
    forward = "/proc/sys/net/ipv4/ip_forward"
    machine.shell(f"echo 0 > {forward}")
    before = machine.files(*PLACES)
    bundled = installed(machine, tmp_path)
    now = machine.files(*PLACES)
    assert now["/usr/local/bin/kubelet"] == now["/usr/local/lib/platformlib/bin/kubectl"] == f"-> {bundled.target}"
    assert "sandbox_image" in now["/etc/containerd/config.toml"]
    assert machine.read(forward) == b"1\n" or not machine.run(["which", "sysctl"], check=False).ok
    assert machine.run(["kubelet", "--version"]).stdout == f"Kubernetes {OLD}\n"
    plan = remove.plan(machine, PODS)
    assert {"file /usr/local/lib/platformlib", "file /etc/kubernetes/pki"} <= set(plan)
    assert remove.remove(machine, PODS)
    assert machine.files(*PLACES) == before
    assert machine.read(forward) == b"0\n"
    assert remove.leftovers(machine, PODS) == []
    assert not remove.remove(machine, PODS)


def test_a_second_preparation_changes_nothing(machine: Box, tmp_path: Path) -> None:
    bundled = installed(machine, tmp_path)
    before = machine.files(*PLACES)
    member = replace(SEEN, marks=("done",), member=True)
    assert install.plan(machine, LAB, member, bundled) == []
    assert not install.prepare(machine, LAB, member, bundled)
    assert not install.init(machine, LAB, CONTROL, member)
    assert machine.files(*PLACES) == before
    assert [call for call in machine.calls() if call.startswith("kubeadm")] == [
        "kubeadm init --config /etc/platformlib/kubeadm.yaml"
    ]


def test_the_running_programs_of_a_member_are_not_exchanged_by_an_install(machine: Box, tmp_path: Path) -> None:
    installed(machine, tmp_path)
    rebuilt = tmp_path / "rebuilt"
    rebuilt.write_text("#!/bin/sh\necho another build\n")
    member = replace(SEEN, marks=("done",), member=True)
    install.prepare(machine, LAB, member, Program(rebuilt, OLD, "x86_64"))
    assert machine.run(["kubelet", "--version"]).stdout == f"Kubernetes {OLD}\n"


def test_what_would_be_done_is_said_and_not_done(machine: Box, tmp_path: Path) -> None:
    before = machine.files(*PLACES)
    told = install.plan(machine, LAB, SEEN, Program(program(tmp_path, OLD), OLD, "x86_64"))
    assert told[0] == f"upload Kubernetes {OLD}, link kubelet, kubeadm and kubectl"
    assert {word.split()[1].rstrip(",") for word in told[1:]} == {
        install.CONTAINERD, install.MIRROR, install.SYSCTL, install.UNIT
    }  # fmt: skip
    assert machine.files(*PLACES) == before


def test_a_run_that_was_cut_off_is_reset_before_the_next_one(machine: Box, tmp_path: Path) -> None:
    machine.write("/etc/fail", "")
    with pytest.raises(CommandFailed, match="kubeadm's last words"):
        installed(machine, tmp_path)
    machine.remove("/etc/fail")
    machine.calls()
    assert install.init(machine, LAB, CONTROL, SEEN)
    assert [call.split()[1] for call in machine.calls()] == ["reset", "init"]
    assert install.joined(machine)
    given = list(yaml.safe_load_all((machine.read("/run/given") or b"").decode()))
    assert given[0]["nodeRegistration"]["name"] == CONTROL.name
    assert machine.read(f"{install.MARKS}.yaml") is None


def test_a_cluster_that_somebody_else_made_is_not_touched(machine: Box, tmp_path: Path) -> None:
    install.binaries(machine, SEEN, Program(program(tmp_path, OLD), OLD, "x86_64"))
    machine.write("/etc/kubernetes/kubelet.conf", "theirs")
    with pytest.raises(CommandFailed, match="a cluster that platformlib did not make"):
        install.init(machine, LAB, CONTROL, SEEN)
    machine.shell("rm /etc/kubernetes/kubelet.conf; rm -r /usr/local/lib/platformlib /usr/local/bin/kube[la]*")
    assert machine.calls() == []
    assert not remove.remove(machine, PODS)
    assert machine.calls() == []


def test_a_joining_machine_is_given_a_token_that_ends() -> None:
    """kubeadm makes one of 24 hours by default, and with 0 one that never ends."""
    words = install.INVITE.split("kubeadm token create ")[1].split()
    assert words[0] == "--ttl"
    assert words[1] in {"5m", "10m", "15m", "20m", "30m"}


POD = "/var/lib/kubelet/pods/6f1f/volumes/kubernetes.io~nfs/my data"


def test_a_busy_volume_ends_an_uninstall_before_anything_is_deleted(machine: Box, tmp_path: Path) -> None:
    installed(machine, tmp_path)
    machine.shell('mkdir -p "$1" /srv/data; echo precious > /srv/data/file; mount --bind /srv/data "$1"', POD)
    enter = machine.argv(["sh", "-c", f'cd "{POD}"; echo there; sleep 1000'])
    with subprocess.Popen(enter, stdout=subprocess.PIPE) as user:
        assert user.stdout
        user.stdout.readline()
        with pytest.raises(CommandFailed, match=r"my data: target is busy(.|\n)*nothing below .* was deleted"):
            remove.remove(machine, PODS)
        assert machine.read(f"{POD}/file") == b"precious\n"
        assert [call for call in machine.calls() if "reset" in call] == []
        machine.shell("pkill -x sleep -n")
        user.wait()
    time.sleep(0.1)
    assert remove.remove(machine, PODS)
    assert machine.read("/srv/data/file") == b"precious\n"
    assert machine.shell("grep -c 'my.*data' /proc/mounts || true") == "0\n"


OURS = """
iptables -N KUBE-FORWARD; iptables -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
iptables -A KUBE-FORWARD -m comment --comment "it's \\"quoted\\"" -j DROP
iptables -t nat -N KUBE-SERVICES; iptables -t nat -N KUBE-SVC-1; iptables -t nat -A OUTPUT -j KUBE-SERVICES
iptables -t nat -A KUBE-SERVICES -d 10.43.0.1 -j KUBE-SVC-1
iptables -t nat -N CNI-HOSTPORT-DNAT; iptables -t nat -A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
iptables -A FORWARD -m comment --comment "allow outbound traffic from pods" -i kube-bridge -j ACCEPT
iptables -A FORWARD -m comment --comment "allow inbound traffic to pods" -o kube-bridge -j ACCEPT
iptables -A FORWARD -m comment --comment \
  "allow outbound node port traffic on node interface with which node ip is associated" -o eth0 -j ACCEPT
ipset create kube-router-pod-subnets hash:net; ipset create inet6:KUBE-SRC-1 hash:ip
iptables -t nat -A POSTROUTING -m set --match-set kube-router-pod-subnets src \
  -m set ! --match-set kube-router-pod-subnets dst -j MASQUERADE --random-fully
iptables -A OUTPUT -m comment \\
  --comment "KUBE-ROUTER rule to explicitly ACCEPT traffic that comply to network policies" \\
  -m mark --mark 0x20000/0x20000 -j ACCEPT
ip6tables -N KUBE-FIREWALL; ip6tables -A INPUT -j KUBE-FIREWALL
ip link add kube-bridge type bridge; ip link add vethpod type veth peer name vethpeer
ip link set vethpod master kube-bridge
ip link set vethmine up; ip route add 10.42.1.0/24 dev vethmine proto 17; ip rule add from 10.42.0.0/24 table 77
echo '{"plugins": [{"ipam": {"subnet": "10.42.0.0/24"}}]}' > /etc/cni/net.d/10-kuberouter.conflist
"""
THEIRS = """
iptables -A INPUT -p tcp --dport 22 -m comment --comment "as -j KUBE-FORWARD does" -j ACCEPT
iptables -A FORWARD -i kube-bridge -d 192.0.2.1 -j DROP
iptables -N MY-KUBE-CHAIN; iptables -A MY-KUBE-CHAIN -j ACCEPT; iptables -A OUTPUT -j MY-KUBE-CHAIN
iptables -t nat -A POSTROUTING -s 10.88.0.0/16 -j MASQUERADE
ipset create my-kube-router-set hash:ip; ip link add podman0 type bridge
ip link add vethmine type veth peer name vp; ip link set vethmine up
ip route add 10.99.0.0/24 dev vethmine proto 17; ip route add 10.42.2.0/24 dev vethmine
"""
PODMAN = """
iptables -t nat -N CNI-DN-abc
iptables -t nat -A CNI-HOSTPORT-DNAT -m comment --comment 'dnat name: "podman"' -j CNI-DN-abc
"""
CLEAR = """
for t in filter nat; do for i in iptables ip6tables; do $i -t $t -F; $i -t $t -X; done; done
ipset flush; ipset destroy; for link in podman0 vethmine; do ip link delete $link; done; true
"""
# Rules and chains of ours-to-be-kept; the empty tables that iptables-nft leaves behind are no rules.
SHOW = """
for tool in iptables-save ip6tables-save; do $tool | grep -E '^-A|^:.* - '; done
ipset list -n; ip -o link | cut -d: -f2; ip route show; ip rule show
"""


@pytest.fixture
def firewall(machine: Box, tmp_path: Path) -> Iterator[Box]:
    if not machine.run(["iptables", "-A", "INPUT", "-j", "ACCEPT"], check=False).ok:
        pytest.skip("no iptables in a namespace here")
    machine.shell("iptables -F INPUT")
    yield machine
    machine.shell(CLEAR)


def test_only_the_rules_sets_and_links_of_kubernetes_go(firewall: Box, tmp_path: Path) -> None:
    firewall.shell(THEIRS)
    before = firewall.shell(SHOW)
    installed(firewall, tmp_path)
    firewall.shell(OURS)
    assert remove.remove(firewall, PODS)
    assert firewall.shell(SHOW) == before
    assert remove.leftovers(firewall, PODS) == []


def test_the_host_ports_of_another_container_engine_stay(firewall: Box, tmp_path: Path) -> None:
    installed(firewall, tmp_path)
    firewall.shell(OURS)
    firewall.shell(PODMAN)
    assert remove.remove(firewall, PODS)
    rules = firewall.shell("iptables-save -t nat")
    assert "-A CNI-HOSTPORT-DNAT" in rules
    assert "-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT" in rules
    assert "KUBE-" not in rules


def pki(folder: Path) -> None:
    """The certificates of an etcd, as kubeadm names them."""
    folder.mkdir(parents=True)
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for name in ("ca", "healthcheck-client"):
        signed = [] if name == "ca" else ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"]
        made = ["-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}"]
        told = [*request, *signed, *made, "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(told, cwd=folder, check=True, capture_output=True)


@pytest.fixture
def etcd(machine: Box, tmp_path: Path) -> Iterator[Box]:
    """A machine with a real etcd and the bundle's kubectl."""
    try:
        binaries = {name: Bundle().binary(name) for name in ("etcd", "kubernetes")}
    except PlatformError as error:
        pytest.skip(str(error))
    pki(keys := machine.at(upgrade.PKI))
    (programs := machine.at(f"{install.LIBRARY}/bin")).mkdir(parents=True)
    shutil.copy(binaries["kubernetes"], programs / "kubectl")
    url, tls = "https://127.0.0.1:2379", {"cert": "healthcheck-client.crt", "key": "healthcheck-client.key"}
    flags = [f"--{kind}-file={keys / name}" for kind, name in tls.items()]
    flags += [f"--trusted-ca-file={keys / 'ca.crt'}", "--client-cert-auth", f"--data-dir={tmp_path / 'data'}"]
    flags += [f"--listen-client-urls={url}", f"--advertise-client-urls={url}"]
    enter = ["nsenter", "-t", str(machine.process), "-n", "--", str(binaries["etcd"])]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen([*enter, *flags], stderr=log) as process:
        yield machine
        process.kill()
    machine.shell(f"rm -rf {upgrade.SNAPSHOTS} {upgrade.PKI} {install.LIBRARY}")


def test_a_snapshot_of_etcd_is_whole_or_none(etcd: Box) -> None:
    etcd.write("/etc/kubernetes/manifests/etcd.yaml", "old")
    deadline = time.monotonic() + 30
    while not upgrade.snapshots(etcd):
        with suppress(CommandFailed):  # etcd takes a moment to start
            etcd.change_shell(upgrade.SAVE, OLD)
        assert time.monotonic() < deadline
    (first,) = upgrade.snapshots(etcd)
    assert first.version == OLD
    assert (etcd.read(f"{upgrade.SNAPSHOTS}/{first.id}/snapshot.db") or b"")[16:20] == b"\xed\xda\x0c\xed"  # bbolt
    etcd.write("/etc/kubernetes/manifests/etcd.yaml", "new")
    etcd.change_shell(upgrade.MANIFESTS, first.id, "missing")
    assert etcd.read("/etc/kubernetes/manifests/etcd.yaml") == b"new"
    etcd.change_shell(upgrade.MANIFESTS, first.id, "all")
    assert etcd.read("/etc/kubernetes/manifests/etcd.yaml") == b"old"
    etcd.write(f"{install.LIBRARY}/bin/kubectl", '#!/bin/sh\necho \'{"result":{"blob":"AAAA"}}\'\n', 0o755)
    with pytest.raises(CommandFailed, match="etcd gave no snapshot"):
        etcd.change_shell(upgrade.SAVE, NEW)
    half = '#!/bin/sh\nhead -c 3000 /dev/zero | base64 -w0 | sed \'s/.*/"blob":"&"/\'\n'
    etcd.write(f"{install.LIBRARY}/bin/kubectl", half, 0o755)
    with pytest.raises(CommandFailed, match="etcd's snapshot is incomplete"):
        etcd.change_shell(upgrade.SAVE, NEW)
    assert upgrade.snapshots(etcd) == [first]


def test_of_the_programs_on_a_machine_two_versions_stay(machine: Box) -> None:
    for version in ("v1.34.1", OLD, NEW):
        machine.write(install.program(version), "", 0o755)
    machine.change_shell(upgrade.PRUNE, install.program(NEW), install.program(OLD))
    left = sorted(path.name for path in machine.at(install.LIBRARY).iterdir())
    assert left == [f"kubernetes-{OLD}", f"kubernetes-{NEW}"]
    machine.shell(f"rm -r {install.LIBRARY}")


def test_the_mirror_of_a_user_comes_back_when_the_parameters_name_none_any_more(machine: Box, tmp_path: Path) -> None:
    machine.write(install.MIRROR, "theirs")
    bundled = installed(machine, tmp_path)
    assert machine.read(install.MIRROR) != b"theirs"
    without = LAB.model_copy(update={"registry": LAB.registry.model_copy(update={"mirror": None})})
    member = replace(SEEN, marks=("done",), member=True)
    assert install.plan(machine, without, member, bundled) == [f"put back what {install.MIRROR} was"]
    assert install.prepare(machine, without, member, bundled)
    assert machine.read(install.MIRROR) == b"theirs"
    assert not install.prepare(machine, without, member, bundled)
    machine.remove(install.MIRROR)


def test_what_an_earlier_version_installed_is_removed_without_originals(machine: Box, tmp_path: Path) -> None:
    installed(machine, tmp_path)
    machine.shell(f"rm -r {install.ORIGINAL}")
    member = replace(SEEN, marks=("done",), member=True)
    install.prepare(machine, LAB, member, Program(program(tmp_path, OLD), OLD, "x86_64"))
    assert remove.remove(machine, PODS)
    assert [machine.read(path) for path in (install.UNIT, install.SYSCTL, install.MIRROR)] == [None, None, None]
