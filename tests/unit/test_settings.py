"""A parameters file is taken whole or refused with every fault of it."""

from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import platformlib as pl
from platformlib.errors import SettingsError

PARAMETERS = Path(__file__).parents[2] / "parameters"
NODES = [{"name": "one", "address": "192.168.1.201", "role": "control-plane"}]


def raw(**changes: Any) -> dict[str, Any]:
    """A mapping that is accepted, with changes; a key `cluster__x` changes `cluster.x`."""
    made: dict[str, Any] = {"name": "here", "cluster": {"distribution": "kubeadm", "nodes": list(NODES)}}
    for key, value in changes.items():
        section, _, inner = key.partition("__")
        made[section] = made[section] | {inner: value} if inner else value
    return made


def refusal(given: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        pl.load(given)
    return str(caught.value)


@pytest.mark.parametrize("file", sorted(PARAMETERS.glob("*.yaml")), ids=lambda file: file.name)
def test_every_file_of_parameters_is_accepted(file: Path) -> None:
    assert pl.load(file).cluster.nodes or pl.load(file).cluster.distribution == "existing"


def test_the_lab_has_the_machines_and_networks_of_the_real_platform() -> None:
    lab, real = (pl.load(PARAMETERS / name).cluster for name in ("lab.yaml", "homelab.yaml"))
    assert (lab.nodes, lab.network) == (real.nodes, real.network)


ANOTHER = {"name": "two", "address": "192.168.1.202"}
REFUSED = {
    "unknown key": (raw(colour="red"), "colour: unknown key"),
    "unknown key inside": (raw(cluster__flavour="x"), "cluster.flavour: unknown key"),
    "wrong type": (raw(lab={"internet": "maybe"}), "lab.internet: 'maybe'"),
    "wrong type in a list": (raw(cluster__nodes=[*NODES, "two"]), "cluster.nodes.1: 'two'"),
    "missing": ({"name": "here"}, "cluster: nothing"),
    "overlapping ranges": (raw(cluster__network={"pods": "10.43.0.0/17"}), "does not overlap pods (10.43.0.0/17)"),
    "public range": (
        raw(cluster__network={"pods": "8.8.0.0/16"}),
        "cluster.network.pods: 8.8.0.0/16 — expected a private",
    ),
    "not a range": (raw(cluster__network={"pods": "10.42.0.1/16"}), "cluster.network.pods"),
    "duplicate name": (raw(cluster__nodes=[*NODES, ANOTHER | {"name": "one"}]), "cluster.nodes.1.name: one"),
    "duplicate address": (
        raw(cluster__nodes=[*NODES, ANOTHER | {"address": "192.168.1.201"}]),
        "cluster.nodes.1.address: 192.168.1.201 — expected a address of its own",
    ),
    "address elsewhere": (
        raw(cluster__nodes=[*NODES, ANOTHER | {"address": "192.168.2.2"}]),
        "expected an address of cluster.network.nodes (192.168.1.0/24)",
    ),
    "two control planes": (
        raw(cluster__nodes=[*NODES, ANOTHER | {"role": "control-plane"}]),
        "cluster.nodes: 2 control-plane nodes — expected 1 with distribution kubeadm",
    ),
    "unknown layer": (raw(layers=["cluster", "laundry"]), "layers.1: 'laundry'"),
    "unknown distribution": (raw(cluster__distribution="k9s"), "cluster.distribution: 'k9s'"),
    "no kubeconfig": (raw(cluster={"distribution": "existing"}), "cluster.kubeconfig: nothing"),
    "no context": (
        raw(cluster={"distribution": "existing", "kubeconfig": "~/.kube/config"}),
        "cluster.context: nothing — expected the name of a context",
    ),
    "adopted without a kind": (raw(adopt=["shop"]), "adopt.0: 'shop'"),
    "bad quantity": (raw(lab={"machine": {"memory": "much"}}), "lab.machine.memory: 'much'"),
    "less than a day of logs": (
        raw(observability={"loki": {"retention": "23h"}}),
        "observability.loki.retention: '23h' — expected 24h or more",
    ),
    "bad mirror": (raw(registry={"mirror": "ftp//x"}), "registry.mirror"),
}


@pytest.mark.parametrize(("given", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_a_fault_is_named_with_its_path_and_what_was_expected(given: dict[str, Any], said: str) -> None:
    assert said in refusal(given)


def test_a_fault_is_told_once_where_it_is() -> None:
    assert "1 fault, nothing was touched" in refusal(raw(cluster__distribution="k9s"))


def test_all_faults_are_told_at_once() -> None:
    message = refusal(raw(colour="red", layers=["laundry"], cluster__network={"pods": "10.43.0.0/16"}))
    assert "3 faults, nothing was touched" in message
    assert all(part in message for part in ("colour", "layers.0", "cluster.network.services"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("platform: [", "a readable YAML file"),
        ("a: 1", "key `platform`"),
        ("[]", "key `platform`"),
        ("platform:", "platform"),
    ],
)
def test_a_file_that_is_no_parameters_file(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "x.yaml").write_text(content)
    assert said in refusal(tmp_path / "x.yaml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.yaml")


networks = st.builds(
    lambda second, prefix: IPv4Network((f"10.{second}.0.0", prefix), strict=False),
    st.integers(0, 255),
    st.integers(8, 20),
)


@given(networks, networks)
def test_two_ranges_are_accepted_exactly_when_they_are_apart(pods: IPv4Network, services: IPv4Network) -> None:
    given_ranges = raw(cluster__network={"pods": str(pods), "services": str(services)})
    if pods.overlaps(services):
        assert "overlap" in refusal(given_ranges)
    else:
        assert pl.load(given_ranges).cluster.network.pods == pods


def keys(model: type[BaseModel], at: str = "") -> Iterator[str]:
    """Every key that a model takes, as a path; the entries of a list stand for themselves."""
    for name, field in model.model_fields.items():
        yield f"{at}{name}"
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel) and inner.__name__ not in LEFT_TO_A_COMMENT:
                yield from keys(inner, f"{at}{name}.")


# Their keys stand in the comment behind an empty list, or a null.
LEFT_TO_A_COMMENT = {"Observed", "PodException", "Signatures", "S3", "RegistryMirror", "RegistryAccess"}


def test_the_example_shows_every_key() -> None:
    shown: Any = yaml.safe_load((PARAMETERS / "example.yaml").read_text("utf-8"))["platform"]
    for path in keys(pl.Settings):
        found = shown
        for key in path.split("."):
            found = found[0] if isinstance(found, list) else found
            assert key in found, f"{path} is not in parameters/example.yaml"
            found = found[key]
