"""The control socket: who may ask this gateway's agent, and in which form.

Every caller is known by the kernel's word (``SO_PEERCRED``), every argument is checked against the verb's table,
every size and number has a bound. There is no way for raw SQL, paths or commands.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..control import MAX_LINE, MAX_MAINTENANCE_S, read_json
from ..decision.restart import RESTART_LEAST_S, RESTART_MOST_S
from ..errors import ClusterError, ConfigError, NotAllowed, RequestRefused
from ..firewall.rules import MOST_PEERS
from ..renewal.guide import KINDS
from .config import AgentConfig
from .damaged import DamagedService
from .data.desk import MOST_ROWS, STATES, VALUES, is_batch
from .data.sweep import ACTIONS
from .service import AgentService

log = logging.getLogger(__name__)

#: A caller has this long to send its line, s, and to take the answer.
READ_TIMEOUT_S = 2.0
#: A line that is there within this time, s, counts as sent in one go.
PROMPT_S = 0.02
#: Callers of one user id whose line is still missing after that; the others of that user are refused at once.
MAX_SLOW = 4
WRITE_TIMEOUT_S = 5.0
DRAIN_TIMEOUT_S = 0.5
#: Callers that may wait for a place.
MAX_WAITING = 64
#: Requests at the same time.
MAX_CONCURRENT = 12
#: Of these, relayed messages of the network: a flood of them must leave room for the operator.
MAX_RELAYED = 4
#: ... and what may wait long for the other gateway or for a database: fewer than it lets be relayed to it.
MAX_PATIENT = 3
#: Token bucket of each user id, and one more for what it relays: requests a second, and how many at once.
RATE_PER_S = 50.0
BURST = 100.0
_MODE = 0o660
_CREDENTIALS = struct.Struct("=iII")
_RELAYS = ("pair", "peer")
_PATIENT = (
    "peer_ports", "preflight", "pppoe", "verify", "verified", "quarantine", "quarantine_row", "discard", "reapply",
    "quarantine_value", "sweep", "swept", "sweep_stop", "aside", "aside_delete", "files_allow", "notify_test",
    "renewal_look", "renewal_begin", "renewal_end",
)  # fmt: skip


@dataclass(frozen=True)
class Argument:
    """An argument of a verb.

    :param fits: whether a value is acceptable.
    :param required: False if the verb has a default.
    """

    fits: Callable[[Any], bool]
    required: bool = True


def _text(longest: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and len(value) <= longest


def _name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 64 and value.isprintable()


def _whole(lowest: int, highest: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and lowest <= value <= highest


def _or_null(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_PEERS and all(map(_text(64), value))


def _row_ids(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= 1000 and all(map(_whole(1, 2**62), value))


_MESSAGE = Argument(_text(MAX_LINE))
_ROW = Argument(_whole(1, 2**62))
#: The gateway on which a row lies, by its id; empty: this one.
_NODE = Argument(_text(32), required=False)
#: The verbs and their arguments. A verb is carried out by the service's method of the same name.
ARGUMENTS: dict[str, dict[str, Argument]] = {
    "status": {},
    "settings": {},
    "ports": {},
    "peer_ports": {},
    "events": {
        "limit": Argument(_whole(1, 1000), required=False),
        "before": Argument(_or_null(_whole(1, 2**62)), required=False),
    },
    "preflight": {"settings": Argument(_or_null(_object), required=False)},
    "firewall": {"peers": Argument(_texts, required=False)},
    "propose": {"settings": Argument(_object), "base_revision": Argument(_whole(0, 2**53))},
    "create": {"settings": Argument(_object)},
    "pairing_code": {},
    "join": {"address": Argument(_text(64)), "code": Argument(_text(64)), "ends": Argument(_object)},
    "leave": {"force": Argument(_flag, required=False)},
    "replace": {},
    "repair": {},
    "failover": {},
    "take_over": {"by": Argument(_name)},
    "restart": {"within_s": Argument(_whole(RESTART_LEAST_S, RESTART_MOST_S), required=False)},
    "maintenance": {
        "on": Argument(_flag),
        "duration_s": Argument(_whole(60, MAX_MAINTENANCE_S), required=False),
    },
    "pppoe": {"name": Argument(_text(32)), "connect": Argument(_flag)},
    "notify_test": {"name": Argument(_text(32))},
    "renewal": {},
    "renewal_look": {},
    "renewal_begin": {"kind": Argument(lambda value: isinstance(value, str) and value in KINDS)},
    "renewal_end": {},
    "files_sync": {},
    "files_allow": {"tree": Argument(_text(32))},
    "verify": {},
    "verified": {},
    "quarantine": {
        "after": Argument(_whole(0, 2**62), required=False),
        "limit": Argument(_whole(1, MOST_ROWS), required=False),
        "node": _NODE,
        "table": Argument(_text(200), required=False),
        "state": Argument(lambda value: value in STATES, required=False),
        "batch": Argument(is_batch, required=False),
        "whole": Argument(_flag, required=False),
    },
    "quarantine_row": {"row_id": _ROW, "node": _NODE},
    "quarantine_value": {
        "row_id": _ROW,
        "which": Argument(lambda value: isinstance(value, str) and value in VALUES),
        "column": Argument(_text(200)),
        "offset": Argument(_whole(0, 2**40), required=False),
        "node": _NODE,
    },
    "discard": {"ids": Argument(_row_ids), "node": _NODE},
    "reapply": {
        "row_id": _ROW,
        "overwrite": Argument(_flag, required=False),
        "node": _NODE,
        "seen": Argument(_text(64), required=False),
    },
    "sweep": {
        "action": Argument(lambda value: isinstance(value, str) and value in ACTIONS),
        "ids": Argument(_row_ids, required=False),
        "upto": Argument(_whole(1, 2**62), required=False),
        "node": _NODE,
        "table": Argument(_text(200), required=False),
        "batch": Argument(is_batch, required=False),
    },
    "swept": {"node": _NODE},
    "sweep_stop": {"node": _NODE},
    "aside": {"node": _NODE},
    "aside_delete": {"name": Argument(_text(63)), "node": _NODE},
    "resolve_conflict": {"keep": Argument(lambda value: value in ("mine", "theirs"))},
    "pair": {"message": _MESSAGE},
    "peer": {"message": _MESSAGE, "address": Argument(_text(64))},
}


class ControlServer:
    """Listens on the control socket, one thread per request.

    :param service: carries out the verbs.
    """

    def __init__(self, config: AgentConfig, service: AgentService | DamagedService) -> None:
        self._path = Path(config.control_socket)
        self._allowed = {0, os.getuid(), *config.allowed_uids}
        self._service = service
        self._places = threading.BoundedSemaphore(MAX_CONCURRENT)
        self._slow = {uid: threading.BoundedSemaphore(MAX_SLOW) for uid in self._allowed}
        self._relays = threading.BoundedSemaphore(MAX_RELAYED)
        self._patient = threading.BoundedSemaphore(MAX_PATIENT)
        self._buckets = {(uid, relayed): _Bucket() for uid in self._allowed for relayed in (False, True)}
        self._listener: socket.socket | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="control socket", daemon=True)

    def start(self) -> None:
        """Create the socket and answer from now on.

        :raises ConfigError: it cannot be created, or another agent answers there.
        """
        self._refuse_second()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            fresh = self._path.with_name(".new")  # nobody connects before mode and group are right
            fresh.unlink(missing_ok=True)
            listener.bind(str(fresh))
            with suppress(PermissionError):  # not a member of that group: the socket keeps our own
                os.chown(fresh, -1, fresh.parent.stat().st_gid)
            fresh.chmod(_MODE)
            listener.listen(MAX_WAITING)
            fresh.replace(self._path)
        except OSError as error:
            listener.close()
            raise ConfigError(
                f"The control socket {self._path} cannot be created: {error.strerror}.",
                "See HSMX_CLUSTER_CONTROL_SOCKET and HSMX_CLUSTER_STATE_DIR.",
            ) from None
        self._listener = listener
        self._thread.start()

    def stop(self) -> None:
        """Stop to listen. Requests under way end by themselves."""
        if self._listener is None:
            return
        self._stopping.set()
        with suppress(OSError):
            self._path.unlink()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
        self._thread.join(READ_TIMEOUT_S)
        self._listener.close()
        self._listener = None

    def _refuse_second(self) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(str(self._path))
        except OSError:
            return  # nobody is there; what an agent that died has left is replaced
        raise ConfigError(f"Another agent answers on {self._path}.", "Only one agent may run on a gateway.")

    def _accept(self) -> None:
        listener = self._listener
        while listener is not None and not self._stopping.is_set():
            # Who finds no place waits in the kernel's queue: it is bounded too.
            if not self._places.acquire(timeout=0.2):
                continue
            try:
                connection, _ = listener.accept()
            except OSError as error:
                self._places.release()
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                    return  # stopped
                time.sleep(0.1)
                continue
            threading.Thread(target=self._serve, args=(connection,), name="control request", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                answer = self._answer(connection)
                _send(connection, answer)
                _drain(connection)
        except OSError as error:
            log.debug("A caller of the control socket has gone: %s", error)
        finally:
            self._places.release()

    def _answer(self, connection: socket.socket) -> dict[str, Any]:
        """Return the answer to the connection's one request; never raises but for a lost connection."""
        try:
            uid = _uid_of(connection)
            if uid not in self._allowed:
                raise NotAllowed(
                    f"User id {uid} may not use the control socket.", "Name it in HSMX_CLUSTER_ALLOWED_UIDS."
                )
            verb, arguments = _parse(_read_line(connection, self._slow[uid]))
            # Each has a rate of its own: who floods the public endpoints must not lock the operator out.
            if not self._buckets[uid, verb in _RELAYS].take(time.monotonic()):
                raise RequestRefused("Too many requests.", "Wait a second.")
            return {"ok": True, "result": self._carry_out(verb, arguments)}
        except ClusterError as error:
            return {"ok": False, "error": error.as_dict()}

    def _carry_out(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        bound: threading.Semaphore | None = None
        if verb in _RELAYS:
            bound, what = self._relays, "Too many messages from the network at this moment."
        elif verb in _PATIENT:
            bound, what = self._patient, "Several others wait for the other gateway or the database at this moment."
        if bound is not None and not bound.acquire(blocking=False):
            raise RequestRefused(what, "Repeat in a second.")
        try:
            result: dict[str, Any] = getattr(self._service, verb)(**arguments)
            return result
        except ClusterError:
            raise
        except Exception:
            log.exception("The verb %s failed", verb)
            raise RequestRefused("The agent failed to carry this out.", "See the agent's log.") from None
        finally:
            if bound is not None:
                bound.release()


class _Bucket:
    """A token bucket."""

    def __init__(self) -> None:
        self._tokens = BURST
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def take(self, now: float) -> bool:
        """Take a token; False if there is none."""
        with self._lock:
            self._tokens = min(BURST, self._tokens + (now - self._at) * RATE_PER_S)
            self._at = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


def _parse(line: bytes) -> tuple[str, dict[str, Any]]:
    """Return verb and arguments of a request, checked.

    :raises RequestRefused: it is malformed, or not what the verb takes.
    """
    try:
        data = read_json(line)
        verb, arguments = data["verb"], data.get("arguments", {})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RequestRefused("The request is not a line of JSON with a verb.") from None
    if not isinstance(verb, str) or verb not in ARGUMENTS or not isinstance(arguments, dict):
        raise RequestRefused(f"There is no verb {verb!r:.40}.")
    table = ARGUMENTS[verb]
    if unknown := sorted(set(arguments) - set(table)):
        raise RequestRefused(f"{verb} takes no argument {unknown[0]!r:.40}.")
    for name, argument in table.items():
        if name not in arguments:
            if argument.required:
                raise RequestRefused(f"{verb} needs the argument {name}.")
        elif not argument.fits(arguments[name]):
            raise RequestRefused(f"The argument {name} of {verb} is not acceptable.")
    return verb, arguments


def _read_line(connection: socket.socket, slow: threading.Semaphore) -> bytes:
    """Return the caller's line.

    :param slow: the places of those of this user who keep us waiting.
    :raises RequestRefused: it is too long, cut off, or late.
    """
    line = bytearray()
    if _read_on(connection, line, PROMPT_S):
        return bytes(line)
    if not slow.acquire(blocking=False):
        connection.shutdown(socket.SHUT_RD)  # nothing more is read, so nothing is waited for
        raise RequestRefused("Too many half-sent requests of one user.", "Send each request in one go.")
    try:
        if _read_on(connection, line, READ_TIMEOUT_S):
            return bytes(line)
    finally:
        slow.release()
    raise RequestRefused("The request did not arrive in time.")


def _read_on(connection: socket.socket, line: bytearray, timeout_s: float) -> bool:
    """Read on; False if the end of the line has not come within that time."""
    deadline = time.monotonic() + timeout_s
    while not line.endswith(b"\n"):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        connection.settimeout(left_s)
        try:
            chunk = connection.recv(65536)
        except TimeoutError:
            return False
        if not chunk:
            raise RequestRefused("The request was cut off.")
        line += chunk
        if len(line) > MAX_LINE:
            raise RequestRefused("The request is too long.")
    return True


def _uid_of(connection: socket.socket) -> int:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    return int(uid)


def _send(connection: socket.socket, answer: dict[str, Any]) -> None:
    line = json.dumps(answer).encode() + b"\n"
    if len(line) > MAX_LINE:  # its caller would read no further
        error = RequestRefused("The answer is too long.", "Ask for less; see the agent's log.")
        log.error("An answer of %d bytes was not sent", len(line))
        line = json.dumps({"ok": False, "error": error.as_dict()}).encode() + b"\n"
    connection.settimeout(WRITE_TIMEOUT_S)
    connection.sendall(line)


def _drain(connection: socket.socket) -> None:
    """Read on for a moment what was not read: closing before would take the answer away from its reader."""
    connection.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while (left_s := deadline - time.monotonic()) > 0:
        connection.settimeout(left_s)
        if not connection.recv(65536):
            return
