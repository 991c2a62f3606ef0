"""One run of ``pppd`` with its PPPoE plugin: its options, its log, its end.

What is secret goes to it in a file that only its user can read and that is removed as soon as ``pppd`` has read it.
Of its log only what is known is understood; nothing else of it goes anywhere.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError

#: Without privilege pppd cannot load its plugin but by this file in /etc/ppp/peers, which root has written.
PEER_FILE = "hsmx-cluster"
#: The provider's silence that ends a session: echoes of the link every so many seconds, so many unanswered.
ECHO_EVERY_S, ECHOES_LOST = 2, 3
#: Asking for a concentrator: first wait, s (it doubles), and how often.
DISCOVERY_S, DISCOVERIES = 1, 3
#: A question of the negotiation is asked again after so many seconds, so often; one for the end of the link but once.
#: By itself pppd waits 3 s, and the first is always lost where the provider's end starts after ours.
ASK_AGAIN_S, ASKED = 1, 30
#: A default route of the machine's own is better (metric 0) or worse (above) than that of a connection.
ROUTE_METRIC = 5
#: What only root may say: without privilege it has to stand in that file.
PRIVILEGED = ("plugin pppoe.so", "noauth", f"defaultroute-metric {ROUTE_METRIC}")
#: Longest user name, password or other text, bytes: what pppd keeps of one.
LONGEST = 200
LONGEST_LOG_LINE = 4096
#: What is read of its log in one go, bytes; pppd that has said more meanwhile is ended.
LOG_MOST = 256 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_PORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,14}")
_ETHERTYPE, _PADT = 0x8863, 0xA7


@dataclass(frozen=True)
class Connection:
    """A PPPoE connection as the settings have it.

    :param concentrator: name of the access concentrator that is wanted; empty: any.
    :param mtu: bytes.
    """

    name: str
    port: str
    user: str
    password: str = field(repr=False)
    service: str = ""
    concentrator: str = ""
    mtu: int = 1492
    default_route: bool = True
    enabled: bool = True

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Connection:
        """Return the connection of a row of the set-up.

        :raises ConfigError: it would not be safe to give it to pppd. What is wrong is named, its value is not.
        """
        try:
            found = cls(**row)
        except TypeError:
            raise ConfigError("A PPPoE connection is malformed.") from None
        if not (_is_text(found.name) and _NAME.fullmatch(found.name)):
            raise ConfigError("A PPPoE connection has no proper name.")
        if not (_is_text(found.port) and _PORT.fullmatch(found.port)):
            raise ConfigError(f"{found.name}: the port is malformed.")
        for key in ("user", "password", "service", "concentrator"):
            if not _is_text(getattr(found, key)):
                raise ConfigError(f"{found.name}: the {key} has signs in it that cannot be printed, or is too long.")
        if type(found.mtu) is not int or not 576 <= found.mtu <= 1500:
            raise ConfigError(f"{found.name}: the MTU is no number from 576 to 1500.")
        return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value.encode(errors="replace")) <= LONGEST


def quoted(text: str) -> str:
    """Return a text as one word of an options file.

    :raises ConfigError: pppd could take it for more than one word.
    """
    if not text.isprintable():  # a line's end among them: checked here again, whoever calls
        raise ConfigError("A text for pppd has signs in it that cannot be printed.")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def options(connection: Connection, privileged: bool) -> str:
    """Return the options file of a connection.

    :param privileged: pppd runs as root; otherwise what only root may say is in the file :data:`PEER_FILE`.
    """
    size = min(connection.mtu, 1492)  # more needs RFC 4638, which the plugin negotiates where it can
    lines = list(PRIVILEGED) if privileged else []
    lines += [
        f"pppoe-padi-timeout {DISCOVERY_S}", f"pppoe-padi-attempts {DISCOVERIES}",  # behind the port it ignores them
        f"nic-{connection.port}",
        "nodetach", "maxfail 1", "hide-password", "noipdefault", "noproxyarp",
        "noaccomp", "nopcomp", "noccp", "novj", "noipv6",
        f"mtu {size}", f"mru {size}",
        f"lcp-echo-interval {ECHO_EVERY_S}", f"lcp-echo-failure {ECHOES_LOST}",
        f"lcp-restart {ASK_AGAIN_S}", f"lcp-max-configure {ASKED}", "lcp-max-terminate 1",
        f"ipcp-restart {ASK_AGAIN_S}", f"ipcp-max-configure {ASKED}",
        f"ipparam {quoted(connection.name)}",
        f"user {quoted(connection.user)}",
        f"password {quoted(connection.password)}",
    ]
    if connection.service:
        lines.append(f"rp_pppoe_service {quoted(connection.service)}")
    if connection.concentrator:
        lines.append(f"rp_pppoe_ac {quoted(connection.concentrator)}")
    lines.append("defaultroute" if connection.default_route else "nodefaultroute")
    return "\n".join(lines) + "\n"


@dataclass
class Told:
    """What pppd has told in its log.

    :param session: the session's number, with :attr:`concentrator_mac` and :attr:`own_mac` its whole name.
    :param fault: what went wrong, in words.
    :param wrong_password: the provider refused user name and password.
    """

    stage: str = "discovery"
    session: int = 0
    concentrator_mac: str = ""
    own_mac: str = ""
    interface: str = ""
    address: str = ""
    router: str = ""
    fault: str = ""
    wrong_password: bool = False
    ended_properly: bool = False

    def take(self, line: str, port: str) -> None:
        """Take note of a line of the log."""
        for pattern, what in _LINES:
            if found := pattern.match(line):
                getattr(self, f"_on_{what}")(*found.groups(), **({"port": port} if what == "silence" else {}))
                return

    def _on_session(self, number: str) -> None:
        self.session = int(number) & 0xFFFF

    def _on_connected(self, mac: str) -> None:
        self.concentrator_mac, self.stage = mac.lower(), "negotiation"

    def _on_interface(self, name: str) -> None:
        self.interface = name

    def _on_address(self, address: str) -> None:
        self.address, self.stage = address, "up"

    def _on_router(self, address: str) -> None:
        self.router = address

    def _on_refused(self) -> None:
        self.fault, self.wrong_password = "The provider refused user name and password.", True

    def _on_silence(self, port: str) -> None:
        self.fault = f"No access concentrator answers on {port}."

    def _on_unanswered(self) -> None:
        self.fault = _EXITS[15]

    def _on_padt(self) -> None:
        self.ended_properly = True

    def _on_error(self, why: str) -> None:
        words = "".join(sign for sign in why if sign.isprintable())[:80]
        self.fault = f"The access concentrator refuses: {words}."


_LINES = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"PPP session is (\d{1,5})$", "session"),
        (r"Connected to ([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}) via interface ", "connected"),
        (r"Using interface (ppp\d{1,5})$", "interface"),
        (r"local  IP address ([0-9.]{7,15})$", "address"),
        (r"remote IP address ([0-9.]{7,15})$", "router"),
        (r"(?:PAP|CHAP) authentication failed", "refused"),
        (r"Timeout waiting for PAD[OS] packets", "silence"),
        (r"PAD[OS]: (?:Generic-Error|System-Error|Service-Name-Error): (.*)", "error"),
        (r"No response to \d{1,5} echo-requests", "unanswered"),
        (r"Sent PADT", "padt"),
    )
)
_EXITS = {
    1: "pppd ended with an error.",
    2: f"pppd does not take its options. Is its version too old, or /etc/ppp/peers/{PEER_FILE} missing?",
    3: "pppd may not run: it is not setuid root.",
    4: "The kernel of this gateway has no PPP.",
    0: "The provider's side has ended the session.",
    5: "pppd was ended by somebody else.",
    10: "The negotiation with the provider failed.",
    15: "The provider's side has stopped answering.",
    16: "The provider's side has ended the session.",
    17: "The line is looped back.",
    19: "The provider refused user name and password.",
}


class Pppd:
    """A run of pppd. One thread, which must live as long as it; :meth:`kill` may come from any.

    :param program: path of pppd.
    :param directory: where the options file goes; ours alone.
    """

    def __init__(self, connection: Connection, program: str, directory: Path) -> None:
        self.connection = connection
        self.told = Told()
        self.code: int | None = None
        self._program, self._file = program, directory / f"{connection.name}.options"
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._asked_to_end = False

    def start(self) -> None:
        """Begin to dial.

        :raises ConfigError: there is no such port, no pppd, or its file cannot be written.
        """
        privileged = os.geteuid() == 0
        call = [] if privileged else ["call", PEER_FILE]
        # It ends with this process; where pppd is setuid root the kernel forgets that, and `end_orphans` remains.
        argv = ["setpriv", "--pdeathsig", "TERM", self._program, *call, "file", str(self._file)]
        self.told.own_mac = _mac(self.connection.port)
        if not self.told.own_mac:  # pppd would take its name for an unknown option
            raise ConfigError(f"This gateway has no port {self.connection.port}.")
        try:
            self._file.unlink(missing_ok=True)
            handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(options(self.connection, privileged))
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C"}, start_new_session=True,
            )
        except OSError as error:
            self._forget_file()
            raise ConfigError(
                f"pppd cannot be started: {error.strerror}.", "Install Debian's package ppp; see HSMX_CLUSTER_PPPD."
            ) from None
        os.set_blocking(self.fileno(), False)

    def fileno(self) -> int:
        """Return the descriptor of its log."""
        assert self._process is not None and self._process.stdout is not None
        return self._process.stdout.fileno()

    def read(self) -> bool:
        """Take what is in its log; return whether it still runs."""
        process = self._process
        if process is None or self.code is not None:
            return False
        closed, left = False, LOG_MOST
        try:
            while left > 0:
                if closed := not (data := os.read(self.fileno(), 65536)):
                    break
                left -= len(data)  # not the pieces: of a pppd that is just writing there are many
                *lines, self._rest = (self._rest + data).split(b"\n")
                self._rest = self._rest[-LONGEST_LOG_LINE:]
                for line in lines:
                    if not line.startswith(b"Plugin "):  # it loads that before it opens our file
                        self._forget_file()
                    self.told.take(line.decode(errors="replace").strip(), self.connection.port)
            else:
                self.told.fault = "pppd fills its log without end."
                self.kill()
        except BlockingIOError:
            pass
        try:
            code = process.wait(0.2 if closed else 0)
        except subprocess.TimeoutExpired:
            return True
        self._forget_file()
        assert process.stdout is not None
        process.stdout.close()
        self.code = code
        self._tell_provider()
        if not self.told.fault and not self._asked_to_end:
            self.told.fault = _EXITS.get(code, "pppd was killed." if code < 0 else f"pppd ended with status {code}.")
        self.told.wrong_password |= code == 19
        return False

    def terminate(self) -> None:
        """Ask it to end the session properly."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, and tell the provider that the session is over."""
        self._signal(signal.SIGKILL)
        self._tell_provider()

    def _tell_provider(self) -> None:
        """Send the PADT that pppd has not: Debian's ends the link in it, and leaves the session below it alone."""
        if self.told.session and not self.told.ended_properly:
            send_padt(self.connection.port, self.told.own_mac, self.told.concentrator_mac, self.told.session)
            self.told.ended_properly = True

    def _signal(self, number: signal.Signals) -> None:
        self._asked_to_end = True
        if self._process is not None and self.code is None:
            with contextlib.suppress(OSError):
                self._process.send_signal(number)

    def _forget_file(self) -> None:
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)


def send_padt(port: str, own_mac: str, concentrator_mac: str, session: int) -> None:
    """Tell an access concentrator that a session is over; nothing, if that cannot be done.

    :param own_mac: the MAC that the session began with.
    """
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((port, 0))
        ends = bytes.fromhex(concentrator_mac.replace(":", "")) + bytes.fromhex(own_mac.replace(":", ""))
        wire.send(ends + struct.pack("!HBBHH", _ETHERTYPE, 0x11, _PADT, session, 0))


def end_orphans(directory: Path) -> None:
    """End what an earlier process has left: each pppd whose options file was in our directory."""
    mark = f"{directory}/".encode()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            if any(one == b"file" and other.startswith(mark) for one, other in itertools.pairwise(words)):
                os.kill(int(place.name), signal.SIGTERM)
    for file in directory.glob("*.options"):
        with contextlib.suppress(OSError):
            file.unlink()


def _mac(port: str) -> str:
    try:
        return Path("/sys/class/net", port, "address").read_text().strip()
    except OSError:
        return ""
