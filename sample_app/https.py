"""The firmware's HTTPS: ``python -m sample_app.https`` ends TLS on ``FIRMWARE_HTTPS_PORT`` and hands on to the web app
(see :mod:`sample_app.firmware.config`; the firmware itself is not in its memory).

The certificate is read once, at the start: one that is installed meanwhile is in force after a reboot.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import ssl
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: Certificate and key, as installed; and the certificate that was there when the machine started.
INSTALLED, IN_FORCE = "https.pem", "https-in-force.pem"
#: The certificate that a gateway makes for itself at its first start is good for so many days.
FIRST_DAYS = 90
#: Longest certificate with its chain and key, bytes.
MOST = 64 * 1024
HANDSHAKE_S = 5.0
#: Connections under way at once.
MOST_CONNECTIONS = 256


class CertificateRefused(ValueError):
    """What is to be installed is no certificate with its key."""


@dataclass(frozen=True)
class Shown:
    """What a page shows of a certificate."""

    fingerprint: str
    subject: str
    issuer: str
    names: tuple[str, ...]
    valid_until: datetime

    @property
    def days_left(self) -> int:
        return (self.valid_until - datetime.now(UTC)).days


def make(names: list[str], days: int, start: datetime | None = None) -> bytes:
    """Return a new certificate, signed by itself, and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    start = start or datetime.now(UTC) - timedelta(minutes=5)
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(list(map(_name, names))), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + private


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def install(state: Path, content: bytes) -> Shown:
    """Keep a certificate and its key for the next start.

    :raises CertificateRefused: they are none, or do not belong together.
    """
    if len(content) > MOST:
        raise CertificateRefused("This is too long for a certificate and its key.")
    try:
        shown = _shown(content)
        with tempfile.NamedTemporaryFile(dir=state, prefix="https.", delete=False) as file:  # mode 0600
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            context(Path(file.name))
            os.replace(file.name, state / INSTALLED)
        except BaseException:
            os.unlink(file.name)
            raise
    except ValueError:
        raise CertificateRefused("There is no certificate in it: PEM is expected.") from None
    except ssl.SSLError:
        raise CertificateRefused("The key is missing, has a password, or belongs to another certificate.") from None
    return shown


def context(path: Path) -> ssl.SSLContext:
    """Return what TLS needs of a file.

    :raises ssl.SSLError: certificate and key do not belong together.
    """
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(path, password=lambda: "")
    return found


def shown(state: Path, name: str) -> Shown | None:
    """Return what is in one of the files, None if it cannot be read."""
    try:
        return _shown((state / name).read_bytes())
    except (OSError, ValueError):
        return None


def _shown(content: bytes) -> Shown:
    certificate = x509.load_pem_x509_certificates(content)[0]
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    return Shown(
        ":".join(f"{byte:02X}" for byte in certificate.fingerprint(hashes.SHA256())),
        certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string(),
        tuple(str(one.value) for one in names), certificate.not_valid_after_utc,
    )  # fmt: skip


class Terminator:
    """Ends TLS and hands each connection on to the web app."""

    def __init__(self, web_port: int) -> None:
        self._web_port = web_port
        self._open = 0

    async def serve(self, port: int, encryption: ssl.SSLContext) -> None:
        """Serve until SIGTERM."""
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        server = await asyncio.start_server(
            self._connected, "0.0.0.0", port, ssl=encryption, ssl_handshake_timeout=HANDSHAKE_S, reuse_address=True
        )
        async with server:
            await ended.wait()

    async def _connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self._open >= MOST_CONNECTIONS:
            to_client.close()
            return
        self._open += 1
        try:
            web, to_web = await asyncio.open_connection("127.0.0.1", self._web_port)
            await asyncio.gather(_pass_on(client, to_web), _pass_on(web, to_client))
        except OSError:  # the web app is not there: so is no answer
            to_client.close()
        finally:
            self._open -= 1


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await source.read(65536):
            target.write(chunk)
            await target.drain()
    with contextlib.suppress(OSError):
        target.close()


def main() -> None:
    state = Path(os.environ.get("FIRMWARE_STATE_DIR", "firmware-state"))
    state.mkdir(parents=True, exist_ok=True)  # whoever starts first makes it; the network daemon reads there, too
    os.umask(0o077)
    installed = state / INSTALLED
    if not installed.exists():
        name = os.environ["HSMX_CLUSTER_NODE_NAME"].lower().replace(" ", "-")
        install(state, make(["wifi.seeblick.example", name], FIRST_DAYS))
    try:
        encryption = context(installed)
    except (OSError, ssl.SSLError) as error:
        sys.exit(f"{installed} cannot be used: {error}")
    certificate = x509.load_pem_x509_certificates(installed.read_bytes())[0]
    (state / IN_FORCE).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    asyncio.run(Terminator(80).serve(int(os.environ["FIRMWARE_HTTPS_PORT"]), encryption))


if __name__ == "__main__":
    main()
