#!/usr/bin/python3 -IS
"""A stand-in for ``pppd`` with its PPPoE plugin, for kernels without PPP. For laboratories only.

Where the kernel has no PPP, ``pppd`` stops before it sends anything. This program does on the wire what ``pppd`` does
there, and looks to its caller as ``pppd`` does:

- *real*: PPPoE discovery (RFC 2516) on a packet socket, PADT at the end; the options file with its quoting; SIGTERM;
  exit codes; the lines of the log.
- *enough of it to be real on the wire*: LCP with echo requests, PAP, and IPCP for one IPv4 address (RFC 1661, 1334,
  1332). No CHAP, no compression, no IPv6, no retransmission but by a timer.
- *other than pppd*: packets pass through a TUN device of the same name (``ppp0``), in this process. ``ip-up`` scripts
  are not run. Options that it does not know are ignored.

Called with ``pty "pppoe -e SESSION:MAC -I PORT"``, as ``pppoe-server`` calls ``pppd``, it is the far end of a session:
it gives the address ``LOCAL:REMOTE`` and wants one of the user names and passwords in the file that
``PPPD_STAND_IN_SECRETS`` names: a line each, separated by a tab.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

DISCOVERY, SESSION = 0x8863, 0x8864
PADI, PADO, PADR, PADS, PADT = 0x09, 0x07, 0x19, 0x65, 0xA7
SERVICE_NAME, AC_NAME, HOST_UNIQ, AC_COOKIE, RELAY_ID = 0x0101, 0x0102, 0x0103, 0x0104, 0x0110
ERRORS = (0x0201, 0x0202, 0x0203)
LCP, PAP, IPCP, IP = 0xC021, 0xC023, 0x8021, 0x0021
REQUEST, ACK, NAK, REJECT, TERMINATE, TERMINATED = 1, 2, 3, 4, 5, 6
ECHO, ECHO_REPLY = 9, 10
#: pppd's exit codes.
FATAL, OPTIONS, SIGNALLED, NEGOTIATION, DEAD_PEER, HANGUP, AUTHENTICATION = 1, 2, 5, 10, 15, 16, 19
RETRY_S, TRIES, TERMINATE_S = 3.0, 10, 3.0
_EXTRA = {"plugin": 1, "user": 1, "password": 1, "mtu": 1, "mru": 1, "ipparam": 1, "lcp-echo-interval": 1,
          "lcp-echo-failure": 1, "maxfail": 1, "rp_pppoe_service": 1, "rp_pppoe_ac": 1, "pppoe-padi-timeout": 1,
          "pppoe-padi-attempts": 1, "lcp-restart": 1, "lcp-max-configure": 1, "lcp-max-terminate": 1, "ipcp-restart": 1,
          "ipcp-max-configure": 1, "defaultroute-metric": 1, "pty": 1, "file": 1, "call": 1, "logfd": 1}


class Ended(Exception):
    """The link is over.

    :param code: pppd's exit code for it.
    """

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.code = code


def say(text: str) -> None:
    print(text, flush=True)


def words(text: str) -> Iterator[str]:
    """Yield the words of an options file, by pppd's rules."""
    at, size = 0, len(text)
    while at < size:
        if text[at].isspace():
            at += 1
        elif text[at] == "#":
            at = text.find("\n", at) if "\n" in text[at:] else size
        else:
            quote, word = "", []
            while at < size and (quote or not text[at].isspace()):
                sign = text[at]
                if sign == "\\" and at + 1 < size:
                    at += 1
                    word.append({"n": "\n", "t": "\t", "s": " ", "r": "\r"}.get(text[at], text[at]))
                elif sign == quote:
                    quote = ""
                elif not quote and sign in "'\"":
                    quote = sign
                else:
                    word.append(sign)
                at += 1
            yield "".join(word)


def options(arguments: list[str]) -> dict[str, str]:
    """Return options by name; a port is called ``nic``, a pair of addresses ``addresses``."""
    found: dict[str, str] = {}
    left = iter(arguments)
    for word in left:
        values = [next(left, "") for _ in range(_EXTRA.get(word, 0))]
        if word == "file":
            try:
                with open(values[0]) as file:
                    found |= options(list(words(file.read())))
            except OSError as error:
                say(f"Can't open options file {values[0]}: {error.strerror}")
                raise Ended(OPTIONS) from None
        elif word.startswith("nic-"):
            found["nic"] = word[4:]
        elif word.startswith("pppoe-padi-") and "nic" in found:
            pass  # pppd makes its plugin ready when it reads the port, and takes no note of these any more
        elif word.count(".") == 6 and ":" in word:
            found["addresses"] = word
        else:
            found[word] = values[0] if values else "yes"
    return found


class Wire:
    """PPPoE frames of one kind on a port."""

    def __init__(self, port: str, kind: int) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
        self.socket.bind((port, kind))
        self.mac = bytes(self.socket.getsockname()[4])
        self.kind = kind

    def send(self, to: bytes, code: int, session: int, payload: bytes) -> None:
        header = to + self.mac + struct.pack("!HBBHH", self.kind, 0x11, code, session, len(payload))
        with suppress(OSError):  # no carrier: the timers notice
            self.socket.send(header + payload)

    def receive(self) -> tuple[bytes, int, int, bytes] | None:
        """Return sender, code, session and payload of a frame that is for this port; None of any other."""
        frame, address = self.socket.recvfrom(2048)
        if len(frame) < 20 or address[2] == socket.PACKET_OUTGOING or frame[:6] != self.mac or frame[14] != 0x11:
            return None
        code, session, length = struct.unpack_from("!BHH", frame, 15)
        return (frame[6:12], code, session, frame[20 : 20 + length]) if length <= len(frame) - 20 else None


def tags(payload: bytes) -> dict[int, bytes]:
    found = {}
    while len(payload) >= 4:
        kind, length = struct.unpack_from("!HH", payload)
        found[kind] = payload[4 : 4 + length]
        payload = payload[4 + length :]
    return found


def tag(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value


def discover(wire: Wire, chosen: dict[str, str]) -> tuple[bytes, int]:
    """Ask for an access concentrator and a session. Returns its MAC and the session's number."""
    unique = tag(HOST_UNIQ, struct.pack("!I", os.getpid()))
    service = tag(SERVICE_NAME, chosen.get("rp_pppoe_service", "").encode())
    wait_s = float(chosen.get("pppoe-padi-timeout", 5))
    for attempt in range(int(chosen.get("pppoe-padi-attempts", 3))):
        wire.send(b"\xff" * 6, PADI, 0, service + unique)
        for mac, told in _answers(wire, PADO, wait_s * 2**attempt):
            name = told.get(AC_NAME, b"").decode(errors="replace")
            if told.get(HOST_UNIQ) != unique[4:] or chosen.get("rp_pppoe_ac", name) != name:
                continue
            back = b"".join(tag(kind, told[kind]) for kind in (AC_COOKIE, RELAY_ID) if kind in told)
            wire.send(mac, PADR, 0, service + unique + back)
            for sender, answer in _answers(wire, PADS, wait_s):
                if sender == mac and answer.get(HOST_UNIQ) == unique[4:]:
                    session = int.from_bytes(answer[0], "big")
                    if session:
                        say(f"PPP session is {session}")
                        say(f"Connected to {mac.hex(':').upper()} via interface {chosen['nic']}")
                        return mac, session
                    for kind in ERRORS:
                        if kind in answer:
                            say(f"PADS: Generic-Error: {answer[kind].decode(errors='replace')}")
                    break
            say("Timeout waiting for PADS packets")
            raise Ended(FATAL, "Unable to complete PPPoE Discovery")
    say("Timeout waiting for PADO packets")
    raise Ended(FATAL, "Unable to complete PPPoE Discovery")


def _answers(wire: Wire, wanted: int, within_s: float) -> Iterator[tuple[bytes, dict[int, bytes]]]:
    end = time.monotonic() + within_s
    while (left_s := end - time.monotonic()) > 0:
        if select.select([wire.socket], [], [], left_s)[0] and (heard := wire.receive()):
            mac, code, session, payload = heard
            if code == wanted:
                yield mac, {**tags(payload), 0: session.to_bytes(2, "big")}


class Link:
    """A PPP link over a session, either end.

    :param serves: its own address, and the one that it gives; None at the dialling end.
    """

    def __init__(self, wire: Wire, calls: Wire, peer: bytes, session: int, chosen: dict[str, str],
                 serves: tuple[str, str] | None) -> None:
        self.wire, self.calls, self.peer, self.session, self.chosen, self.serves = (
            wire, calls, peer, session, chosen, serves)
        self.secrets = _secrets() if serves else set()
        self.address = socket.inet_aton(serves[0] if serves else "0.0.0.0")
        self.far = b""
        self.acked: set[tuple[int, str]] = set()
        self.magic = os.urandom(4)
        self.authenticated = self.up = False
        self.unanswered, self.tried = 0, 0
        self.timer = 0.0
        self.tun = -1
        self.name = ""

    def run(self, wakeup: int) -> None:
        """Run until it ends, by :class:`Ended`."""
        self.name, self.tun = _tun()
        say(f"Using interface {self.name}")
        say(f"Connect: {self.name} <--> {self.chosen['nic']}")
        while True:
            now = time.monotonic()
            if now >= self.timer:
                self._on_timer(now)
            sources: list[socket.socket | int] = [self.wire.socket, self.calls.socket, wakeup]
            sources += [self.tun] if self.up else []
            for ready in select.select(sources, [], [], max(0.0, self.timer - time.monotonic()))[0]:
                if ready == wakeup:
                    self._terminate(os.read(wakeup, 1)[0])
                elif ready == self.tun:
                    self._send(IP, os.read(self.tun, 2048))
                elif ready is self.calls.socket:
                    heard = self.calls.receive()
                    if heard and heard[:3] == (self.peer, PADT, self.session):
                        say("Modem hangup")
                        raise Ended(HANGUP)
                elif (frame := self.wire.receive()) and (frame[0], frame[2]) == (self.peer, self.session):
                    self._on_packet(frame[3])

    def _on_timer(self, now: float) -> None:
        if self.up:
            interval = float(self.chosen.get("lcp-echo-interval", 0))
            self.timer = now + (interval or 3600)
            if self.unanswered and self.unanswered >= int(self.chosen.get("lcp-echo-failure", 0) or 1 << 30):
                say(f"No response to {self.unanswered} echo-requests")
                raise Ended(DEAD_PEER)
            if interval:
                self.unanswered += 1
                self._say(LCP, ECHO, self.magic)
            return
        self.timer, self.tried = now + RETRY_S, self.tried + 1
        if self.tried > TRIES:
            say("LCP: timeout sending Config-Requests")
            raise Ended(NEGOTIATION)
        if not self._open(LCP):
            self._ask_lcp()
        elif not self.authenticated and not self.serves:
            self._authenticate()
        elif self.authenticated:
            self._ask_ipcp()

    def _ask_lcp(self) -> None:
        wants = struct.pack("!BBH", 1, 4, int(self.chosen.get("mru", 1492))) + b"\x05\x06" + self.magic
        self._say(LCP, REQUEST, wants + (struct.pack("!BBH", 3, 4, PAP) if self.serves else b""))

    def _ask_ipcp(self) -> None:
        self._say(IPCP, REQUEST, b"\x03\x06" + self.address)

    def _authenticate(self) -> None:
        user, password = (self.chosen.get(key, "").encode() for key in ("user", "password"))
        self._say(PAP, REQUEST, bytes([len(user)]) + user + bytes([len(password)]) + password)

    def _on_packet(self, packet: bytes) -> None:
        protocol = int.from_bytes(packet[:2], "big")
        if protocol == IP:
            with suppress(OSError):  # not up yet
                os.write(self.tun, packet[2:])
            return
        if len(packet) < 6:
            return
        code, number, length = packet[2], packet[3], int.from_bytes(packet[4:6], "big")
        body = packet[6 : 2 + length]
        if protocol == PAP:
            self._on_pap(code, number, body)
        elif code == REQUEST:
            self._on_request(protocol, number, body)
        elif code == ACK:
            self.acked.add((protocol, "ours"))
            self._advance(protocol)
        elif code in (NAK, REJECT) and protocol == IPCP and not self.serves and body[:2] == b"\x03\x06":
            self.address = body[2:6]
            self._ask_ipcp()
        elif protocol == LCP and code == ECHO:
            self._say(LCP, ECHO_REPLY, self.magic, number)
        elif protocol == LCP and code == ECHO_REPLY:
            self.unanswered = 0
        elif protocol == LCP and code == TERMINATE:
            say("LCP terminated by peer")
            self._say(LCP, TERMINATED, b"", number)
            raise Ended(HANGUP)

    def _on_request(self, protocol: int, number: int, body: bytes) -> None:
        if protocol == IPCP and self.serves:
            given = socket.inet_aton(self.serves[1])
            if body[2:6] != given:
                return self._say(IPCP, NAK, b"\x03\x06" + given, number)
        if protocol == IPCP:
            self.far = body[2:6]
        self._say(protocol, ACK, body, number)
        self.acked.add((protocol, "theirs"))
        if protocol == LCP and (LCP, "ours") not in self.acked:
            self._ask_lcp()  # whoever was there first has asked in vain
        return self._advance(protocol)

    def _on_pap(self, code: int, number: int, body: bytes) -> None:
        if self.serves and code == REQUEST:
            user, rest = body[1 : 1 + body[0]], body[1 + body[0] :]
            known = (user, rest[1 : 1 + rest[0]]) in self.secrets
            self._say(PAP, ACK if known else NAK, b"\x00", number)
            if not known:
                say(f"PAP peer authentication failed for {user.decode(errors='replace')}")
                self._say(LCP, TERMINATE, b"Authentication failed")
                raise Ended(11)
        elif code == NAK:
            say("PAP authentication failed")
            raise Ended(AUTHENTICATION)
        elif code != ACK:
            return
        else:
            say("PAP authentication succeeded")
        self.authenticated = True
        self._ask_ipcp()

    def _open(self, protocol: int) -> bool:
        return {(protocol, "ours"), (protocol, "theirs")} <= self.acked

    def _advance(self, protocol: int) -> None:
        if not self._open(protocol):
            return
        if protocol == LCP and not self.authenticated and not self.serves:
            self._authenticate()
        if protocol == IPCP and not self.up:
            self.up, self.timer = True, 0.0
            local, remote = (socket.inet_ntoa(address) for address in (self.address, self.far))
            _ip(f"addr add {local} peer {remote} dev {self.name}")
            _ip(f"link set {self.name} up mtu {self.chosen.get('mtu', 1492)}")
            if "defaultroute" in self.chosen:
                _ip(f"route add default dev {self.name} metric {self.chosen.get('defaultroute-metric', '0')}")
            say(f"local  IP address {local}")
            say(f"remote IP address {remote}")

    def _terminate(self, number: int) -> None:
        say(f"Terminating on signal {number}")
        self._say(LCP, TERMINATE, b"User request")
        end = time.monotonic() + TERMINATE_S
        while (left_s := end - time.monotonic()) > 0:
            heard = self.wire.receive() if select.select([self.wire.socket], [], [], left_s)[0] else None
            acknowledged = struct.pack("!HB", LCP, TERMINATED)
            if heard and (heard[0], heard[2], heard[3][:3]) == (self.peer, self.session, acknowledged):
                break
        raise Ended(SIGNALLED)

    def _say(self, protocol: int, code: int, body: bytes, number: int = 1) -> None:
        self._send(protocol, struct.pack("!BBH", code, number, 4 + len(body)) + body)

    def _send(self, protocol: int, payload: bytes) -> None:
        self.wire.send(self.peer, 0, self.session, protocol.to_bytes(2, "big") + payload)


def _ip(words: str) -> None:
    os.spawnvp(os.P_WAIT, "ip", ["ip", *words.split()])


def _tun() -> tuple[str, int]:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    name = fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"ppp%d", 0x1001))[:16].rstrip(b"\0").decode()
    return name, device


def _secrets() -> set[tuple[bytes, bytes]]:
    path = os.environ.get("PPPD_STAND_IN_SECRETS", "")
    lines = []
    if path:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    return {(user, password) for user, _tab, password in (line.partition(b"\t") for line in lines)}


def main(arguments: list[str]) -> int:
    wakeup, alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(alarm)
    ending = False

    def note(number: int, _frame: object) -> None:
        if not established and not ending:
            say(f"Terminating on signal {number}")
            raise Ended(SIGNALLED)

    established = False
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, note)
    calls, peer, session, code = None, b"", 0, 0
    try:
        chosen = options(arguments)
        serves = None
        if "pty" in chosen:
            told = chosen["pty"].split()
            which, _colon, mac = told[told.index("-e") + 1].partition(":")
            chosen["nic"], session = told[told.index("-I") + 1], int(which)
            peer = bytes(int(part, 16) for part in mac.split(":"))
            local, _colon, remote = chosen["addresses"].partition(":")
            serves = (local, remote)
        elif "nic" not in chosen:
            say("no device specified and stdin is not a tty")
            return OPTIONS
        try:
            calls, wire = Wire(chosen["nic"], DISCOVERY), Wire(chosen["nic"], SESSION)
        except OSError as error:
            raise Ended(FATAL, f"Can't get MAC address for interface {chosen['nic']}: {error.strerror}") from None
        if serves is None:
            say("Plugin pppoe.so loaded.")
            peer, session = discover(calls, chosen)
        established = True
        Link(wire, calls, peer, session, chosen, serves).run(wakeup)
    except Ended as ended:
        ending, code = True, ended.code
        if str(ended):
            say(str(ended))
    if session and calls is not None:
        say("Connection terminated.")
        calls.send(peer, PADT, session, b"")
        say("Sent PADT")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
