"""What frames say, told from their bytes alone."""

from __future__ import annotations

import pytest

from flask_hsmx_cluster.network.announce import FrameRequest, build_frames
from flask_hsmx_cluster.network.wire import AddressClaim, OtherFrame, parse

MAC = "02:00:00:00:00:01"


@pytest.mark.parametrize("address", ["10.0.0.100", "fd00::100"])
def test_announcements_claim_and_probes_do_not(address: str) -> None:
    frames = build_frames([FrameRequest(address, MAC)])[0]
    mac = bytes.fromhex(MAC.replace(":", ""))
    for frame in frames.announcements:
        assert parse(frame) == AddressClaim(mac, address)
    assert parse(frames.probe) == OtherFrame(mac)


def test_an_advertisement_that_a_router_forwarded_claims_nothing() -> None:
    """It comes with the router's MAC, which can be the other gateway's (RFC 4861: hop limit 255)."""
    frame = bytearray(build_frames([FrameRequest("fd00::100", MAC)])[0].announcements[0])
    frame[21] = 254
    assert not isinstance(parse(bytes(frame)), AddressClaim)
