"""What a control plane on loopback needs: certificates, arguments, kubeconfigs."""

import base64
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOKEN = "a-token-of-the-tests"
POWERLESS = "a-token-without-rights"
EDITOR = "kubectl-edit"
# Every request of the user with the token is logged, and of nobody else.
AUDIT = {
    "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": ["token-user"]}, {"level": "None"}],
}  # fmt: skip


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def poll(condition: Callable[[], bool], *, timeout: float, what: object) -> None:
    """Until it holds; fails after `timeout` seconds, naming what was waited for."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.1)


@dataclass(frozen=True)
class ControlPlane:
    """Three processes and their folder."""

    folder: Path
    etcd_port: int
    peer_port: int
    port: int

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, with all its data in the file."""
        return self.folder / "admin.kubeconfig"

    def write_credentials(self) -> None:
        """An authority, the certificates that it signs, a kubeconfig, and what is to be audited."""
        (self.folder / "audit.yaml").write_text(json.dumps(AUDIT))
        key = ec.generate_private_key(ec.SECP256R1())
        authority = self._certificate("ca", key, None)
        for name, group in (("server", "system:nodes"), ("admin", "system:masters")):
            self._certificate(name, key, authority, group)
        (self.folder / "tokens.csv").write_text(f"{TOKEN},token-user,1,system:masters\n{POWERLESS},powerless,2\n")
        user = {"client-certificate-data": self.encoded("admin.crt"), "client-key-data": self.encoded("admin.key")}
        self.write_kubeconfig(self.kubeconfig, user)

    def write_kubeconfig(self, path: Path, user: dict[str, Any], **cluster: Any) -> Path:
        """A kubeconfig for a user of this control plane."""
        entry = {"server": self.server, "certificate-authority-data": self.encoded("ca.crt")} | cluster
        document = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": entry}],
            "users": [{"name": "admin", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        }  # fmt: skip
        path.write_text(json.dumps(document))
        return path

    def encoded(self, name: str) -> str:
        """A file of the folder in base64."""
        return base64.b64encode((self.folder / name).read_bytes()).decode()

    def _certificate(
        self, name: str, signer: ec.EllipticCurvePrivateKey, issuer: x509.Certificate | None, group: str = ""
    ) -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1()) if issuer else signer
        subject = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, group or "x")]
        )
        now, names = datetime.now(UTC), [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
        certificate = (
            x509.CertificateBuilder(issuer.subject if issuer else subject, subject, key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(signer, hashes.SHA256())
        )
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        (self.folder / f"{name}.crt").write_bytes(certificate.public_bytes(pem))
        secret = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, plain)
        (self.folder / f"{name}.key").write_bytes(secret)
        return certificate

    def programs(self) -> dict[str, list[str]]:
        """Program to arguments, in the order of starting."""
        at, etcd = self.folder, f"http://127.0.0.1:{self.etcd_port}"
        peer = f"http://127.0.0.1:{self.peer_port}"
        return {
            "etcd": [
                f"--data-dir={at}/etcd", f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}", "--unsafe-no-fsync", "--log-level=error",
            ],
            "kube-apiserver": [
                f"--etcd-servers={etcd}", "--bind-address=127.0.0.1", f"--secure-port={self.port}",
                "--advertise-address=127.0.0.1", "--service-cluster-ip-range=10.0.0.0/24",
                f"--tls-cert-file={at}/server.crt", f"--tls-private-key-file={at}/server.key",
                f"--client-ca-file={at}/ca.crt", f"--token-auth-file={at}/tokens.csv", "--authorization-mode=RBAC",
                "--service-account-issuer=https://test", f"--service-account-key-file={at}/ca.key",
                f"--service-account-signing-key-file={at}/ca.key", "--endpoint-reconciler-type=none",
                f"--audit-policy-file={at}/audit.yaml", f"--audit-log-path={at}/audit.log",
            ],
            "kube-controller-manager": [
                f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1",
                "--secure-port=0", f"--service-account-private-key-file={at}/ca.key", f"--root-ca-file={at}/ca.crt",
                "--concurrent-gc-syncs=10", "--min-resync-period=1h",
            ],
        }  # fmt: skip

    def audited(self) -> list[dict[str, Any]]:
        """The requests of the user with the token so far: verb, requestURI and more."""
        log = self.folder / "audit.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def patch(self, path: str, body: dict[str, Any], *, manager: str = EDITOR) -> None:
        """A merge patch past the library, by another field manager, with the token."""
        answer = httpx.patch(
            self.server + path, json=body, params={"fieldManager": manager}, verify=False,  # noqa: S501  loopback
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/merge-patch+json"},
        )  # fmt: skip
        answer.raise_for_status()

    def edit(self, path: str, body: dict[str, Any]) -> None:
        """Change an object as a person with kubectl does."""
        self.patch(path, body)
