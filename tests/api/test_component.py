"""A component outside of the package on a real API server: its objects are taken, known again, and removed."""

from pathlib import Path

import yaml

import platformlib as pl
from platformlib.component import read
from platformlib.kube import Kube
from platformlib.layers import Installed, layer

ROOT = Path(__file__).parents[2]
PARAMETERS = yaml.safe_load((ROOT / "parameters" / "lab.yaml").read_text("utf-8"))["platform"]
TOY = ROOT / "tests" / "toy" / "greeter"


def test_a_users_component_comes_stays_and_goes(kube: Kube) -> None:
    own = read(TOY).layer
    settings = pl.load(PARAMETERS | {"layers": ["cluster", own], "components": [str(TOY)]})
    installed = Installed(layer(own), settings, kube)
    kube.apply(Installed(layer("cluster"), settings, kube).render()[-1:], layer="cluster")
    first = installed.apply()
    assert set(zip(first["kind"], first["name"], first["action"], strict=True)) == {
        ("Namespace", "greeter", "created"), ("Deployment", "greeter", "created"),
    }  # fmt: skip
    assert set(installed.apply()["action"]) == {"unchanged"}
    installed.uninstall()
    kube.uninstall("cluster")
    assert kube.get("apps/v1", "Deployment", "greeter", "greeter") is None
