"""What anybody can post to the endpoint of the other gateway: sealed, they say."""

from __future__ import annotations

import base64
from collections.abc import Hashable

from flask_hsmx_cluster.agent.membership import Key
from flask_hsmx_cluster.agent.peer.sealed import MAX_REMEMBERED, NO_INCARNATION, seal_request
from flask_hsmx_cluster.errors import RequestRefused

from ..pair import ADDRESS_OF, FuzzPair
from ..target import Broken, Target


class Fuzzed(Target):
    name = "peer_message"
    longest = 2048

    def __init__(self) -> None:
        self._of = FuzzPair()
        own, other = self._of.ids
        self.words = (b"HSMs\1\1\2", bytes.fromhex(own), bytes.fromhex(other), bytes(16))

    def seeds(self) -> list[bytes]:
        own, other = self._of.ids
        payload = b'{"verb": "hello", "arguments": {}}'
        return [
            seal_request(Key(number, b"o" * 32), other, own, NO_INCARNATION, payload)[0] for number in (1, 2)
        ] + [self._of.sealed(payload)[:-1]]

    def take(self, data: bytes) -> bool:
        try:
            self._of.world.a.service.peer(base64.b64encode(data).decode(), ADDRESS_OF["B"])
        except RequestRefused:
            return False
        raise Broken("what was not sealed with the cluster's key was answered")

    def state(self) -> Hashable:
        receiver = self._of.world.a.service._exchange._receiver
        return self._of.stored(), receiver and (receiver.incarnation, len(receiver._seen))

    def check_bounds(self) -> None:
        receiver = self._of.world.a.service._exchange._receiver
        if receiver is not None and len(receiver._seen) > MAX_REMEMBERED:
            raise Broken("requests fill the memory")

    def close(self) -> None:
        self._of.close()
