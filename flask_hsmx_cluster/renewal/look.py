"""Reads from the wire which certificate a server shows. Only for a process of its own: the agent has no TLS.

It is not asked whether somebody vouches for it: that is the browsers' business. That the server has the key to it, TLS
itself makes sure of.
"""

from __future__ import annotations

import hashlib
import socket
import ssl

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from ..errors import ClusterError
from .certificate import MOST_CHARACTERS, MOST_NAMES, Certificate

#: Longest wait for one step of the conversation, s.
STEP_S = 3.0


class NotSeen(ClusterError):
    """No certificate was seen."""

    code = "not_seen"


def look(host: str, port: int) -> Certificate:
    """Return the certificate that is shown there.

    :raises NotSeen: there is none.
    """
    where = f"{host} port {port}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # an old server is to be seen, too
    try:
        with (
            socket.create_connection((host, port), STEP_S) as connection,
            context.wrap_socket(connection) as encrypted,
        ):
            content = encrypted.getpeercert(binary_form=True)
    except ConnectionRefusedError:
        raise NotSeen(f"{where} refuses the connection") from None
    except TimeoutError:
        raise NotSeen(f"{where} does not answer in time") from None
    except ssl.SSLError as error:
        raise NotSeen(f"{where} does not speak TLS ({error.reason or 'no answer'})") from None
    except OSError as error:
        raise NotSeen(f"{where} cannot be reached ({error.strerror or type(error).__name__})") from None
    if not content:
        raise NotSeen(f"{where} shows no certificate")
    return parse(content)


def parse(content: bytes) -> Certificate:
    """Return what a certificate says.

    :param content: DER.
    :raises NotSeen: it cannot be read.
    """
    try:
        found = x509.load_der_x509_certificate(content)
        return Certificate(
            hashlib.sha256(content).hexdigest(), _names(found), _clean(found.issuer.rfc4514_string()),
            int(found.not_valid_before_utc.timestamp()), int(found.not_valid_after_utc.timestamp()),
        )  # fmt: skip
    except (ValueError, TypeError, x509.DuplicateExtension) as error:
        raise NotSeen(f"the certificate cannot be read ({type(error).__name__})") from None


def _names(found: x509.Certificate) -> tuple[str, ...]:
    try:
        names = found.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
        assert isinstance(names, x509.SubjectAlternativeName)
        texts = [str(one.value) for one in names if isinstance(one, x509.DNSName | x509.IPAddress)]
    except x509.ExtensionNotFound:
        texts = []
    texts = texts or [str(one.value) for one in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(dict.fromkeys(map(_clean, texts[:MOST_NAMES])))


def _clean(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)[:MOST_CHARACTERS]
