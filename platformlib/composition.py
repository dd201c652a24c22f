"""What a platform is composed of: which components its parameters want, and what follows from all of them together."""

from platformlib import component
from platformlib.component import Component, Namespace
from platformlib.errors import PlatformError
from platformlib.settings import Settings


def components(settings: Settings) -> list[Component]:
    """The components of the platform's layers that its parameters want, in the order of installing.

    Those that the distribution brings are among them: they are proven, scraped and talked to like the others.
    """
    every = [*component.packaged().values(), *map(component.read, settings.components)]
    wanted = [each for each in every if each.layer in settings.layers and holds(each.when, settings)]
    order = list(component.table())
    return sorted(wanted, key=lambda each: order.index(each.layer))


def installed(settings: Settings) -> list[Component]:
    """The components that the distribution does not bring."""
    return [each for each in components(settings) if not brought(each, settings)]


def brought(one: Component, settings: Settings) -> bool:
    """Whether the distribution brings a component, and was not told to leave it out."""
    by = one.brought.get(settings.cluster.distribution, False)
    return by if isinstance(by, bool) else by not in settings.cluster.k3s.disable


def holds(when: str, settings: Settings) -> bool:
    """Whether a condition holds: a layer is part of the platform, or a parameter (`a.b`) is set."""
    if "." not in when:
        return not when or when in settings.layers
    found: object = settings
    for key in when.split("."):
        if not hasattr(found, key):
            raise PlatformError(f"the condition {when!r} names no parameter", fix="see parameters/example.yaml")
        found = getattr(found, key)
    return bool(found)


def provider(settings: Settings, what: str) -> Component | None:
    """The component that provides it, if the platform has one."""
    return next((each for each in components(settings) if what in each.provides), None)


def namespaces(settings: Settings) -> dict[str, Namespace]:
    """Every namespace of the platform's own, with what all its components need of it."""
    found: dict[str, Namespace] = {}
    for each in installed(settings):
        if (own := each.namespace) is not None:
            found[own.name] = found[own.name].joined(own) if own.name in found else own
    return found


def place(one: Component) -> str:
    """A component as the end of a flow: `nodes`, `namespace/app`, or `namespace/*` for one that has it alone."""
    if one.host or one.namespace is None:
        return "nodes"
    return f"{one.namespace.name}/{next(iter(one.selector.values()), '*')}"


def flows(settings: Settings) -> list[dict[str, object]]:
    """name, from, to, ports, why: what the components declare as clients, and every scrape."""
    here = {each.name: each for each in components(settings)}
    rows: list[dict[str, object]] = []
    for each in installed(settings):
        for flow in each.flows:
            to = place(here[flow.to]) if flow.to in here else flow.to
            known = flow.from_ or flow.to in here or flow.to not in component.packaged()
            if known and holds(flow.when, settings):
                ends = {"from": flow.from_, "to": place(each)} if flow.from_ else {"from": place(each), "to": to}
                rows.append({"name": flow.name, **ends, "ports": flow.ports, "why": flow.why})
    if (metrics := provider(settings, "metrics")) is not None:
        for each in installed(settings):
            ends = {"from": place(metrics), "to": place(each)}
            why = f"metrics of {each.name}"
            rows += [
                {"name": "scrape", **ends, "ports": [job.port], "why": why} for job in each.scrape if each != metrics
            ]
    return rows
