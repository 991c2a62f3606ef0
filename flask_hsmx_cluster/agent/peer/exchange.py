"""Requests between the two agents: sealed, sent over any link that works, answered by named handlers."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...control import read_json, result_from_dict
from ...errors import ClusterError, PeerUnavailable, RequestRefused
from ...settings.model import Settings
from ..cluster import Cluster
from ..membership import Key
from ..node_store import PeerFacts
from ..preflight.checks import routes_between
from . import client as peer_client
from .client import Route
from .sealed import NO_INCARNATION, Receiver, Refusal, Request, SealRefused, StaleIncarnation, open_answer, seal_request

log = logging.getLogger(__name__)

#: A handler takes the sender's node id and the arguments, and returns the result.
Handler = Callable[[str, dict[str, Any]], dict[str, Any]]

#: A request is sealed anew at most this often, when the other agent has just started.
MAX_CHALLENGES = 2


@dataclass(frozen=True)
class Target:
    """Whom to ask, and how."""

    node_id: str
    http_port: int
    routes: tuple[Route, ...]
    keys: tuple[Key, ...]


class Exchange:
    """Asks the other agent, and answers it.

    :param post: sends bytes to the other gateway, see :func:`peer_client.post`.
    """

    def __init__(self, cluster: Cluster, post: peer_client.Post = peer_client.post) -> None:
        self._cluster = cluster
        self._post = post
        self._lock = threading.Lock()
        self._receiver: Receiver | None = None
        self._incarnations: dict[str, bytes] = {}
        self._handlers: dict[str, tuple[Handler, bool]] = {}
        #: Refused sealed messages by reason.
        self.refused: Counter[Refusal] = Counter()

    def handle(self, verb: str, handler: Handler, strangers: bool = False) -> None:
        """Register what answers a verb.

        :param strangers: also from a node that knows the cluster key but is not in the settings.
        """
        self._handlers[verb] = handler, strangers

    # -- asking -----------------------------------------------------------------------------------------------

    def peer(self) -> Target:
        """Return the other gateway of the cluster.

        :raises RequestRefused: there is none.
        """
        cluster = self._cluster
        heads = cluster.require_heads()
        settings = heads.applied.settings
        node_id = cluster.node_id
        peer = settings.peer_of(node_id)
        if peer is None:
            raise RequestRefused("There is no other gateway in the cluster.", "Let it join with a pairing code.")
        facts = cluster.store.peer()
        http_port = facts.http_port if facts and facts.node_id == peer.node_id else cluster.config.http_port
        seen = cluster.hot.snapshot()
        living = {path["kind"] for path in seen["paths"] if path["state"] == "up"}

        def routes(of: Settings) -> list[Route]:
            by_kind = routes_between(of, node_id, peer.node_id)
            return [by_kind[kind] for kind in sorted(by_kind, key=lambda kind: kind not in living)]

        ways = routes(settings)
        if heads.there is not None:  # it takes requests from the link addresses of its own settings
            theirs = routes(heads.there.settings)
            switched = seen["peer"] and seen["peer"]["revision"] == heads.applied.number
            ways = [*ways, *theirs] if switched else [*theirs, *ways]
        return Target(peer.node_id, http_port, tuple(dict.fromkeys(ways)), cluster.store.keys())

    def ask(
        self, verb: str, timeout_s: float = 5.0, repeatable: bool = True, target: Target | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Ask the other agent and return its result.

        :param repeatable: False for what must not be carried out twice.
        :raises PeerUnavailable: it cannot be reached, or what answered is not it.
        :raises ClusterError: what it answered.
        """
        target = target or self.peer()
        payload = json.dumps(self._envelope({"verb": verb, "arguments": arguments})).encode()
        answer = self._ask_sealed(target, payload, timeout_s, repeatable)
        try:
            data = read_json(answer)
            self._note(target.node_id, data)
            return result_from_dict(data)
        except (ValueError, AttributeError):
            raise PeerUnavailable("The other gateway's answer cannot be read.", "Are both up to date?") from None

    def _ask_sealed(self, target: Target, payload: bytes, timeout_s: float, repeatable: bool) -> bytes:
        key, own_id, path = target.keys[0], self._cluster.node_id, self._cluster.config.peer_path
        for _ in range(MAX_CHALLENGES + 1):
            incarnation = self._incarnations.get(target.node_id, NO_INCARNATION)
            sealed, request = seal_request(key, own_id, target.node_id, incarnation, payload)
            answer = self._post(target.routes, target.http_port, path, sealed, timeout_s, repeatable)
            try:
                return open_answer(answer, request)
            except StaleIncarnation as stale:
                self._incarnations = {target.node_id: stale.incarnation}
            except SealRefused as refused:
                self._count(refused.refusal)
                raise PeerUnavailable(
                    f"What answered is not the other gateway ({refused.refusal.value}).",
                    "Is another machine at its address?",
                ) from None
        raise PeerUnavailable("The other gateway's agent keeps starting anew.", "See its log.")

    # -- answering --------------------------------------------------------------------------------------------

    def answer(self, data: bytes, address: str) -> bytes:
        """Return the sealed answer to a sealed request.

        :param address: from where it came. A gateway of this cluster asks from its link addresses only; but what became
            of its join it may ask from anywhere.
        :raises RequestRefused: it is not a request of this cluster; nothing else is said.
        """
        try:
            receiver = self._receiver_of(self._cluster.node_id)
            request = receiver.open_request(data, () if self._cluster.foreign else self._cluster.store.keys())
        except SealRefused as refused:
            self._count(refused.refusal)
            raise RequestRefused("The message is not accepted.") from None
        if request.stale:
            return receiver.seal_challenge(request)
        return receiver.seal_answer(request, json.dumps(self._envelope(self._carry_out(request, address))).encode())

    def _carry_out(self, request: Request, address: str) -> dict[str, Any]:
        try:
            data = read_json(request.payload)
            verb, arguments = data["verb"], data["arguments"]
            handler, strangers = self._handlers[verb]
            if not isinstance(arguments, dict):
                raise TypeError("arguments")
        except (ValueError, KeyError, TypeError):
            return _refused(RequestRefused("The other gateway does not understand the request.", "Update it."))
        try:
            if not self._is_member(request.sender):
                if not strangers:
                    self._count(Refusal.STRANGER)
                    raise RequestRefused("The gateway that asks is not in this cluster.", "Join it anew.")
            elif not strangers and not self._cluster.is_peer_address(address):
                self._count(Refusal.STRANGER)
                raise RequestRefused(
                    "The request came from an address that is not the other gateway's.",
                    "Ask from one of its link addresses.",
                )
            else:
                self._note(request.sender, data)
            return {"ok": True, "result": handler(request.sender, arguments)}
        except ClusterError as error:
            return _refused(error)
        except Exception:
            log.exception("Request %s of the other gateway failed", verb)
            return _refused(RequestRefused("The other gateway failed to carry out the request.", "See its log."))

    def _is_member(self, node_id: str) -> bool:
        heads = self._cluster.heads()
        return heads is not None and any(node.node_id == node_id for node in heads.applied.settings.nodes)

    def _receiver_of(self, node_id: str) -> Receiver:
        with self._lock:
            if self._receiver is None or self._receiver.node_id != node_id:
                self._receiver = Receiver(node_id)
            return self._receiver

    def _count(self, refusal: Refusal) -> None:
        if not self.refused[refusal]:
            log.warning("Refused a peer message: %s (further ones are only counted)", refusal.value)
        self.refused[refusal] += 1

    # -- what rides along -------------------------------------------------------------------------------------

    def _envelope(self, content: dict[str, Any]) -> dict[str, Any]:
        return {**content, "facts": self._cluster.peer_facts_of_self().__dict__, "role": self._cluster.role()}

    def _note(self, sender: str, data: dict[str, Any]) -> None:
        """Remember what the other gateway tells about itself."""
        facts = peer_facts(data.get("facts"))
        if facts is not None and facts.node_id == sender and self._is_member(sender):
            self._cluster.store.set_peer(facts)


def peer_facts(data: Any) -> PeerFacts | None:
    """Return facts from their dict form, None if they are malformed."""
    try:
        facts = PeerFacts(**data)
    except TypeError:
        return None
    texts: Sequence[object] = (facts.node_id, facts.name, facts.firmware, facts.version)
    numbers: Sequence[object] = (facts.protocol, facts.http_port)
    fit = all(isinstance(text, str) and len(text) <= 128 for text in texts)
    return facts if fit and all(type(number) is int and 0 <= number <= 65535 for number in numbers) else None


def _refused(error: ClusterError) -> dict[str, Any]:
    return {"ok": False, "error": error.as_dict()}
