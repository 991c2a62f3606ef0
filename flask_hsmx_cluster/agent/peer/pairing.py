"""Pairing: two gateways that share nothing but a code read from one and typed into the other.

X25519 with fresh keys on both sides, authenticated by the code::

    joiner -> offerer   HELLO     id, public key
    offerer -> joiner   OFFER     id, public key
    joiner -> offerer   REQUEST   confirmation, first request   (repeated as often as there is something to ask)
    offerer -> joiner   ANSWER    confirmation, its answer

Every key comes from HKDF over the shared secret *and* the code, salted with the transcript: both ids, both public
keys. Each message is bound to all messages before it. The joiner proves its knowledge of the code first: who does
not know it learns nothing from the offerer, and has used up one of five attempts. Later knowledge of the code or
of the cluster key does not open a recorded exchange.

The offerer keeps no state for a HELLO (its key pair lives as long as the code), so there is nothing to flood. A
request repeated byte by byte gets the same answer again: that is how a lost answer is recovered.

No sockets and no clock here: bytes in, bytes out, time is an argument (boot-time clock, s).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ...control import MAX_MESSAGE
from ...errors import PairingFailed

#: How long a code lives, s.
LIFETIME_S = 600
#: Wrong codes before it dies.
ATTEMPTS = 5
#: Joiners that proved the code at the same time (one that starts over counts anew).
MAX_SESSIONS = 4
#: Requests of one joiner.
MAX_REQUESTS = 64

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U
_READ_AS = str.maketrans("ILO", "110")
#: Random characters of 5 bits: 95 bits. One more makes the check.
_CODE_CHARACTERS = 19

_MAGIC = b"HSMp"
VERSION = 1
_HELLO, _OFFER, _REQUEST, _ANSWER, _REFUSED = 1, 2, 3, 4, 5
_PREFIX = struct.Struct("!4sBB")
_HELLO_BODY = struct.Struct("!16s32s")
_REQUEST_BODY = struct.Struct("!16s32sI32s")
_ANSWER_BODY = struct.Struct("!I32s")

_MALFORMED, _CLOSED, _WRONG_CODE, _USED, _BUSY = 1, 2, 3, 4, 5
_REFUSALS = {
    _MALFORMED: ("The other gateway did not understand the pairing message.", "Are both firmwares up to date?"),
    _CLOSED: (
        "No pairing code is valid on the other gateway: it has expired, or was entered wrongly five times.",
        "Show a new code on its settings page (or `flask cluster create`), and enter that.",
    ),
    _WRONG_CODE: (
        "The other gateway does not accept the pairing code.",
        "Compare the code; the other gateway may have shown a newer one. Five wrong codes end it.",
    ),
    _USED: (
        "The pairing code has been used by another gateway.",
        "Show a new code on the other gateway if that was not you.",
    ),
    _BUSY: ("The other gateway is busy pairing.", "Wait a minute and repeat."),
}


# -- the code -------------------------------------------------------------------------------------------------


def new_code() -> str:
    """Return a one-time code of 95 random bits, ``XXXX-XXXX-XXXX-XXXX-XXXX``; its last character is a check."""
    values = [byte & 31 for byte in os.urandom(_CODE_CHARACTERS)]
    text = "".join(_ALPHABET[value] for value in [*values, _check(values)])
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def code_hash(code: str) -> bytes:
    """Return the 32 bytes that stand for a code, however it was typed.

    :raises PairingFailed: it cannot be a code; says whether its length, a character or the check is wrong.
    """
    plain = "".join(code.upper().split()).replace("-", "").translate(_READ_AS)
    if len(plain) != _CODE_CHARACTERS + 1:
        raise PairingFailed(
            f"A pairing code has {_CODE_CHARACTERS + 1} characters, this one has {len(plain)}.", "Type it again."
        )
    if wrong := sorted(set(plain) - set(_ALPHABET)):
        shown = wrong[0] if wrong[0].isprintable() else "?"
        raise PairingFailed(f"A pairing code has no character {shown!r}.", "Type it again.")
    values = [_ALPHABET.index(character) for character in plain]
    if _check(values[:-1]) != values[-1]:
        raise PairingFailed(
            "The pairing code has a typing error.", "Compare it character by character; no attempt was used up."
        )
    return hashlib.sha256(b"hsmx-cluster pairing code\0" + plain.encode()).digest()


def _check(values: list[int]) -> int:
    """Return the check value: a polynomial over GF(32), so that any one wrong or swapped character shows."""
    total = 0
    for value in values:
        total = ((total << 1) ^ (0b100101 if total & 16 else 0)) ^ value
    return ((total << 1) ^ (0b100101 if total & 16 else 0)) & 31


# -- what both sides share ------------------------------------------------------------------------------------


class _NotConfirmed(Exception):
    """The sender does not know the code."""


class _Channel:
    """Keys of one exchange, and the running digest of all its messages."""

    def __init__(self, shared: bytes, secret: bytes, transcript: bytes) -> None:
        salt = hashlib.sha256(transcript).digest()
        keys = HKDF(SHA256(), 128, salt=salt, info=b"hsmx-cluster pairing 1").derive(shared + secret)
        self._joiner_confirms, self._offerer_confirms = keys[:32], keys[32:64]
        self._to_offerer, self._to_joiner = ChaCha20Poly1305(keys[64:96]), ChaCha20Poly1305(keys[96:])
        self._running = salt
        self.count = 0

    def seal_request(self, payload: bytes) -> tuple[bytes, bytes]:
        """Return confirmation and ciphertext of the next request."""
        return self._seal(self._to_offerer, self._joiner_confirms, payload)

    def open_request(self, confirmation: bytes, ciphertext: bytes) -> bytes:
        """Return the request; raise :class:`_NotConfirmed` if its sender does not know the code."""
        return self._open(self._to_offerer, self._joiner_confirms, confirmation, ciphertext)

    def seal_answer(self, payload: bytes) -> tuple[bytes, bytes]:
        """Return confirmation and ciphertext of the answer."""
        sealed = self._seal(self._to_joiner, self._offerer_confirms, payload)
        self.count += 1
        return sealed

    def open_answer(self, confirmation: bytes, ciphertext: bytes) -> bytes:
        """Return the answer; raise :class:`_NotConfirmed` if its sender does not know the code."""
        payload = self._open(self._to_joiner, self._offerer_confirms, confirmation, ciphertext)
        self.count += 1
        return payload

    def _seal(self, cipher: ChaCha20Poly1305, confirms: bytes, payload: bytes) -> tuple[bytes, bytes]:
        confirmation = hmac.digest(confirms, self._running, "sha256")
        ciphertext = cipher.encrypt(self._nonce(), payload, self._running + confirmation)
        self._advance(confirmation, ciphertext)
        return confirmation, ciphertext

    def _open(self, cipher: ChaCha20Poly1305, confirms: bytes, confirmation: bytes, ciphertext: bytes) -> bytes:
        if not hmac.compare_digest(confirmation, hmac.digest(confirms, self._running, "sha256")):
            raise _NotConfirmed
        payload = cipher.decrypt(self._nonce(), ciphertext, self._running + confirmation)
        self._advance(confirmation, ciphertext)
        return payload

    def _nonce(self) -> bytes:
        return self.count.to_bytes(12, "big")

    def _advance(self, confirmation: bytes, ciphertext: bytes) -> None:
        self._running = hashlib.sha256(self._running + confirmation + ciphertext).digest()


def _transcript(joiner: bytes, joiner_key: bytes, offerer: bytes, offerer_key: bytes) -> bytes:
    return b"hsmx-cluster pairing\0" + bytes([VERSION]) + joiner + joiner_key + offerer + offerer_key


def _public(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def _message(kind: int, body: bytes) -> bytes:
    return _PREFIX.pack(_MAGIC, VERSION, kind) + body


def _parse(data: bytes) -> tuple[int, bytes]:
    """Return kind and body; kind 0 for what is no pairing message of this version."""
    if not _PREFIX.size <= len(data) <= MAX_MESSAGE:
        return 0, b""
    magic, version, kind = _PREFIX.unpack_from(data)
    return (kind, data[_PREFIX.size :]) if magic == _MAGIC and version == VERSION else (0, b"")


# -- the gateway that shows the code --------------------------------------------------------------------------


@dataclass
class _Session:
    channel: _Channel
    last_request: bytes = b""
    last_answer: bytes = b""


class Offerer:
    """The side that shows the code.

    :param node_id: this gateway.
    :param secret: the code's hash, see :func:`code_hash`.
    :param expires_at_s: when the code dies, s on the clock of the ``now`` arguments.
    :param attempts_left: wrong codes that it survives, less one.
    :param joiner: node id that has used the code already; nobody else may then.
    :param on_attempt: called with the attempts left after a wrong code, *before* anything is answered: what it
        stores survives a crash.
    """

    def __init__(
        self,
        node_id: str,
        secret: bytes,
        expires_at_s: float,
        attempts_left: int = ATTEMPTS,
        joiner: str = "",
        on_attempt: Callable[[int], None] = lambda left: None,
    ) -> None:
        self._id = bytes.fromhex(node_id)
        self._secret = secret
        self._private = X25519PrivateKey.generate()
        self._on_attempt = on_attempt
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self.expires_at_s = expires_at_s
        self.attempts_left = attempts_left
        self.joiner = joiner

    def alive(self, now: float) -> bool:
        """Whether the code is still good."""
        return self.attempts_left > 0 and now < self.expires_at_s

    def receive(self, data: bytes, now: float, handle: Callable[[str, bytes], bytes]) -> bytes:
        """Return the answer to a message of the pairing endpoint.

        :param handle: called with the joiner's node id and its request once the joiner has proved the code;
            returns the answer. It is not called again for a repeated message.
        """
        kind, body = _parse(data)
        if kind == _HELLO and len(body) == _HELLO_BODY.size:
            if not self.alive(now):
                return refused()
            return _message(_OFFER, _HELLO_BODY.pack(self._id, _public(self._private)))
        if kind == _REQUEST and len(body) >= _REQUEST_BODY.size:
            return self._on_request(body, now, handle)
        return _refused(_MALFORMED)

    def _on_request(self, body: bytes, now: float, handle: Callable[[str, bytes], bytes]) -> bytes:
        joiner, public, count, confirmation = _REQUEST_BODY.unpack_from(body)
        session = self._sessions.get(joiner + public)
        digest = hashlib.sha256(body).digest()
        if session is not None and session.last_request == digest:
            return session.last_answer  # its answer was lost: repeat it, carry out nothing
        if not self.alive(now):
            return refused()
        if (count != session.channel.count) if session else (count != 0):
            return _refused(_MALFORMED)  # an old request, or one of a session that is no more
        if count >= MAX_REQUESTS or joiner == self._id:
            return _refused(_MALFORMED)
        if session is None:
            try:
                session = _Session(self._channel(joiner, public))
            except ValueError:
                return _refused(_MALFORMED)  # a key of low order
        try:
            payload = session.channel.open_request(confirmation, body[_REQUEST_BODY.size :])
        except _NotConfirmed:
            # Only the first request of an exchange tries a code; garbage in a proven one is not an attempt.
            return self._wrong_code() if count == 0 else _refused(_MALFORMED)
        except InvalidTag:
            return _refused(_MALFORMED)
        if self.joiner not in ("", joiner.hex()):
            return _refused(_USED)
        self._keep(joiner + public, session)
        answer = handle(joiner.hex(), payload)
        confirmation, ciphertext = session.channel.seal_answer(answer)
        sealed = _ANSWER_BODY.pack(count, confirmation) + ciphertext
        session.last_request, session.last_answer = digest, _message(_ANSWER, sealed)
        return session.last_answer

    def _channel(self, joiner: bytes, public: bytes) -> _Channel:
        shared = self._private.exchange(X25519PublicKey.from_public_bytes(public))
        return _Channel(shared, self._secret, _transcript(joiner, public, self._id, _public(self._private)))

    def _wrong_code(self) -> bytes:
        self.attempts_left -= 1
        self._on_attempt(self.attempts_left)
        return _refused(_WRONG_CODE)

    def _keep(self, key: bytes, session: _Session) -> None:
        self._sessions[key] = session
        self._sessions.move_to_end(key)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)


def refused() -> bytes:
    """Return the answer of a gateway on which no code lives."""
    return _refused(_CLOSED)


def busy() -> bytes:
    """Return the answer of a gateway that is occupied with another joiner."""
    return _refused(_BUSY)


def _refused(reason: int) -> bytes:
    return _message(_REFUSED, bytes([reason]))


# -- the gateway on which the code is typed -------------------------------------------------------------------


class Joiner:
    """The side on which the code is typed. Call in turn: :meth:`hello`, :meth:`on_offer`, then pairs of
    :meth:`request` and :meth:`on_answer`.

    :param node_id: this gateway.
    :param secret: the code's hash, see :func:`code_hash`.
    """

    def __init__(self, node_id: str, secret: bytes) -> None:
        self._id = bytes.fromhex(node_id)
        self._secret = secret
        self._private = X25519PrivateKey.generate()
        self._channel: _Channel | None = None
        self.peer_id = ""

    def hello(self) -> bytes:
        """Return the first message."""
        return _message(_HELLO, _HELLO_BODY.pack(self._id, _public(self._private)))

    def on_offer(self, data: bytes) -> None:
        """Take the offerer's key.

        :raises PairingFailed: it refused, or what came is no offer.
        """
        body = _expect(_OFFER, data)
        if len(body) != _HELLO_BODY.size:
            raise _failed(_MALFORMED)
        peer, public = _HELLO_BODY.unpack(body)
        if peer == self._id:
            raise PairingFailed(
                "The address entered is this gateway's own, or the other one was cloned from it.",
                "Enter the other gateway's address.",
            )
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise _failed(_MALFORMED) from None
        self._channel = _Channel(shared, self._secret, _transcript(self._id, _public(self._private), peer, public))
        self.peer_id = peer.hex()

    def request(self, payload: bytes) -> bytes:
        """Return the next request, sealed. If its answer is lost, send the same bytes again."""
        channel = self._established()
        confirmation, ciphertext = channel.seal_request(payload)
        head = _REQUEST_BODY.pack(self._id, _public(self._private), channel.count, confirmation)
        return _message(_REQUEST, head + ciphertext)

    def on_answer(self, data: bytes) -> bytes:
        """Return what the offerer answered.

        :raises PairingFailed: it refused, or it does not know the code.
        """
        channel = self._established()
        body = _expect(_ANSWER, data)
        if len(body) < _ANSWER_BODY.size:
            raise _failed(_MALFORMED)
        _count, confirmation = _ANSWER_BODY.unpack_from(body)
        try:
            return channel.open_answer(confirmation, body[_ANSWER_BODY.size :])
        except (_NotConfirmed, InvalidTag):
            raise PairingFailed(
                "The answer did not come from the gateway that showed the code.",
                "Is somebody else's gateway at this address? Check it, and the cable.",
            ) from None

    def _established(self) -> _Channel:
        if self._channel is None:
            raise PairingFailed("The other gateway has not answered yet.")
        return self._channel


def _expect(kind: int, data: bytes) -> bytes:
    found, body = _parse(data)
    if found == _REFUSED and len(body) == 1:
        raise _failed(body[0])
    if found != kind:
        raise PairingFailed(
            "What answered there is no gateway that can be paired.", "Check the address and the port of its web page."
        )
    return body


def _failed(reason: int) -> PairingFailed:
    return PairingFailed(*_REFUSALS.get(reason, _REFUSALS[_MALFORMED]))
