"""Faults of a parameters file in a person's words, with the line where they stand."""

from pathlib import Path

import pytest

from platformlib.errors import SettingsError
from platformlib.settings import load

BAD = """\
# a comment
platform:
  name: X_Y
  cluster:
    distribution: k9s
    version: 9
    nodes:
      - {name: a, address: 192.168.1.201}
      - name: b
        address: 300.1.1.1
        role: boss
  observability:
    prometheus: {retention: soon, storage: 2GiB}
  clutser: {}
  lab: {internet: "no", machine: {cpus: many}}
"""
SAID = {
    "name (line 3): 'X_Y' — expected up to 63 small letters, digits and hyphens",
    "cluster.distribution (line 5): 'k9s' — expected k3s, kubeadm or existing",
    "cluster.version (line 6): 9 — expected text; a number or yes/no has to stand in quotes",
    "cluster.nodes.1.address (line 10): '300.1.1.1' — expected an address such as 192.168.1.201",
    "cluster.nodes.1.role (line 11): 'boss' — expected control-plane or worker",
    "observability.prometheus.retention (line 13): 'soon' — expected such as 30s, 7d",
    "observability.prometheus.storage (line 13): '2GiB' — expected such as 500m, 2Gi",
    "clutser (line 14): unknown key — expected cluster, or another of the keys in parameters/example.yaml",
    "lab.internet (line 15): 'no' — expected true or false",
    "lab.machine.cpus (line 15): 'many' — expected a number",
}


def test_every_fault_is_told_in_words_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(BAD, "utf-8")
    with pytest.raises(SettingsError) as refused:
        load(tmp_path / "bad.yaml")
    assert {str(fault) for fault in refused.value.faults} == SAID
    assert "Input should" not in str(refused.value)
    assert "^[" not in str(refused.value)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\xff", b"\xff\xfe\x00"])
def test_a_file_that_is_no_text_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "picture.png").write_bytes(content)
    with pytest.raises(SettingsError, match="expected a readable YAML file"):
        load(tmp_path / "picture.png")
