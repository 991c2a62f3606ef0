"""Webhooks: an HTTP POST of JSON, signed. Redirects are not followed, and no proxy is asked."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
import time
from typing import Any

from ..network.http_body import read_body
from ..settings.notify import Target, webhook
from . import texts
from .delivery import STEP_S, DeliveryFailed, failure, said, trusting
from .texts import Message

#: Of an answer that much is read, bytes.
ANSWER_READ = 4096


def send(target: Target, message: Message) -> str:
    """Send a message and return the server's answer.

    :raises DeliveryFailed: it was not taken.
    """
    url = webhook(target)
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    payload = json.dumps(content(message)).encode()
    try:
        connection = _connected(target, url.scheme, host, port)
        try:
            path = (url.path or "/") + (f"?{url.query}" if url.query else "")
            connection.request("POST", path, payload, headers(target, payload, int(time.time())))
            with connection.getresponse() as answer:
                text = said(read_body(answer, ANSWER_READ))
        finally:
            connection.close()
    except http.client.HTTPException as error:
        raise DeliveryFailed(f"{host} does not speak HTTP as expected: {said(repr(error))}",
                             "Is it the right port?") from None  # fmt: skip
    except OSError as error:
        raise failure(error, host, port) from None
    told = f"{answer.status} {said(answer.reason)}"
    if 300 <= answer.status < 400:
        raise DeliveryFailed(f"{host} wants us to go elsewhere ({told}); redirects are not followed.",
                             "Enter the final address.")  # fmt: skip
    if not 200 <= answer.status < 300:
        raise DeliveryFailed(f"{host} answered {told}{f': {text}' if text else ''}", "See the receiver's log.")
    return f"{host} answered {told}{f': {text}' if text else ''}"


def content(message: Message) -> dict[str, Any]:
    """Return what is sent, before it is JSON."""
    return {
        "version": 1,
        "cluster": message.cluster,
        "gateway": message.gateway,
        "sent_at": message.at,
        "severity": message.severity,
        "title": texts.subject(message),
        "text": texts.body(message),
        "dropped": message.dropped,
        "news": [
            {"id": one.id, "state": one.kind, "key": one.key, "alarm": one.ident, "gateway": one.gateway,
             "severity": one.severity, "text": one.text, "remedy": one.remedy, "at": one.at, "times": one.times}
            for one in message.news
        ],
    }  # fmt: skip


def headers(target: Target, payload: bytes, now: int) -> dict[str, str]:
    """Return the headers.

    :param now: seconds since 1970; it is signed too, so that a receiver can refuse what was recorded.
    """
    found = {"Content-Type": "application/json", "User-Agent": "hsmx-cluster", "X-HSMX-Timestamp": str(now)}
    if target.password:
        signature = hmac.new(target.password.encode(), f"{now}.".encode() + payload, hashlib.sha256).hexdigest()
        found["X-HSMX-Signature"] = f"sha256={signature}"
    return found


def _connected(target: Target, scheme: str, host: str, port: int) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=STEP_S)

    def connect(context: ssl.SSLContext) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(host, port, timeout=STEP_S, context=context)
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    return trusting(connect, target.fingerprint, host)
