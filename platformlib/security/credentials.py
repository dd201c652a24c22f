"""A kubeconfig for a persona: a client certificate for a group, a bound token for a service account."""

import base64
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from platformlib.errors import WaitTimeout
from platformlib.kube.objects import Reference
from platformlib.paths import state_dir
from platformlib.security import rbac
from platformlib.settings import Settings

if TYPE_CHECKING:
    from platformlib.kube import Kube

CERTIFICATES = "certificates.k8s.io/v1"
SIGNER = "kubernetes.io/kube-apiserver-client"
SIGNED_WITHIN = 30.0  # seconds


def kubeconfig(kube: "Kube", settings: Settings, persona: str, *, hours: int = 8) -> Path:
    """Write a kubeconfig of the persona, with mode 0600.

    Args:
        hours: how long its certificate or token is valid.

    Returns:
        Its path, in the platform's state folder.

    Raises:
        ApiError: the cluster refuses. WaitTimeout: the certificate was not signed.
    """
    row = rbac.personas(settings)[persona]
    user = _certificate(kube, persona, row["group"], hours) if "group" in row else _token(kube, row, hours)
    folder = state_dir(settings.name) / "personas"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{persona}.kubeconfig"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        yaml.safe_dump(_document(kube, f"{settings.name}-{persona}", user), file)
    return path


def _document(kube: "Kube", name: str, user: dict[str, str]) -> dict[str, Any]:
    own = kube.api.session.credentials
    admin = yaml.safe_load(Path(own.path).read_text("utf-8"))
    context = next(each["context"] for each in admin["contexts"] if each["name"] == own.context)
    cluster = next(each for each in admin["clusters"] if each["name"] == context["cluster"])
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": name, "clusters": [cluster],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": cluster["name"], "user": name}}],
    }  # fmt: skip


def _token(kube: "Kube", row: dict[str, Any], hours: int) -> dict[str, str]:
    account = Reference("v1", "ServiceAccount", rbac.HOME, row["serviceAccount"])
    body = {
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": hours * 3600},
    }  # fmt: skip
    return {"token": str(kube.api.call("POST", account, subresource="token", body=body).json()["status"]["token"])}


def _certificate(kube: "Kube", persona: str, group: str, hours: int) -> dict[str, str]:
    """The private key stays on this machine; the cluster gets the signing request only."""
    key, request = _request(f"{persona}@platform", group)
    name = f"platform-{persona}-{secrets.token_hex(6)}"
    made: dict[str, Any] = {
        "apiVersion": CERTIFICATES, "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"request": base64.b64encode(request).decode(), "signerName": SIGNER, "usages": ["client auth"],
                 "expirationSeconds": hours * 3600},
    }  # fmt: skip
    ref = Reference(CERTIFICATES, "CertificateSigningRequest", "", name)
    created = kube.api.create(made)
    approval = {"type": "Approved", "status": "True", "reason": "Persona", "message": "issued by platformlib"}
    kube.api.call("PUT", ref, subresource="approval", body={**created, "status": {"conditions": [approval]}})
    try:
        return {"client-certificate-data": _signed(kube, ref), "client-key-data": base64.b64encode(key).decode()}
    finally:
        kube.api.delete(ref)


def _signed(kube: "Kube", ref: Reference) -> str:
    deadline = time.monotonic() + SIGNED_WITHIN
    while not (found := ((kube.api.get(ref) or {}).get("status") or {}).get("certificate")):
        if time.monotonic() > deadline:
            raise WaitTimeout(
                f"{ref} was not signed within {SIGNED_WITHIN:.0f} s", fix="does the controller manager run?"
            )
        time.sleep(0.2)
    return str(found)


def _request(name: str, group: str) -> tuple[bytes, bytes]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([
        x509.NameAttribute(x509.NameOID.COMMON_NAME, name), x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, group),
    ])  # fmt: skip
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain), request.public_bytes(pem)
