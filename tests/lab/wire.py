"""Which certificate is shown on the wire: read by a client of the lab, with nothing of ours in between."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sample_app.lab.namespace import Namespace


def read(where: Namespace, address: str, timeout_s: float = 2.0) -> x509.Certificate:
    """Return the certificate that an address shows on port 443.

    :raises OSError: nothing answers, or not with TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with where.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect((address, 443))
        with context.wrap_socket(connection) as encrypted:
            content = encrypted.getpeercert(binary_form=True)
    assert content is not None
    return x509.load_der_x509_certificate(content)


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


class Visitor:
    """A guest who opens an HTTPS connection to an address again and again, and notes each certificate that it is shown.

    :ivar seen: fingerprint and whether the certificate was valid at that moment.
    """

    def __init__(self, where: Namespace, address: str) -> None:
        self.seen: list[tuple[str, bool]] = []
        self._where, self._address = where, address
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Visitor:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            try:
                found = read(self._where, self._address, 0.5)
            except OSError:  # at a fail-over nobody answers for a moment
                continue
            start, end = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
            self.seen.append((fingerprint(found), start <= time.time() <= end))
