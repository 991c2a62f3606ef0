"""A small client of etcd's JSON interface (version 3.4 or later). Only for a process of its own: the agent has no TLS.

No redirect is followed and no proxy asked; an answer has a bound in size, and one in time for all of it.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..errors import ClusterError
from ..network.http_body import read_body
from .declare import Arbiter, address_of

#: One member has this long for each of: the connection, the handshake, an answer, s.
STEP_S = 0.4
#: Longest answer, bytes.
ANSWER_MOST = 64 * 1024
#: What is looked at to see whether etcd can answer; nothing need be there.
LOOKED_AT = "/hsmx-cluster/"


class NoAnswer(ClusterError):
    """No member gave an answer that can be used; the message is no whole sentence."""

    code = "arbiter_no_answer"


class Etcd:
    """Holds one key for one owner as long as it is asked to. One thread only.

    :param stated: where it is, and by what it is known.
    :param step_s: how long one step may take, s.
    """

    def __init__(self, stated: Arbiter, step_s: float = STEP_S) -> None:
        self._stated, self._step_s = stated, step_s
        self._first = 0  #: number of the member that answered last
        self._connection: http.client.HTTPConnection | None = None
        self._lease = ""

    def context(self) -> ssl.SSLContext:
        """Return by what etcd is trusted and this gateway is known; the files may have been renewed.

        :raises OSError: a file cannot be read or is of no use.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(self._stated.ca)
        context.load_cert_chain(self._stated.certificate, self._stated.key, password="")  # asks nobody for one
        return context

    def hold(self, key: str, owner: str, ttl_s: int) -> bool:
        """Take the key, or keep it, unless another owner has it.

        :param ttl_s: it ends so long after the last call, s.
        :returns: whether it is the owner's.
        :raises NoAnswer: that cannot be told.
        """
        if not self._lease or not self._kept_alive(ttl_s):
            told = self._ask("/v3/lease/grant", {"TTL": str(ttl_s)})
            if _number(told.get("TTL")) < ttl_s:
                raise NoAnswer("it grants a shorter lease than asked for")
            self._lease = str(_number(told.get("ID")))
        name, value = _coded(key), _coded(owner)
        mine = {"key": name, "target": "VALUE", "result": "EQUAL", "value": value}
        leased = {"key": name, "target": "LEASE", "result": "EQUAL", "lease": self._lease}
        absent = {"key": name, "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
        put = {"request_put": {"key": name, "value": value, "lease": self._lease}}
        look = {"request_range": {"key": name}}
        # With one lease after the other it stays the owner's; and a key that is as it should be is written no more.
        taken = {"compare": [absent], "success": [put], "failure": [look]}
        renewed = {"compare": [mine], "success": [put], "failure": [{"request_txn": taken}]}
        told = self._ask("/v3/kv/txn", {
            "compare": [mine, leased], "success": [look], "failure": [{"request_txn": renewed}],
        })  # fmt: skip
        for _ in range(3):  # one of them was carried out: the key is the owner's, or the last one shows whose it is
            if told.get("succeeded") is True:
                return True
            answers = told.get("responses")
            inner = answers[0] if isinstance(answers, list) and len(answers) == 1 else None
            if not isinstance(inner, dict):
                break
            if isinstance(found := inner.get("response_range"), dict):
                if isinstance(kvs := found.get("kvs"), list) and len(kvs) == 1:
                    return False
                break
            told = inner["response_txn"] if isinstance(inner.get("response_txn"), dict) else {}
        raise NoAnswer("it answers something else than was asked")

    def leave(self) -> None:
        """Give the key back.

        :raises NoAnswer: it did not hear; the key ends by itself.
        """
        lease, self._lease = self._lease, ""
        if lease:
            self._ask("/v3/lease/revoke", {"ID": lease})

    def look(self) -> None:
        """See whether it can answer: a majority of its members must agree to that.

        :raises NoAnswer: it cannot.
        """
        told = self._ask("/v3/kv/range", {"key": _coded(LOOKED_AT), "limit": "1"})
        if not isinstance(told.get("header"), dict):
            raise NoAnswer("it answers something else than etcd does")

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _kept_alive(self, ttl_s: int) -> bool:
        """Return whether the lease is renewed, for as long as asked for; the settings may want a longer one now."""
        told = self._ask("/v3/lease/keepalive", {"ID": self._lease}).get("result")
        if not isinstance(told, dict):
            raise NoAnswer("it answers something else than was asked")
        return _number(told.get("TTL", "0")) >= ttl_s  # without one: it knows of no such lease any more

    def _ask(self, path: str, question: dict[str, Any]) -> dict[str, Any]:
        """Ask one member after the other, first the one that answered last."""
        problems = []
        for _ in self._stated.endpoints:
            try:
                return self._ask_one(path, question)
            except NoAnswer as error:
                self.close()
                problems.append(f"{self._stated.endpoints[self._first].removeprefix('https://')} {error.message}")
                self._first = (self._first + 1) % len(self._stated.endpoints)
        raise NoAnswer("; ".join(problems))

    def _ask_one(self, path: str, question: dict[str, Any]) -> dict[str, Any]:
        used_before = self._connection is not None
        try:
            return self._exchange(path, question)
        except ConnectionError:
            if not used_before:
                raise NoAnswer("closes the connection") from None
        self.close()  # it may have closed while nothing was asked
        try:
            return self._exchange(path, question)
        except ConnectionError:
            raise NoAnswer("closes the connection") from None

    def _exchange(self, path: str, question: dict[str, Any]) -> dict[str, Any]:
        if self._connection is None:
            self._connection = self._connect()
        connection = self._connection
        try:
            with _bounded(connection.sock, self._step_s):
                connection.request("POST", path, json.dumps(question), {"Content-Type": "application/json"})
                with connection.getresponse() as answer:
                    content = read_body(answer, ANSWER_MOST + 1)
                    status = answer.status
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):  # also: http.client.RemoteDisconnected
            raise ConnectionError from None
        except http.client.HTTPException:
            raise NoAnswer("does not speak HTTP") from None
        except TimeoutError:
            raise NoAnswer("does not answer in time") from None
        except OSError as error:
            raise NoAnswer(f"breaks off ({_said(error)})") from None
        if len(content) > ANSWER_MOST:
            raise NoAnswer("answers more than etcd does")
        if status != 200:
            raise NoAnswer(f"answers {status}{_reason(content)}")
        return _object(content)

    def _connect(self) -> http.client.HTTPConnection:
        """Return a connection that etcd has proved itself on.

        :raises NoAnswer: there is none.
        """
        host, port = address_of(self._stated.endpoints[self._first])
        try:
            context = self.context()
        except OSError as error:
            raise NoAnswer(f"cannot be asked, as the certificates here are of no use ({_said(error)})") from None
        try:
            plain = socket.create_connection((host, port), self._step_s)
        except TimeoutError:
            raise NoAnswer("does not answer in time") from None
        except OSError as error:
            raise NoAnswer(f"cannot be reached ({_said(error)})") from None
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with _bounded(plain, self._step_s):
                encrypted = context.wrap_socket(plain, server_hostname=host)
        except BaseException as error:
            plain.close()
            if isinstance(error, ssl.SSLCertVerificationError):
                raise NoAnswer(f"is not who it should be ({error.verify_message})") from None
            if isinstance(error, TimeoutError):
                raise NoAnswer("does not answer in time") from None
            if isinstance(error, OSError):
                raise NoAnswer(f"does not speak TLS as expected ({_said(error)})") from None
            raise
        connection = http.client.HTTPConnection(host, port)
        connection.sock = encrypted
        return connection


@contextmanager
def _bounded(used: socket.socket, seconds: float) -> Iterator[None]:
    """Bound everything that is done with a socket, however many bytes trickle in.

    :raises TimeoutError: it took longer.
    """
    late = threading.Event()

    def cut() -> None:
        late.set()
        with suppress(OSError):
            socket.socket.shutdown(used, socket.SHUT_RDWR)  # whoever waits for it wakes up; TLS is not asked

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if late.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError


def _coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NoAnswer("answers something else than etcd does")
    return found


def _number(value: object) -> int:
    """Return one of etcd's 64-bit numbers, which its JSON has as texts."""
    if not isinstance(value, str) or not re.fullmatch("[0-9]{1,20}", value, re.ASCII):
        raise NoAnswer("it answers something else than etcd does")
    return int(value)


def _reason(content: bytes) -> str:
    with suppress(NoAnswer):
        return f": {_clean(str(_object(content).get('error', '')))}"
    return ""


def _said(error: OSError) -> str:
    return _clean(getattr(error, "reason", None) or error.strerror or type(error).__name__)


def _clean(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)[:100]
