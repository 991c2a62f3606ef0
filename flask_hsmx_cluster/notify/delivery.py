"""What every way of sending needs: connections with a time limit, certificates, and failures in plain words."""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from typing import Any, Protocol, TypeVar

from ..errors import ClusterError


class _Connection(Protocol):
    """One of :mod:`smtplib` or :mod:`http.client`."""

    sock: Any

    def close(self) -> None: ...


T = TypeVar("T", bound=_Connection)

#: Longest wait for one step of the conversation, and for all of it, s.
STEP_S = 8.0
ALL_S = 20
#: Characters of a server's answer that are shown.
ANSWER_MOST = 200


class DeliveryFailed(ClusterError):
    """A message did not reach its target."""

    code = "delivery"


def failure(error: BaseException, host: str, port: int) -> DeliveryFailed:
    """Return what went wrong, for a person.

    :param error: of the network, or of TLS.
    """
    where = f"{host} port {port}" if port else host
    if isinstance(error, socket.gaierror):
        return DeliveryFailed(f"There is no address for the name {host}.", "Check the name, and this gateway's DNS.")
    if isinstance(error, ssl.SSLCertVerificationError):
        return DeliveryFailed(f"The certificate of {host} is not trusted: {error.verify_message}.",
                              "Enter its fingerprint if it is the right server.")  # fmt: skip
    if isinstance(error, ssl.SSLError):
        return DeliveryFailed(f"{where} does not speak TLS as expected: {error.reason or error}.",
                              "Is it the right port, and the right protection?")  # fmt: skip
    if isinstance(error, TimeoutError):
        return DeliveryFailed(f"{where} does not answer in time.", "Is it reachable from this gateway?")
    if isinstance(error, ConnectionRefusedError):
        return DeliveryFailed(f"{where} refuses the connection.", "Does the server run, and on this port?")
    if isinstance(error, FileNotFoundError):
        return DeliveryFailed(f"There is no {host} on this gateway.", "Does a syslog daemon run?")
    if isinstance(error, OSError) and error.strerror:
        return DeliveryFailed(f"{where} cannot be reached: {error.strerror}.", "Is it reachable from this gateway?")
    return DeliveryFailed(f"{where} answered something unexpected: {said(str(error) or type(error).__name__)}")


def said(answer: str | bytes) -> str:
    """Return a server's answer as it can be shown."""
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in text[: 4 * ANSWER_MOST]).split())
    return text if len(text) <= ANSWER_MOST else text[: ANSWER_MOST - 1] + "…"


def tls(fingerprint: str) -> ssl.SSLContext:
    """Return what TLS is to believe: the system's authorities, or the one certificate that is checked afterwards."""
    context = ssl.create_default_context()
    if fingerprint:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def demand_certificate(connection: Any, fingerprint: str, host: str) -> None:
    """Raise unless the server has the certificate with that fingerprint; before anything secret is sent.

    :param connection: a TLS socket.
    :param fingerprint: empty: TLS itself has checked it.
    """
    if fingerprint and not hmac.compare_digest(shown := _fingerprint(connection), fingerprint):
        raise DeliveryFailed(f"{host} has another certificate than the one stated: its fingerprint is {shown}.",
                             "Was it renewed? Else somebody is in between.")  # fmt: skip


def trusting(connect: Callable[[ssl.SSLContext], T], fingerprint: str, host: str) -> T:
    """Return a connection whose certificate was checked. Where it is not trusted, the failure says its fingerprint.

    :param connect: makes the connection.
    """
    try:
        connection = connect(tls(fingerprint))
    except ssl.SSLCertVerificationError as error:
        refused = failure(error, host, 0)
        try:
            with closing(connect(tls("any"))) as untrusted:
                shown = _fingerprint(untrusted.sock)
        except Exception:
            raise refused from None
        raise DeliveryFailed(f"{refused.message} Its fingerprint is {shown}.", refused.remedy) from None
    try:
        demand_certificate(connection.sock, fingerprint, host)
    except DeliveryFailed:
        connection.close()
        raise
    return connection


def _fingerprint(connection: Any) -> str:
    return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
