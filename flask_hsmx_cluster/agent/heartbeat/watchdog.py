"""Notifications to systemd: the agent is up, and its heartbeat goes on."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)


class Watchdog:
    """Tells systemd that the loop is alive, if systemd asked for it."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._send(b"READY=1")

    def ping(self) -> None:
        self._send(b"WATCHDOG=1")

    def _send(self, text: bytes) -> None:
        if self._address:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                try:
                    connection.sendto(text, self._address.replace("@", "\0", 1))
                except OSError:
                    log.debug("systemd did not take the notification")
