"""A passive gateway's own way out, through the active one: for its updates, its licence, its clock.

Where the address of the WAN is shared, the passive gateway has none there. While it is passive it has a default route
over the sync link, of a metric at which any other one goes first. The active gateway translates what comes from the
other one's address on that link, and nothing else goes this way: no guest's packet enters or leaves the link.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from ..errors import ClusterError
from . import packet_rules
from .packet_rules import Address, checked_address, checked_port, run

log = logging.getLogger(__name__)

TABLE = "hsmx_passive_internet"
#: Any other default route goes first. The number tells ours (``ip route show proto 73``).
METRIC, PROTOCOL = "20000", "73"
#: How often route and packet rules are set again, and the outside is looked at, s; again sooner when it failed.
_MEND_EVERY_S, _LOOK_EVERY_S, _LOOK_AGAIN_S = 10.0, 60.0, 10.0
#: The outside has to answer within, s.
_ANSWER_S = 5.0


@dataclass(frozen=True)
class Setup:
    """What the way out needs to know.

    :param marker: a file that is there while anything of ours may be in the kernel.
    :param target: host and port that the passive gateway has to reach.
    """

    marker: Path
    target: tuple[str, int]
    port: str
    own: Address
    peer: Address

    @classmethod
    def parsed(cls, setup: Mapping[str, Any]) -> Setup:
        """Return what the agent has sent.

        :raises ClusterError: something in it is not what it should be.
        """
        host, _, port = str(setup["target"]).rpartition(":")
        link = setup["link"]
        return cls(
            Path(setup["marker"]), (host.strip("[]"), int(port)),
            checked_port(link["port"]), checked_address(link["own"]), checked_address(link["peer"]),
        )  # fmt: skip

    @property
    def family(self) -> tuple[str, str]:
        """Return what ``ip`` and ``nft`` call the link's family."""
        return ("-4", "ip") if isinstance(self.own, IPv4Address) else ("-6", "ip6")


def rules(setup: Setup, active: bool) -> str:
    """Return the chains of our table for a role."""
    header, port, peer = setup.family[1], setup.port, setup.peer
    if not active:
        return f"""\
    chain no_guests {{
        type filter hook forward priority filter; policy accept;
        oifname "{port}" drop
        iifname "{port}" drop
    }}"""
    return f"""\
    chain no_guests {{
        type filter hook forward priority filter; policy accept;
        iifname "{port}" oifname != "{port}" {header} saddr {peer} accept
        oifname "{port}" iifname != "{port}" {header} daddr {peer} ct state established,related accept
        oifname "{port}" drop
        iifname "{port}" drop
    }}
    chain translated {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname != "{port}" {header} saddr {peer} masquerade
    }}"""


class PassiveInternet:
    """The participant. Its set-up is described at :class:`Setup`; with a marker alone what is left is removed."""

    name = "passive_internet"

    def __init__(self) -> None:
        self._setup: Setup | None = None
        self._active: bool | None = None
        self._lock = threading.Lock()  # stop_now comes from another thread
        self._stopped = False
        self._looking: threading.Thread | None = None
        self._next_mend_s = self._next_look_s = 0.0
        self._seen: dict[str, Any] = {}

    def configure(self, setup: Mapping[str, Any]) -> None:
        wanted = Setup.parsed(setup) if "target" in setup else None
        if self._setup is not None and wanted != self._setup:
            self._remove(self._setup.family[0])
        self._setup, self._seen = wanted, {}
        self._next_mend_s = self._next_look_s = 0.0
        if wanted is not None:
            wanted.marker.touch()
        elif setup:
            for family in ("-4", "-6"):
                self._remove(family)
            Path(setup["marker"]).unlink(missing_ok=True)

    def before_active(self) -> None:
        """From now on the way out is this gateway's own."""
        with self._lock:
            self._stopped, self._active = False, True
        if self._setup is not None:
            self._remove(self._setup.family[0])

    def after_active(self) -> None:
        self._mend()

    def before_passive(self) -> None:
        pass

    def after_passive(self) -> None:
        with self._lock:
            self._stopped, self._active = False, False
        self._next_look_s = 0.0
        self._mend()

    def stop_now(self) -> None:
        with self._lock:
            self._stopped, setup = True, self._setup
            if setup is not None:
                self._remove(setup.family[0])

    def tick(self, now_s: float) -> None:
        if self._setup is None or self._active is None:
            return
        if now_s >= self._next_mend_s:
            self._next_mend_s = now_s + _MEND_EVERY_S
            self._mend()
        if not self._active and now_s >= self._next_look_s and (self._looking is None or not self._looking.is_alive()):
            self._next_look_s = now_s + (_LOOK_AGAIN_S if self._seen.get("state") == "unreachable" else _LOOK_EVERY_S)
            # Of its own: names and answers may take longer than a change of the role may wait.
            self._looking = threading.Thread(target=self._look, args=(self._setup,), name="outside", daemon=True)
            self._looking.start()

    def status(self) -> dict[str, Any]:
        """Return the state (``off``; ``lending`` while active; ``unknown``, ``reachable``, ``unreachable`` while
        passive), what was looked at, whether it is reached through the other gateway, and after how many ms.
        """
        if self._setup is None:
            return {"state": "off"}
        host, port = self._setup.target
        if self._active is not False:
            return {"state": "lending", "host": host, "port": port}
        return {"state": "unknown", "host": host, "port": port, **self._seen}

    # -- route and packet rules -----------------------------------------------------------------------------------

    def _mend(self) -> None:
        """Set what the role demands; what is right stays."""
        with self._lock:
            if self._setup is None or self._stopped or self._active is None:
                return
            setup = self._setup
            packet_rules.replace_table(TABLE, rules(setup, self._active))
            if not self._active:
                run(
                    "ip", setup.family[0], "route", "replace", "default", "via", str(setup.peer), "dev", setup.port,
                    "src", str(setup.own), "metric", METRIC, "proto", PROTOCOL,
                )  # fmt: skip

    def _remove(self, family: str) -> None:
        """Remove route and packet rules, each even where the other one fails."""
        try:
            packet_rules.replace_table(TABLE, "")
        finally:
            run("ip", family, "route", "flush", "proto", PROTOCOL)

    # -- the outside ------------------------------------------------------------------------------------------------

    def _look(self, setup: Setup) -> None:
        """See whether the target answers."""
        began = time.monotonic()
        try:
            with socket.create_connection(setup.target, timeout=_ANSWER_S) as found:
                reached = found.getpeername()[0]
            took_ms = round((time.monotonic() - began) * 1000, 1)
            way = self._goes_through_peer(setup, reached)
            seen: dict[str, Any] = {"state": "reachable", "took_ms": took_ms, "through_peer": way}
        except ClusterError as error:
            seen = {"state": "unreachable", "problem": error.message}
        except OSError as error:
            seen = {"state": "unreachable", "problem": error.strerror or str(error)}
        if seen["state"] != self._seen.get("state"):
            log.info("The outside is %s (%s port %d)", seen["state"], *setup.target)
        self._seen = seen

    @staticmethod
    def _goes_through_peer(setup: Setup, address: str) -> bool:
        return f"dev {setup.port} " in run("ip", "route", "get", address)
