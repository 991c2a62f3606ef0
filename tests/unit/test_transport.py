"""UDP paths: what the kernel refuses is silence on that path, never the end of the loop."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from flask_hsmx_cluster.agent.heartbeat.transport import DATAGRAMS_PER_TURN, UdpEnds, UdpPath

ENDS = UdpEnds("sync0", "fd00::1", "fd00::2", 5555)


def test_a_kernel_without_the_address_family_closes_the_path_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr("flask_hsmx_cluster.agent.heartbeat.transport.socket.socket", refuse)
    path = UdpPath("sync", 1, ENDS)
    assert not path.open() and "not supported" in path.problem


def test_a_socket_that_only_reports_errors_does_not_hold_the_loop() -> None:
    asked: list[int] = []

    class Broken:
        def recv(self, _size: int) -> bytes:
            asked.append(1)
            if len(asked) > 1000:
                raise AssertionError("it never ends")
            raise ConnectionRefusedError

    path = UdpPath("sync", 1, ENDS)
    path._socket = Broken()  # type: ignore[assignment]
    assert path.receive() == [] and len(asked) == DATAGRAMS_PER_TURN
