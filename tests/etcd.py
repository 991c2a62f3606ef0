"""An etcd as the lab starts it, with certificates of its own, for tests of the arbiter."""

from __future__ import annotations

import datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: Debian's ``etcd-server``.
PROGRAM = "etcd"
_START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


class Authority:
    """Makes certificates, as PEM files in a directory, readable by everybody.

    :param directory: has ``ca.pem`` then, and ``NAME.pem`` and ``NAME.key`` of each certificate.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the arbiter's authority")])
        found = self._build(self._name, self._key.public_key(), x509.BasicConstraints(True, None)).sign(
            self._key, hashes.SHA256()
        )
        self.ca = self._write("ca.pem", found.public_bytes(serialization.Encoding.PEM))

    def certify(self, name: str, *addresses: str) -> tuple[Path, Path]:
        """Return the files of a new certificate and its key.

        :param addresses: for which it is valid.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(one)) for one in addresses])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        found = self._build(subject, key.public_key(), *([names] if addresses else [])).sign(
            self._key, hashes.SHA256()
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        certificate = self._write(f"{name}.pem", found.public_bytes(serialization.Encoding.PEM))
        return certificate, self._write(f"{name}.key", private)

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *extensions: x509.ExtensionType
    ) -> x509.CertificateBuilder:
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
            .serial_number(x509.random_serial_number()).not_valid_before(_START)
            .not_valid_after(_START + datetime.timedelta(36500))
        )  # fmt: skip
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder

    def _write(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        path.chmod(0o644)
        return path


def command(directory: Path, authority: Authority, address: str, port: int = 2379, peer_port: int = 2380) -> list[str]:
    """Return the command of an etcd that keeps its data in a directory, and talks to whom the authority knows."""
    certificate, key = authority.certify("etcd", address)
    url, peers = f"https://{address}:{port}", f"http://127.0.0.1:{peer_port}"
    return [
        PROGRAM, "--name", "arbiter", "--data-dir", str(directory), "--listen-client-urls", url,
        "--advertise-client-urls", url, "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
        "--initial-cluster", f"arbiter={peers}", "--cert-file", str(certificate), "--key-file", str(key),
        "--client-cert-auth", "--trusted-ca-file", str(authority.ca), "--auto-compaction-retention=1",
        "--unsafe-no-fsync",
    ]  # fmt: skip
