"""The control socket's client side: how the web app and the CLI talk to this gateway's agent.

One request and one answer per connection, each a line of JSON of at most :data:`MAX_LINE` bytes::

    {"verb": "failover", "arguments": {}}
    {"ok": true, "result": {...}}      or      {"ok": false, "error": {"code", "message", "remedy", ...}}

The agent validates everything again: this module is a courtesy to callers, not a guard.
"""

from __future__ import annotations

import json
import math
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import (
    AgentUnavailable,
    ChecksFailed,
    ClusterError,
    DataConflict,
    Finding,
    NetworkError,
    NotAllowed,
    PairingFailed,
    PeerUnavailable,
    RequestRefused,
)

#: Longest message between the two gateways, bytes: it holds up to two revisions of the settings.
MAX_MESSAGE = 640 * 1024
#: Maintenance ends by itself after this time at most, s.
MAX_MAINTENANCE_S = 24 * 3600
#: Longest request or answer, bytes: it holds such a message in base64.
MAX_LINE = 1024 * 1024
#: Findings of an error that are taken over, and characters of a text in it.
MAX_FINDINGS, MAX_WORDS = 200, 2000

_ERRORS: dict[str, type[ClusterError]] = {
    kind.code: kind for kind in (NotAllowed, RequestRefused, PairingFailed, PeerUnavailable, NetworkError)
}


@dataclass(frozen=True)
class Verb:
    """A verb of the control socket.

    :param changes: True if it needs the ``administer`` permission; False if ``view`` is enough.
    :param timeout_s: how long a caller waits for the answer, s.
    """

    name: str
    changes: bool
    timeout_s: float = 5.0


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("status", changes=False),
        Verb("settings", changes=False),
        Verb("ports", changes=False),
        Verb("peer_ports", changes=False, timeout_s=10),
        Verb("events", changes=False),
        Verb("preflight", changes=False, timeout_s=30),
        Verb("firewall", changes=False, timeout_s=10),
        Verb("propose", changes=True, timeout_s=45),
        Verb("create", changes=True, timeout_s=30),
        Verb("pairing_code", changes=True),
        Verb("join", changes=True, timeout_s=60),
        Verb("leave", changes=True, timeout_s=15),
        Verb("replace", changes=True, timeout_s=20),
        Verb("failover", changes=True, timeout_s=20),
        Verb("restart", changes=True),
        Verb("repair", changes=True),
        Verb("take_over", changes=True),
        Verb("renewal", changes=False),
        Verb("renewal_look", changes=True, timeout_s=20),
        Verb("renewal_begin", changes=True, timeout_s=30),
        Verb("renewal_end", changes=True, timeout_s=20),
        Verb("maintenance", changes=True, timeout_s=20),
        Verb("pppoe", changes=True, timeout_s=10),
        Verb("notify_test", changes=True, timeout_s=40),
        Verb("files_sync", changes=True),
        Verb("files_allow", changes=True, timeout_s=10),
        Verb("verify", changes=True, timeout_s=30),
        Verb("verified", changes=False, timeout_s=30),
        Verb("quarantine", changes=False, timeout_s=30),
        Verb("quarantine_row", changes=False, timeout_s=30),
        Verb("quarantine_value", changes=False, timeout_s=30),
        Verb("discard", changes=True, timeout_s=30),
        Verb("reapply", changes=True, timeout_s=60),
        Verb("sweep", changes=True, timeout_s=30),
        Verb("swept", changes=False, timeout_s=30),
        Verb("sweep_stop", changes=True, timeout_s=30),
        Verb("aside", changes=False, timeout_s=30),
        Verb("aside_delete", changes=True, timeout_s=60),
        Verb("resolve_conflict", changes=True, timeout_s=30),
        Verb("pair", changes=False, timeout_s=30),
        Verb("peer", changes=False, timeout_s=30),
    )
}


class ControlClient:
    """Calls the agent's verbs over its Unix socket.

    :param path: the socket, normally ``<state directory>/agent.sock``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def call(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Call a verb and return its result.

        :raises AgentUnavailable: no agent listens, or it did not answer in time.
        :raises ClusterError: what the agent answered.
        """
        timeout_s = VERBS[verb].timeout_s
        request = json.dumps({"verb": verb, "arguments": arguments}).encode() + b"\n"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(timeout_s)
                connection.connect(str(self.path))
                connection.sendall(request)
                answer = _read_line(connection)
        except TimeoutError:
            raise AgentUnavailable(
                f"The agent did not answer within {timeout_s:.0f} s.", "See the agent's log."
            ) from None
        except OSError as error:
            raise AgentUnavailable(
                f"The cluster agent is not running on this gateway ({error.strerror or error}).",
                "Start it: systemctl start hsmx-cluster-agent, or `flask cluster agent`.",
            ) from None
        return _result(answer)


def _read_line(connection: socket.socket) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := connection.recv(65536):
        chunks.append(chunk)
        size += len(chunk)
        if chunk.endswith(b"\n") or size > MAX_LINE:
            break
    return b"".join(chunks)


def _result(answer: bytes) -> dict[str, Any]:
    try:
        return result_from_dict(json.loads(answer))
    except ValueError:
        raise AgentUnavailable("The agent's answer was cut off.", "See the agent's log.") from None


def read_json(data: bytes) -> Any:
    """Return what JSON from outside says, if it can be written, stored and shown again as well.

    :raises ValueError: it is none, is nested too deeply, or holds half a character or a number that is none.
    """
    text = data.decode()
    try:
        found = json.loads(text, parse_constant=_number, parse_float=_number)
        if "\\u" in text:  # how halves of characters get in
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return found


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"not a number: {text:.20}")
    return number


def result_from_dict(data: Any) -> dict[str, Any]:
    """Return the result that an answer carries; the control socket and the peers' messages have the same form.

    :raises ClusterError: the error that it carries instead.
    :raises ValueError: it is no answer.
    """
    try:
        if data["ok"]:
            result: dict[str, Any] = data["result"]
            if not isinstance(result, dict):
                raise TypeError("result")
            return result
        error = error_from_dict(data["error"])
    except (KeyError, TypeError, AttributeError):
        raise ValueError("no answer") from None
    raise error


def error_from_dict(error: dict[str, Any]) -> ClusterError:
    """Return the typed error for its dict form (see :meth:`ClusterError.as_dict`)."""
    message, remedy = _words(error.get("message", "refused")), _words(error.get("remedy", ""))
    if error.get("code") == ChecksFailed.code:
        return ChecksFailed([_finding(one) for one in error.get("findings", [])[:MAX_FINDINGS]], message)
    if error.get("code") == DataConflict.code:
        rows = {name: _values(error.get(name)) for name in ("wanted", "present", "base")}
        kind, seen = str(error.get("kind", "")), str(error.get("seen", ""))
        return DataConflict(message, remedy, kind=kind, seen=seen, **rows)
    return _ERRORS.get(str(error.get("code")), RequestRefused)(message, remedy)


def _finding(data: dict[str, Any]) -> Finding:
    """Return a finding, whatever stands in it: it may be the other gateway's."""
    key, text, remedy, field = (_words(data.get(name, "")) for name in ("key", "text", "remedy", "field"))
    return Finding(key, text, remedy, field, data.get("blocking") is not False)


def _words(value: Any) -> str:
    return str(value)[:MAX_WORDS]


def _values(row: Any) -> dict[str, str | None] | None:
    if not isinstance(row, dict):
        return None
    return {str(name): None if value is None else str(value) for name, value in row.items()}
