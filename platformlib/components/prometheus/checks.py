"""Every target up to this layer answers, every rule is evaluated, and every node is measured."""

import yaml

from platformlib import component, composition
from platformlib.checks import Check, Found
from platformlib.components.proving import Context, same, targets_up
from platformlib.settings import Settings

WITHIN = 120  # seconds


def checks(context: Context) -> list[Check]:
    """Targets, rules, node metrics. Layers above prove their own targets."""
    order = list(component.table())
    below = order[: order.index(_own().layer) + 1]
    members = [each for each in composition.installed(context.settings) if each.layer in below]
    rules = rule_names(context.settings)
    return [
        *targets_up(context, members),
        Check(
            "rules",
            f"{len(rules)} rules, all evaluated without an error",
            "target.prometheus.rules() has the error of each",
            lambda: _rules(context, rules),
            patience=WITHIN,
        ),
        Check(
            "node metrics",
            f"CPU and memory of {', '.join(context.nodes)}",
            "look at the targets of the missing nodes: target.prometheus.targets()",
            lambda: _measured(context),
            patience=WITHIN,
        ),
    ]


def _own() -> component.Component:
    return component.packaged()["prometheus"]


def rule_names(settings: Settings) -> list[str]:
    """The names of the rules of all components."""
    files = [yaml.safe_load(text) for each in composition.installed(settings) if (text := each.text("rules.yaml"))]
    return [
        rule.get("record") or rule["alert"] for file in files for group in file["groups"] for rule in group["rules"]
    ]


def _rules(context: Context, wanted: list[str]) -> Found:
    found = context.prometheus.rules()
    bad = found[found["health"] != "ok"]
    broken = [f"{name} is {health}: {error}" for name, health, error in bad[["name", "health", "error"]].to_numpy()]
    missing = [f"{name}: not loaded" for name in sorted(set(wanted) - set(found["name"]))]
    return not (broken or missing), "; ".join(broken + missing) or f"{len(found)} rules"


def _measured(context: Context) -> Found:
    series = ("node:cpu_usage_cores:rate5m", "node:memory_working_set:bytes")
    sets = [set(_nodes_of(context, name)) for name in series]
    return same(sorted(set.intersection(*sets)), context.nodes)


def _nodes_of(context: Context, series: str) -> list[str]:
    frame = context.prometheus.query(series)
    return sorted(frame["node"]) if "node" in frame else []
