"""Components: each is known from its folder alone, wherever that is, and nothing else names one."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import platformlib as pl
from platformlib import composition
from platformlib.component import HOME, PLACES, Component, packaged, read, table
from platformlib.components.prometheus.objects import scrape_file
from platformlib.components.proving import Context, targets
from platformlib.components.rendering import render
from platformlib.errors import PlatformError, QueryError, SettingsError
from platformlib.layers import layer, stages
from platformlib.layers import render as render_layer
from platformlib.layers.render import proofs
from platformlib.query import Catalog
from platformlib.runbook.given import from_files
from platformlib.security import flows, pod_security, quotas
from platformlib.security.connectivity import Pod, Rules
from platformlib.settings import Settings
from platformlib.versions import versions

ROOT = Path(__file__).parents[2]
LAB = ROOT / "parameters" / "lab.yaml"
TOY = ROOT / "tests" / "toy" / "greeter"
PLATFORM: dict[str, Any] = yaml.safe_load(LAB.read_text("utf-8"))["platform"]
NAMES = sorted(packaged())


def with_toy(**changes: Any) -> Settings:
    return pl.load(PLATFORM | {"components": [str(TOY)]} | changes)


# -- the package's own


def test_every_folder_is_in_a_layer() -> None:
    folders = {path.name for path in HOME.iterdir() if (path / "component.yaml").is_file()}
    assert folders == {name.replace("-", "_") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_component_names_what_exists(name: str) -> None:
    one, order = packaged()[name], list(table())
    assert set(one.images) <= set(versions()["images"])
    assert {flow.to for flow in one.flows if flow.to} <= {*NAMES, *PLACES}
    assert {*one.build.programs} <= set(versions()["modules"])
    assert not one.upstream or one.upstream.module in versions()["manifests"]
    assert not one.settings or (one.folder / "parameters.py").is_file()
    for need in one.needs:
        assert order.index(packaged()[need].layer) <= order.index(one.layer)
    assert one.namespace is None or one.namespace.level == "restricted" or one.namespace.reason


@pytest.mark.parametrize("name", NAMES)
def test_what_a_component_keeps_are_claims_of_its_own(name: str) -> None:
    one = packaged()[name]
    kept = [
        f"{template['metadata']['name']}-{obj['metadata']['name']}-0"
        for obj in (render([one], with_toy()) if one.manifests and not one.upstream else [])
        if obj["kind"] == "StatefulSet"
        for template in obj["spec"]["volumeClaimTemplates"]
    ]
    assert one.data.claims == kept


def test_every_pinned_image_belongs_to_a_component_or_to_the_bundle_itself() -> None:
    assert {image for one in packaged().values() for image in one.images} | {"pause", "busybox"} == {
        *versions()["images"]
    }


def test_policies_come_after_the_operator_that_reads_them_is_ready() -> None:
    settings, security = pl.load(LAB), layer("security")
    steps = stages(security, settings, render_layer(security, settings))
    names = [[each["metadata"]["name"] for each in step] for step in steps]
    assert "kyverno-admission-controller" in names[0] and "disallow-latest" in names[1]
    assert "observability" in names[0]
    assert sum(map(len, names)) == len(render_layer(security, settings))
    assert stages(layer("storage"), settings, [{}]) == [[{}]]


# -- names


HOMES = ("query", "clusters", "components")  # query clients, distributions; a component's own folder is looked at apart
WORDS = {  # file, name: why it is no name of a component or layer there
    ("bundle/imaging.py", "loki"): "an account of /etc/passwd in every image",
    ("bundle/registry.py", "storage"): "a key of the registry's configuration",
    ("component.py", "applications"): "an end of a flow",
    ("kube/credentials.py", "cluster"): "a key of a kubeconfig",
    ("kube/growth.py", "storage"): "a resource of a claim",
    ("lab/machine.py", "kubelet"): "the program on a machine",
    ("lab/parameters.py", "cluster"): "a section of the parameters",
    ("layers/data.py", "storage"): "a resource of a claim",
    ("machines/facts.py", "kubelet"): "the program on a machine",
    ("security/access.py", "applications"): "a place of the access matrix",
    ("security/access.py", "cluster"): "a place of the access matrix",
    ("security/credentials.py", "cluster"): "a key of a kubeconfig",
    ("security/declared.py", "security"): "the label app.kubernetes.io/component",
    ("security/flows.py", "applications"): "an end of a flow",
    ("security/observe.py", "cluster"): "a section of the parameters",
    ("security/posture.py", "kyverno"): "the label app.kubernetes.io/managed-by",
    ("security/rbac.py", "cluster"): "where a persona is bound",
    ("settings/k3s_options.py", "coredns"): "k3s's name of what it packages",
    ("settings/k3s_options.py", "metrics-server"): "k3s's name of what it packages",
    ("settings/k3s_rules.py", "cluster"): "a section of the parameters",
    ("settings/k3s_rules.py", "kubelet"): "a domain of labels",
    ("settings/rules.py", "cluster"): "a section of the parameters",
    ("settings/security.py", "applications"): "a key of the parameters",
    ("settings/security.py", "cluster"): "a section of the parameters",
    ("settings/security.py", "kyverno"): "a namespace, in the description of a parameter",
    ("settings/security.py", "security"): "a section of the parameters",
    ("targets/card.py", "cluster"): "a column",
    ("targets/machines.py", "kubelet"): "the program on a machine",
    ("targets/target.py", "cluster"): "a part of the plan",
    ("targets/target.py", "loki"): "a query client",
    ("targets/target.py", "prometheus"): "a query client",
    ("cli/queries.py", "prometheus"): "a query client",
    ("cli/queries.py", "loki"): "a query client",
}
AS_WORDS = re.compile(rf"(?<![\w./-])({'|'.join(sorted(NAMES, key=len, reverse=True))}|observability)(?![\w/-]|\.\w)")


def strings(file: Path) -> Iterator[str]:
    """Every text in a file but docstrings."""
    tree = ast.parse(file.read_text("utf-8"))
    homes = (ast.Module, ast.ClassDef, ast.FunctionDef)
    told = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, homes) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


def named_in(file: Path) -> set[str]:
    found = {match for text in strings(file) for match in AS_WORDS.findall(text)}
    return found | {text for text in strings(file) if text in table()}


def test_no_layer_or_component_is_named_outside_of_its_own_folder() -> None:
    package = ROOT / "platformlib"
    files = [
        path.relative_to(package) for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in HOMES
    ]
    found = {(str(file), name) for file in files for name in named_in(package / file)}
    assert found == {*WORDS}


@pytest.mark.parametrize("name", NAMES)
def test_a_component_names_no_other_in_its_code(name: str) -> None:
    for file in packaged()[name].folder.glob("*.py"):
        assert named_in(file) & set(NAMES) <= {name}, file


# -- a user's own


def test_a_folder_outside_of_the_package_is_a_component_like_any_other() -> None:
    settings = with_toy(greeter={"word": "moin"})
    one = read(TOY)
    assert settings.layers[-1] == one.layer and one in composition.installed(settings)
    (made,) = layer(one.layer).wanted(settings)
    deployment = render([made], settings)[0]
    assert "moin" in str(deployment) and versions()["images"]["busybox"] in str(deployment)
    assert {"greeter"} <= {each["metadata"]["name"] for each in pod_security.objects(settings)}
    assert {"greeter"} <= {each["metadata"]["namespace"] for each in quotas.objects(settings)}


def test_its_flows_and_no_others_are_let_through() -> None:
    settings = with_toy()
    places = composition.namespaces(settings)
    rules = Rules({name: {"kubernetes.io/metadata.name": name} for name in places}, tuple(flows.objects(settings)))

    def pod(namespace: str, name: str) -> Pod:
        return Pod(namespace, name, {"app.kubernetes.io/name": name}, "10.42.0.9")

    toy, loki, prometheus = pod("greeter", "greeter"), pod("observability", "loki"), pod("observability", "prometheus")
    assert rules.verdict(toy, loki, 3100).passes
    assert rules.verdict(prometheus, toy, 8080).passes
    assert not rules.verdict(toy, prometheus, 9090).passes
    assert not rules.verdict(loki, toy, 8080).passes


def test_it_is_scraped_proven_and_shown_by_its_query() -> None:
    settings = with_toy()
    (job,) = yaml.safe_load(scrape_file(read(TOY), settings))["scrape_configs"]
    assert job["kubernetes_sd_configs"][0]["namespaces"]["names"] == ["greeter"]
    context = Context(settings, None)  # type: ignore[arg-type]
    assert targets(context, [read(TOY)]) == {"greeter": 1}
    checks = [check.name for check in proofs(layer(read(TOY).layer), settings, None)]  # type: ignore[arg-type]
    assert checks == ["pods of greeter", "scrape targets", "greeting"]
    assert "greeter_greetings_total" in Catalog(components=settings.components).greetings.text()
    with pytest.raises(AttributeError):
        _ = Catalog().greetings


def test_without_its_folder_nothing_of_it_is_left() -> None:
    with_toy()
    settings = pl.load(LAB)
    assert "greeter" not in composition.namespaces(settings)
    assert "greeter" not in str(flows.objects(settings))
    assert settings.layers == list(pl.load(PLATFORM).layers) and read(TOY).layer not in settings.layers


def test_its_path_is_relative_to_the_parameters_file(tmp_path: Path) -> None:
    shutil.copytree(TOY, tmp_path / "greeter")
    (tmp_path / "parameters").mkdir()
    file = tmp_path / "parameters" / "own.yaml"
    file.write_text(yaml.safe_dump({"platform": PLATFORM | {"components": ["../greeter"]}}))
    assert pl.load(file).components == [tmp_path / "greeter"]
    assert from_files([file])["platform"]["components"] == [str(tmp_path / "greeter")]


def changed(folder: Path, **changes: Any) -> list[str]:
    """A copy of the toy with another component.yaml."""
    shutil.copytree(TOY, folder, dirs_exist_ok=True)
    raw = yaml.safe_load((TOY / "component.yaml").read_text("utf-8")) | changes
    (folder / "component.yaml").write_text(yaml.safe_dump(raw))
    return [str(folder)]


FAULTY: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"colour": "red"}, r"greeter/component\.yaml: 1 fault[\s\S]*colour: unknown key"),
    "unknown key inside": ({"namespace": {"name": "x", "nam": "y"}}, r"namespace\.nam: unknown key"),
    "wrong type": ({"scrape": [{"job": "x", "port": "http"}]}, r"scrape\.0\.port: 'http'"),
    "no count": ({"scrape": [{"job": "x", "port": 1, "targets": "many"}]}, r"scrape\.0\.targets\.[\s\S]*'many'"),
    "another name": ({"name": "other"}, r"name: other — expected the folder's name, greeter"),
    "unknown layer": ({"layer": "basement"}, r"layer: basement — expected one of cluster"),
    "two ends": ({"flows": [{"name": "x", "ports": [1], "why": "why not"}]}, r"flows\.0: .*either `to` or `from`"),
    "unknown end": ({"flows": [{"name": "x", "to": "lokki", "ports": [1], "why": "why not"}]}, r"flows\.x\.to: lokki"),
    "unknown need": ({"needs": ["kyvrno"]}, r"needs: kyvrno — expected the name of a component"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_fault_is_named_by_file_and_path(fault: str, tmp_path: Path) -> None:
    changes, words = FAULTY[fault]
    with pytest.raises(SettingsError, match=words):
        with_toy(components=changed(tmp_path / "greeter", **changes))


def test_folders_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        with_toy(components=[str(tmp_path / "nowhere")])
    with pytest.raises(SettingsError, match="a name that no other component has"):
        with_toy(components=changed(tmp_path / "loki", name="loki"))
    with pytest.raises(SettingsError, match="applications among them"):
        with_toy(layers=["cluster"])
    with pytest.raises(SettingsError, match=r"greeter\.word: 3"):
        with_toy(greeter={"word": 3})


def test_a_query_of_a_name_that_another_has_is_refused(tmp_path: Path) -> None:
    (folder,) = map(Path, changed(tmp_path / "greeter"))
    (folder / "queries.yaml").write_text("cpu_by_node: {title: t, description: d., query: up, unit: x}")
    with pytest.raises(QueryError, match="cpu_by_node: another component has this query"):
        Catalog(components=[folder])


@pytest.mark.parametrize(
    ("when", "holds"),
    [("", True), ("storage", True), ("applications", False), ("security.policies", True),
     ("security.policies.signatures", False)],
)  # fmt: skip
def test_conditions(when: str, holds: bool) -> None:
    assert composition.holds(when, pl.load(LAB)) is holds
    with pytest.raises(PlatformError, match="names no parameter"):
        composition.holds("security.nonsense", pl.load(LAB))


def test_components_that_need_each_other_are_refused(tmp_path: Path) -> None:
    first = changed(tmp_path / "one", name="one", needs=["two"], settings="one")
    second = changed(tmp_path / "two", name="two", needs=["one"], settings="two")
    settings = with_toy(components=first + second)
    with pytest.raises(PlatformError, match="one, two need each other"):
        stages(layer("applications"), settings, [])


def test_what_upstream_does_not_have_cannot_be_laid_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {replicas: null, type: x}}"
    monkeypatch.setattr("platformlib.components.rendering.manifest", lambda _: manifest)
    given = {"name": "greeter", "purpose": "upstream", "upstream": {"module": "of-a-test"}}
    one = Component.model_validate(given | {"folder": tmp_path, "layer": "applications"})
    (tmp_path / "upstream.yaml").write_text("{kind: Service, metadata: {name: a}, spec: {type: y}}")
    (made,) = render([one], pl.load(PLATFORM))
    assert made["spec"] == {"type": "y"}
    (tmp_path / "upstream.yaml").write_text("{kind: Service, metadata: {name: b}}")
    with pytest.raises(PlatformError, match="upstream has no Service b"):
        render([one], pl.load(PLATFORM))


def test_the_architecture_is_drawn_as_it_is() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "architecture", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
