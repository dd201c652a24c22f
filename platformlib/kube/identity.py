"""Which platform a cluster belongs to: a name kept in the cluster itself."""

from platformlib.errors import ApiError, WrongCluster
from platformlib.kube.api import Api
from platformlib.kube.objects import Reference, prepared
from platformlib.kube.plan import CONFLICT

MARK = Reference("v1", "ConfigMap", "kube-system", "platformlib")


def identity(api: Api) -> str | None:
    """The name of the platform that claimed this cluster, or None."""
    live = api.get(MARK)
    name = ((live or {}).get("data") or {}).get("name")
    return str(name) if name else None


def claim(api: Api, name: str) -> None:
    """See `Kube.claim`. Created by POST: of two installs at once, one loses and is told so."""
    found = identity(api)
    if found is None:
        try:
            metadata = {"name": MARK.name, "namespace": MARK.namespace}
            mark = {"apiVersion": "v1", "kind": MARK.kind, "metadata": metadata, "data": {"name": name}}
            api.create(prepared(mark, None))
        except ApiError as error:
            if error.status != CONFLICT:
                raise
        found = identity(api)
    if found != name:
        own = api.session.credentials
        raise WrongCluster(
            f"{own.server} (context {own.context} of {own.path}) carries the platform {found!r}, not {name!r}",
            fix=f"give the kubeconfig of {name!r}, or the parameters of {found!r}",
        )


def release(api: Api, name: str) -> bool:
    """Take the name off a cluster; False when it had none. Raises: WrongCluster when it has another."""
    if identity(api) is None:
        return False
    claim(api, name)
    return api.delete(MARK)
