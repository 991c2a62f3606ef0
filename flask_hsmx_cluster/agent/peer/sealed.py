"""Sealed messages between the two agents, carried by the web apps as opaque bytes.

A request is encrypted and authenticated under the cluster key for one *incarnation* of its receiver: a random
number that the receiver draws at start. Within an incarnation each request is accepted once. So replays are
refused without a clock and without a disk; a request for a former incarnation is answered with a challenge that
carries the present one, and the sender repeats it. An answer is bound to the request that it answers.

::

    magic 4 | version 1 | kind 1 | key id 1 | sender 16 | receiver 16 | incarnation 16 | request id 16
    salt 16 | ciphertext

All of it is authenticated. The key of a message is derived from the cluster key, the header and the random salt:
it serves for one message only, so no nonce has to be kept unique.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ...control import MAX_MESSAGE
from ..membership import Key

#: Version of the layout.
VERSION = 1
#: Requests remembered per incarnation; when they are full, a new incarnation begins.
MAX_REMEMBERED = 4096

NO_INCARNATION = bytes(16)

_HEADER = struct.Struct("!4sBBB16s16s16s16s")
_MAGIC = b"HSMs"
_REQUEST, _ANSWER, _CHALLENGE = 1, 2, 3
_TAG = 16
#: Each message has its own key, so that one nonce serves all.
_NONCE = bytes(12)


class Refusal(Enum):
    """Why a message was refused."""

    MALFORMED = "malformed"
    VERSION = "version"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    STRANGER = "stranger"
    """Meant for, or answered by, another node."""
    REPLAY = "replay"
    WRONG_ANSWER = "wrong_answer"
    """An answer to another request."""


class SealRefused(Exception):
    """A message that is not accepted."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class StaleIncarnation(Exception):
    """The receiver has started anew: seal the request again for this incarnation."""

    def __init__(self, incarnation: bytes) -> None:
        super().__init__("the other agent has started anew")
        self.incarnation = incarnation


@dataclass(frozen=True)
class Request:
    """A request as sealed or as opened.

    :param sender: node id, 32 hex digits.
    :param payload: what it says.
    :param stale: sealed for a former incarnation: answer with a challenge, carry out nothing.
    """

    sender: str
    receiver: str
    key: Key
    incarnation: bytes
    request_id: bytes
    payload: bytes = field(repr=False)
    stale: bool = False


def seal_request(key: Key, sender: str, receiver: str, incarnation: bytes, payload: bytes) -> tuple[bytes, Request]:
    """Return a sealed request, and what is needed to open its answer."""
    request = Request(sender, receiver, key, incarnation, os.urandom(16), payload)
    return _seal(_REQUEST, request, sender, receiver, payload), request


def open_answer(data: bytes, request: Request) -> bytes:
    """Return what the answer to a request says.

    :raises StaleIncarnation: repeat the request for the incarnation given.
    :raises SealRefused: it is not an answer to this request by its receiver.
    """
    kind, key_id, sender, receiver, _, request_id = _header(data)
    if kind not in (_ANSWER, _CHALLENGE):
        raise SealRefused(Refusal.MALFORMED)
    if key_id != request.key.key_id:
        raise SealRefused(Refusal.UNKNOWN_KEY)
    if sender != request.receiver or receiver != request.sender:
        raise SealRefused(Refusal.STRANGER)
    if request_id != request.request_id:
        raise SealRefused(Refusal.WRONG_ANSWER)
    payload = _open(request.key, data)
    if kind == _CHALLENGE:
        if len(payload) != 16:
            raise SealRefused(Refusal.MALFORMED)
        raise StaleIncarnation(payload)
    return payload


class Receiver:
    """Opens requests, each once. Thread-safe.

    :param node_id: this gateway.
    """

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self.incarnation = os.urandom(16)
        self._seen: set[bytes] = set()

    def open_request(self, data: bytes, keys: Sequence[Key]) -> Request:
        """Return a request that is authentic and new, or authentic and ``stale``.

        Who its sender is to this gateway is the caller's business: only that it knows the cluster key is sure.

        :raises SealRefused: it is neither.
        """
        kind, key_id, sender, receiver, incarnation, request_id = _header(data)
        if kind != _REQUEST:
            raise SealRefused(Refusal.MALFORMED)
        if receiver != self.node_id or sender == self.node_id:
            raise SealRefused(Refusal.STRANGER)
        key = next((key for key in keys if key.key_id == key_id), None)
        if key is None:
            raise SealRefused(Refusal.UNKNOWN_KEY)
        payload = _open(key, data)
        with self._lock:
            stale = incarnation != self.incarnation
            if not stale:
                if request_id in self._seen:
                    raise SealRefused(Refusal.REPLAY)
                self._seen.add(request_id)
                if len(self._seen) >= MAX_REMEMBERED:
                    self._begin()
        return Request(sender, receiver, key, incarnation, request_id, payload, stale)

    def seal_answer(self, request: Request, payload: bytes) -> bytes:
        """Return the sealed answer to a request."""
        return _seal(_ANSWER, request, request.receiver, request.sender, payload)

    def seal_challenge(self, request: Request) -> bytes:
        """Return the answer to a stale request: the present incarnation."""
        return _seal(_CHALLENGE, request, request.receiver, request.sender, self.incarnation)


def _seal(kind: int, request: Request, sender: str, receiver: str, payload: bytes) -> bytes:
    header = _HEADER.pack(
        _MAGIC,
        VERSION,
        kind,
        request.key.key_id,
        bytes.fromhex(sender),
        bytes.fromhex(receiver),
        request.incarnation,
        request.request_id,
    )
    salt = os.urandom(16)  # two answers to one request share their header
    return header + salt + _cipher(request.key, header, salt).encrypt(_NONCE, payload, header)


def _open(key: Key, data: bytes) -> bytes:
    header, salt = data[: _HEADER.size], data[_HEADER.size : _HEADER.size + 16]
    try:
        return _cipher(key, header, salt).decrypt(_NONCE, data[_HEADER.size + 16 :], header)
    except InvalidTag:
        raise SealRefused(Refusal.BAD_SIGNATURE) from None


def _cipher(key: Key, header: bytes, salt: bytes) -> ChaCha20Poly1305:
    info = b"hsmx-cluster sealed message\0" + header
    return ChaCha20Poly1305(HKDF(SHA256(), 32, salt=salt, info=info).derive(key.secret))


def _header(data: bytes) -> tuple[int, int, str, str, bytes, bytes]:
    if not _HEADER.size + 16 + _TAG <= len(data) <= MAX_MESSAGE:
        raise SealRefused(Refusal.MALFORMED)
    magic, version, kind, key_id, sender, receiver, incarnation, request_id = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise SealRefused(Refusal.MALFORMED)
    if version != VERSION:
        raise SealRefused(Refusal.VERSION)
    return kind, key_id, sender.hex(), receiver.hex(), incarnation, request_id
