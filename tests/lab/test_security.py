"""Security on the lab: what has to be refused is, what may pass passes, and what is not as declared is named."""

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

import platformlib as pl
from platformlib import machines
from platformlib.bundle import Bundle
from platformlib.errors import KubeError
from platformlib.kube.objects import Reference, reference
from platformlib.lab import Lab
from platformlib.paths import state_dir
from platformlib.security import connectivity, coverage, examples, probes
from platformlib.security.connectivity import OPEN
from platformlib.security.declared import KIND, NAME
from tests.unit.security_policies import NAMESPACES, let_through, policies

Object = dict[str, Any]
SETS = 30
SCRIPT = "for port in 8080 8081 9090; do httpd -p $port -h /tmp; done; sleep 3600"
PORTS = {"http": 8080, "admin": 8081, "metrics": 9090}
LAYER = "security-worlds"


def test_every_rule_refuses_with_its_own_words_and_lets_its_other_example_run(target: "pl.Target") -> None:
    table = target.security.coverage()
    assert table["ok"].all(), table[~table["ok"]].to_string()
    assert set(table["layer"]) == {"access", "network", "pod", "policy", "resource"}
    assert target.security.untested().empty


def test_every_answer_about_every_persona_is_the_expected_one(target: "pl.Target") -> None:
    matrix = target.security.matrix()
    assert matrix["ok"].all(), matrix[~matrix["ok"]].to_string()
    assert set(matrix["persona"]) == set(target.settings.security.personas)
    assert matrix["found"].nunique() == 2


def test_connections_of_the_platform_are_as_its_policies_say(target: "pl.Target") -> None:
    target.security.verify("connectivity")


def test_no_pod_of_the_platform_is_below_restricted_without_a_reason(target: "pl.Target") -> None:
    pods = target.security.pods()
    assert pods["allowed"].all(), pods[~pods["allowed"]].to_string()
    assert set(pods[(pods["faults"] != "") & (pods["namespace"] != "kube-system")]["namespace"]) <= {
        "node-agents",
        "storage",
    }


# Generated policies. Three namespaces of three pods, spread over the machines, see one set after another.


def world_pod(namespace: str, app: str, node: str) -> Object:
    made = examples.pod(app, f"world-{namespace}", SCRIPT, app=app)
    if (namespace, app) == ("red", "web"):
        made["metadata"]["labels"]["canary"] = "yes"
    made["spec"]["nodeName"] = node
    made["spec"]["containers"][0]["ports"] = [{"name": name, "containerPort": port} for name, port in PORTS.items()]
    return made


def world(nodes: list[str]) -> list[Object]:
    spaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"world-{name}", "labels": labels}}
        for name, labels in NAMESPACES.items()
    ]
    apps = [(namespace, app) for namespace in NAMESPACES for app in ("web", "db", "log")]
    return [*spaces, *(world_pod(*each, nodes[n % len(nodes)]) for n, each in enumerate(apps))]


@pytest.fixture
def worlds(target: "pl.Target") -> Iterator[dict[str, Object]]:
    """The nine pods as the cluster has them, on the workers."""
    workers = [node.name for node in target.settings.cluster.nodes if node.role == "worker"]
    target.kube.uninstall(LAYER)
    objects = world(workers)
    target.kube.apply(objects, layer=LAYER)
    target.kube.wait(objects, timeout=120)
    yield {
        f"{each['metadata']['namespace']}/{each['metadata']['name']}": each
        for name in NAMESPACES
        for each in target.kube.list("v1", "Pod", f"world-{name}")
    }
    target.kube.uninstall(LAYER)


def generated(cidrs: list[str]) -> list[list[Object]]:
    """Sets of policies, the same in every run."""
    found: list[list[Object]] = []

    @seed(20)
    @settings(max_examples=SETS * 4, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(policies(cidrs))
    def collect(drawn: list[Object]) -> None:
        found.append(drawn)

    collect()
    return found


def meant(live: list[Object], pods: dict[str, connectivity.Pod], labels: dict[str, Any]) -> set[tuple[str, str, int]]:
    """What may pass, by the engine."""
    known = connectivity.Rules(labels, tuple(live))
    ways = [(a, b, port) for a in pods for b in pods for port in PORTS.values() if a != b]
    return {(a, b, port) for a, b, port in ways if known.verdict(pods[a], pods[b], port).passes}


def placed(drawn: list[Object], *, whole: bool = False) -> list[Object]:
    """The policies as objects, one for each direction: see the test of the engine's own reading below."""
    made = [
        {**each, "metadata": {**each["metadata"], "namespace": f"world-{each['metadata']['namespace']}"}}
        for each in drawn
    ]
    split = made if whole else [one for each in made for one in halves(each)]
    return [{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", **each} for each in split]


def halves(policy: Object) -> list[Object]:
    """By the specification, a policy of two directions is the same as two of one."""
    made = []
    for kind in connectivity.types(policy):
        spec = {key: policy["spec"][key] for key in ("podSelector", kind.lower()) if key in policy["spec"]}
        metadata = {**policy["metadata"], "name": f"{policy['metadata']['name']}-{kind.lower()}"}
        made.append({"metadata": metadata, "spec": {**spec, "policyTypes": [kind]}})
    return made


def passing(target: "pl.Target", live: dict[str, Object]) -> set[tuple[str, str, int]]:
    ways = {
        (a, b, port): probes.Probe(*probes.start(live[a]), live[b]["status"]["podIP"], port)
        for a in live for b in live for port in PORTS.values() if a != b
    }  # fmt: skip
    found = probes.run(target.settings, ways.values())
    return {way for way, probe in ways.items() if found[probe] == OPEN}


def settled(target: "pl.Target", live: dict[str, Object], wanted: set[Any]) -> set[Any]:
    """What passes, once it is the wanted; what still differs after a while is the answer."""
    deadline = time.monotonic() + 15
    while (found := passing(target, live)) != wanted and time.monotonic() < deadline:
        time.sleep(0.3)
    return found


@pytest.mark.timeout(420)
def test_thirty_generated_sets_of_policies_mean_the_same_to_engine_reading_and_traffic(
    target: "pl.Target", worlds: dict[str, Object]
) -> None:
    pods = {str(pod): pod for pod in connectivity.pods(worlds.values())}
    labels = {each["metadata"]["name"]: each["metadata"]["labels"] for each in target.kube.list("v1", "Namespace")}
    addresses = sorted(pod.address for pod in pods.values())
    cidrs = ["10.42.0.0/16", "0.0.0.0/0", *(f"{address}/32" for address in addresses[:4])]
    sets = [placed(drawn) for drawn in generated(cidrs)]
    half = len(pods) * (len(pods) - 1) * len(PORTS) / 2
    # Those that close about a half: a set that opens or closes everything teaches little.
    for live in sorted(sets, key=lambda each: abs(len(meant(each, pods, labels)) - half))[:SETS]:
        target.kube.apply(live, layer="security-policies")
        target.kube.prune("security-policies", live)
        engine = meant(live, pods, labels)
        assert engine == let_through(live, pods, labels)
        assert settled(target, worlds, engine) == engine, live
    target.kube.uninstall("security-policies")


def test_where_the_engine_differs_from_the_specification_traffic_shows_it_and_the_posture_names_it(
    target: "pl.Target", worlds: dict[str, Object]
) -> None:
    """kube-router 2.6 asks the egress rules of a policy of both directions on the way in as well."""
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{}]}
    live = placed([{"metadata": {"namespace": "blue", "name": "both"}, "spec": spec}], whole=True)
    target.kube.apply(live, layer="security-policies")
    table = connectivity.table(target.kube, target.settings, ["world-blue", "world-red"])
    inside = table[(table["source"] != table["to"]) & table["source"].str.startswith("world-blue")]
    wrong = inside[inside["to"].str.startswith("world-blue")]
    assert (wrong["found"] & ~wrong["expected"]).all(), (
        "the engine has been mended: drop the split in security/flows.py"
    )
    assert table.drop(wrong.index)["ok"].all()
    assert "NetworkPolicy world-blue/both" in set(target.security.findings()["object"])
    target.kube.uninstall("security-policies")


# What somebody might do to a cluster behind the platform's back.


@pytest.fixture
def undone(target: "pl.Target") -> Iterator[list[Object]]:
    made: list[Object] = []
    yield made
    for each in made:
        target.kube.delete(each)
    target.layers["security"].apply(take_ownership=True)
    assert target.security.findings().empty


def test_the_posture_names_what_somebody_did(target: "pl.Target", undone: list[Object]) -> None:
    assert target.security.findings().empty, target.security.findings().to_string()
    privileged = examples.pod("intruder", "storage")
    privileged["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "friends"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "User", "name": "a-friend", "apiGroup": "rbac.authorization.k8s.io"}],
    }  # fmt: skip
    unlabelled = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "unlabelled"}}
    for each in (privileged, binding, unlabelled):
        undone.append(each)
        target.kube.api.create(each)
    widened = target.kube.get("networking.k8s.io/v1", "NetworkPolicy", "allow-to-loki", "observability")
    assert widened is not None
    widened["spec"]["ingress"].append({})
    target.kube.api.call("PUT", reference(widened), body=widened)

    found = target.security.findings()
    named = {(row.about, row.object) for row in found.itertuples()}
    assert {
        ("pods", "Pod storage/intruder"), ("access", "ClusterRoleBinding friends"),
        ("namespaces", "Namespace unlabelled"), ("drift", "NetworkPolicy observability/allow-to-loki"),
    } <= named, found.to_string()  # fmt: skip


# Applications


def ran(target: "pl.Target", *pods: Object) -> dict[str, Object]:
    """Created one after the other, and ready."""
    return {each["metadata"]["name"]: examples.started(target.kube, each, timeout=120) for each in pods}


@pytest.fixture
def shop(target: "pl.Target") -> Iterator[list[Object]]:
    """What a test leaves in the application's namespace is taken away."""
    made: list[Object] = []
    yield made
    for each in made:
        target.kube.delete(each)


def test_pods_of_an_application_talk_to_each_other_and_to_nobody_else(target: "pl.Target", shop: list[Object]) -> None:
    pods = [examples.pod(name, "shop", examples.LISTEN) for name in ("front", "back")]
    shop += pods
    live = ran(target, *pods)
    loki = next(p for p in target.kube.list("v1", "Pod", "observability") if p["metadata"]["name"].startswith("loki"))
    inside = probes.Probe(*probes.start(live["front"]), live["back"]["status"]["podIP"], examples.PORT)
    outside = probes.Probe(*probes.start(live["front"]), loki["status"]["podIP"], 3100)

    def found() -> list[bool]:
        answers = probes.run(target.settings, [inside, outside])
        return [answers[each] == OPEN for each in (inside, outside)]

    assert examples.until(found, lambda seen: seen == [True, False], 30) == [True, False]


def test_a_pod_that_requests_one_core_runs_and_is_not_limited(target: "pl.Target", shop: list[Object]) -> None:
    pod = examples.pod("core", "shop")
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "1"
    shop.append(pod)
    (live,) = ran(target, pod).values()
    assert "cpu" not in live["spec"]["containers"][0]["resources"]["limits"]


# The operator


def as_operator(target: "pl.Target", *arguments: str) -> subprocess.CompletedProcess[str]:
    config = target.security.kubeconfig("operator")
    argv = ["kubectl", "--kubeconfig", str(config), "--namespace", "kyverno", *arguments]
    return subprocess.run(argv, executable=Bundle().binary("kubernetes"), capture_output=True, text=True, check=False)


def test_an_operator_restarts_and_cordons_with_kubectl_and_sets_no_image(target: "pl.Target") -> None:
    name, node = "deployment/kyverno-cleanup-controller", target.settings.cluster.nodes[-1].name
    restarted = as_operator(target, "rollout", "restart", name)
    assert restarted.returncode == 0, restarted.stderr
    for verb in ("cordon", "uncordon"):
        assert as_operator(target, verb, node).returncode == 0
    for arguments in (
        ("set", "image", name, "controller=docker.io/library/busybox:1.37"),
        ("patch", name, "--patch", '{"spec": {"template": {"spec": {"hostPID": true}}}}'),
        ("label", "node", node, "node-role.kubernetes.io/control-plane="),
    ):
        refused = as_operator(target, *arguments)
        assert refused.returncode != 0 and "operator-" in refused.stderr, arguments
    target.layers["security"].wait(300)
    assert target.security.findings().empty, "a restart is no drift"


# Policies


@pytest.fixture
def without_a_policy(target: "pl.Target") -> Iterator[None]:
    """For as long as it takes to make something old."""
    yield
    target.layers["security"].apply()
    target.layers["security"].wait(120)


def latest(target: "pl.Target", name: str, **how: Any) -> str:
    """The refusal of a pod with a moving tag, as a dry run; empty when it is let through."""
    bad = examples.merged(examples.pod(name, "default"), LATEST)
    try:
        target.kube.api.call("POST", Reference("v1", "Pod", "default", ""), body=bad, **how)
    except KubeError as error:
        return str(error)
    return ""


LATEST = {"spec": {"containers": [{"name": "main", "image": "docker.io/library/busybox:latest"}]}}
HELD = {"metadata": {"finalizers": ["platformlib.example/hold"]}}


@pytest.mark.timeout(400)
def test_a_pod_from_before_a_policy_can_end(target: "pl.Target", without_a_policy: None) -> None:
    kube, ref = target.kube, Reference("v1", "Pod", "default", "old")
    kube.delete(Reference("policies.kyverno.io/v1", "ValidatingPolicy", "", "disallow-latest"))
    gone = examples.until(lambda: latest(target, "old", dryRun="All"), lambda said: not said, 60)
    assert gone == ""
    kube.api.create(examples.merged(examples.pod("old", "default"), examples.merged(LATEST, HELD)))
    target.layers["security"].apply()
    target.layers["security"].wait(120)
    back = examples.until(lambda: latest(target, "new", dryRun="All"), lambda said: "disallow-latest" in said, 60)
    assert "disallow-latest" in back

    def patch(body: Object) -> None:
        kube.api.call("PATCH", ref, body=body, content="application/merge-patch+json")

    patch({"metadata": {"annotations": {"any": "thing"}}})
    kube.api.delete(ref)
    patch({"metadata": {"finalizers": None}})
    assert examples.until(lambda: kube.api.get(ref), lambda found: found is None, 60) is None


@pytest.mark.timeout(500)
def test_in_audit_mode_policies_warn_and_no_refused_example_ever_exists(target: "pl.Target") -> None:
    raw = target.settings.model_dump(mode="json")
    raw["security"]["policies"]["mode"] = "audit"
    auditing = pl.Target(pl.load(raw))
    before = {pod["metadata"]["uid"] for pod in target.kube.list("v1", "Pod")}
    try:
        auditing.layers["security"].apply()
        auditing.layers["security"].wait(120)
        warned = examples.until(lambda: latest(target, "probe", dryRun="All"), lambda said: not said, 60)
        assert warned == "", "nothing is refused"
        table = coverage.table(target.kube, auditing.settings)
        assert table["ok"].all(), table[~table["ok"]].to_string()
        auditing.layers["security"].verify()
    finally:
        target.layers["security"].apply()
        target.layers["security"].wait(120)
        examples.until(lambda: latest(target, "probe", dryRun="All"), lambda said: "disallow-latest" in said, 60)
    left = [p["metadata"]["name"] for p in target.kube.list("v1", "Pod") if p["metadata"]["uid"] not in before]
    assert not [name for name in left if name.startswith(("no-", "ok-"))], left


# node-exporter


@pytest.mark.full
def test_node_exporter_measures_the_node_and_listens_to_prometheus_alone(target: "pl.Target") -> None:
    nodes = {node.name: node for node in target.settings.cluster.nodes}
    state = state_dir(target.settings.name)
    for node in nodes.values():
        machine = machines.connect(node, target.settings.cluster.ssh, state=state)
        assert ":9100" not in machine.run(["ss", "-Hltn"]).stdout, node.name
        devices = {line.split(":")[0].strip() for line in machine.run(["cat", "/proc/net/dev"]).stdout.splitlines()[2:]}
        found = target.prometheus.query(f'node_network_receive_bytes_total{{node="{node.name}"}}')
        assert set(found["device"]) <= devices and "lo" in set(found["device"]) and len(found) > 1
        assert any(device not in ("lo", "eth0") or len(devices) <= 2 for device in found["device"])
    named = target.prometheus.query("node_uname_info")
    assert set(named["nodename"]) == set(named["node"]) == set(named["instance"]) == set(nodes)
    assert target.prometheus.query("node_scrape_collector_success == 0").empty
    exporter = next(p for p in target.kube.list("v1", "Pod", "node-agents") if "node-exporter" in p["metadata"]["name"])
    elsewhere = next(name for name in nodes if name != exporter["spec"]["nodeName"])
    scraper = next(p for p in target.kube.list("v1", "Pod", "observability") if "prometheus" in p["metadata"]["name"])
    address = exporter["status"]["podIP"]
    asked = {
        "another machine": probes.Probe(probes.HOST, elsewhere, address, 9100),
        "Prometheus": probes.Probe(*probes.start(scraper), address, 9100),
    }
    answers = probes.run(target.settings, asked.values())
    assert {name: answers[probe] == OPEN for name, probe in asked.items()} == {
        "another machine": False, "Prometheus": True,
    }  # fmt: skip


def test_a_new_namespace_is_closed_and_bounded_by_its_label_alone(target: "pl.Target") -> None:
    with examples.namespaces(target.kube) as made:
        assert made == "made"
        live = target.kube.get("v1", "ResourceQuota", "platform", examples.CLOSED)
        assert live is not None
        assert live["spec"]["hard"]["limits.memory"] == target.settings.security.sizes.small.memory


def test_what_the_platform_applied_says_so(target: "pl.Target") -> None:
    spaces = {
        each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in target.kube.list("v1", "Namespace")
    }
    assert spaces["observability"][KIND] == "platform"
    assert NAME not in spaces["observability"]


def answers(target: "pl.Target", seconds: float = 120) -> None:
    """Until the API server is ready: in its first moment it knows no roles, and refuses everybody."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            target.kube.api.session.request("GET", "/readyz")
        except KubeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return


def replicas(target: "pl.Target") -> list[Object]:
    chosen = "app.kubernetes.io/component=admission-controller"
    return target.kube.list("v1", "Pod", "kyverno", chosen)


@pytest.mark.full
def test_kyverno_answers_from_every_worker(target: "pl.Target") -> None:
    workers = {node.name for node in target.settings.cluster.nodes if node.role == "worker"}
    assert {pod["spec"]["nodeName"] for pod in replicas(target)} == workers
    budget = target.kube.get("policy/v1", "PodDisruptionBudget", "kyverno-admission-controller", "kyverno")
    assert budget is not None and budget["status"]["disruptionsAllowed"] == 1


CONTROLLERS = "/etc/kubernetes/manifests/kube-controller-manager.yaml"


@pytest.mark.full
@pytest.mark.timeout(900)
def test_all_machines_lose_power_and_kyverno_its_pods_and_the_cluster_heals_by_itself(
    target: "pl.Target", lab: Lab
) -> None:
    """With Fail, no pod is admitted without Kyverno; its own pods have to be, with nobody to admit them.

    The controller manager is stopped while Kyverno's pods are deleted, so that none is there when the power is back.
    """
    settings = target.settings
    founder = next(node for node in settings.cluster.nodes if node.role == "control-plane")
    machine = machines.connect(founder, settings.cluster.ssh, state=state_dir(settings.name))
    machine.run(["mv", CONTROLLERS, "/root/"])
    try:
        for pod in target.kube.list("v1", "Pod", "kyverno"):
            path = f"/api/v1/namespaces/kyverno/pods/{pod['metadata']['name']}"
            target.kube.api.session.request("DELETE", path, body={"gracePeriodSeconds": 0})
        assert target.kube.list("v1", "Pod", "kyverno") == []
        lab.cut_power()
        lab.up()
    finally:
        machine.run(["mv", "/root/kube-controller-manager.yaml", CONTROLLERS])
    answers(target)
    hooks = target.kube.list("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration")
    failing = [hook for each in hooks for hook in each.get("webhooks") or [] if "kyverno" in hook["name"]]
    assert failing and {hook["failurePolicy"] for hook in failing if "fail" in hook["name"]} == {"Fail"}
    for name in ("cluster", "security", "storage", "observability"):
        target.layers[name].wait(300)
    for name in ("security", "observability"):
        target.layers[name].verify()
    made = examples.pod("after", "default")
    examples.started(target.kube, made, timeout=120)
    target.kube.delete(made)
    assert target.security.findings().empty
