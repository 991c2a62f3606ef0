"""A certificate is read from the wire, by a process of its own; whatever answers there."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flask_hsmx_cluster.agent.renewal.look import look as by_process
from flask_hsmx_cluster.errors import ClusterError
from flask_hsmx_cluster.renewal.look import NotSeen, look, parse

START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def make(*names: x509.GeneralName, days: int = 1) -> tuple[x509.Certificate, bytes]:
    """Return a certificate that has expired long ago, and it with its key as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the common name")])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(7).not_valid_before(START).not_valid_after(START + datetime.timedelta(days))
    )  # fmt: skip
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    found = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return found, found.public_bytes(serialization.Encoding.PEM) + private


@contextlib.contextmanager
def answering(context: ssl.SSLContext | None = None, says: bytes = b"") -> Iterator[int]:
    """Answer on a port of this machine: with TLS, or with some bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    if context is None:
                        connection.sendall(says)
                    else:
                        context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[x509.Certificate, int]]:
    found, content = make(x509.DNSName("wifi.example"), x509.IPAddress(ip_address("10.0.0.100")))
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with answering(context) as port:
        yield found, port


def test_it_is_read_as_it_is_shown_even_if_it_has_expired(served: tuple[x509.Certificate, int]) -> None:
    made, port = served
    for seen in (look("127.0.0.1", port), by_process(f"127.0.0.1:{port}")):
        assert seen.fingerprint == made.fingerprint(hashes.SHA256()).hex()
        assert seen.names == ("wifi.example", "10.0.0.100") and seen.issuer == "CN=the common name"
        assert seen.not_after - seen.not_before == 86400 and seen.validity(START.timestamp() - 1) == "not_yet"


def test_without_alternative_names_it_is_for_its_common_name() -> None:
    found, _ = make()
    assert parse(found.public_bytes(serialization.Encoding.DER)).names == ("the common name",)
    many, _ = make(*(x509.DNSName(f"{number}.example") for number in range(50)))
    assert len(parse(many.public_bytes(serialization.Encoding.DER)).names) == 20


def test_what_shows_no_certificate_is_said() -> None:
    with answering(says=b"HTTP/1.0 400 Bad Request\r\n\r\n" * 10) as port:
        with pytest.raises(NotSeen, match="does not speak TLS"):
            look("127.0.0.1", port)
        with pytest.raises(ClusterError, match="does not speak TLS"):
            by_process(f"127.0.0.1:{port}")
    with pytest.raises(ClusterError, match="nothing answers"):
        by_process(f"127.0.0.1:{port}")
    with pytest.raises(NotSeen, match="refuses the connection"):
        look("127.0.0.1", port)
    with pytest.raises(NotSeen, match="cannot be read"):
        parse(b"nonsense")
