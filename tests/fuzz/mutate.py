"""Mutations that need no engine: of bytes, and of JSON as a tree. The same generator gives the same inputs.

Values are chosen for where parsers of JSON in Python break: halves of characters, numbers without end or beyond 64
bits, nesting beyond the stack, a list where an object should be, the right thing ten thousand times.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import cycle, islice
from typing import Any

_INTERESTING: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 255, 65536, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**400, 1.5, 1e308, float("inf"),
    float("nan"), "", "a", "\ud800", "\0", "\n", "é" * 200, "a" * 5000, "0" * 64, "f" * 32, "%s%n", "../../etc/passwd",
    "10.0.0.1/24", "fe80::1%lan0", "::ffff:10.0.0.1", "10.0.0.1/0", "255.255.255.255", "lan0", [], {}, [[]], [None],
    {"": None}, {"a": {"a": {"a": {}}}}, [0] * 300, ["10.0.0.9"] * 3000,
)  # fmt: skip
_PLACES_MOST = 20_000
_DEEP = (b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5000)


def mutated(data: bytes, words: Sequence[bytes], is_json: bool, longest: int, seed: int) -> bytes:
    """Return an input with one or a few changes."""
    draw = random.Random(seed)
    if is_json and draw.random() < 0.85:
        try:
            return _mutated_json(data, words, draw, longest)[:longest]
        except (ValueError, RecursionError):
            pass
    return _mutated_bytes(data, words, draw)[:longest]


def _mutated_bytes(data: bytes, words: Sequence[bytes], draw: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        at = draw.randrange(len(found) + 1)
        match draw.randrange(6):
            case 0 if found:
                found[at % len(found)] ^= 1 << draw.randrange(8)
            case 1 if found:
                found[at % len(found)] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
            case 2:
                del found[at : at + draw.choice((1, 2, 16, 256))]
            case 3:
                found[at:at] = bytes(draw.randrange(256) for _ in range(draw.choice((1, 4, 32))))
            case 4 if words:
                word = draw.choice(words)
                found[at : at + draw.choice((0, len(word)))] = word
            case _:
                end = draw.randrange(len(found) + 1)
                found[at:at] = found[min(at, end) : max(at, end)]
    return bytes(found)


def _mutated_json(data: bytes, words: Sequence[bytes], draw: random.Random, longest: int) -> bytes:
    tree = [json.loads(data)]
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(islice(_places(tree), _PLACES_MOST))  # what holds itself many times has millions
        holder, key = draw.choice(places)
        value = holder[key]
        match draw.randrange(8):
            case 0 if isinstance(holder, dict) and holder is not tree:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[draw.choice(words).decode(errors="replace") if words else "x"] = value
            case 2 if isinstance(value, list) and value:
                holder[key] = list(islice(cycle(value), min(len(value) * draw.choice((2, 100, 1000)), 3000)))
            case 3:
                other, there = draw.choice(places)
                holder[key] = other[there] if other is not holder else value
            case 4 if isinstance(value, str):
                holder[key] = _mutated_bytes(value.encode(errors="surrogatepass"), words, draw).decode(errors="replace")
            case 5 if type(value) is int:
                holder[key] = value + draw.choice((-1, 1, 2**16, 2**32, -(2**32)))
            case 6 if words:
                holder[key] = draw.choice(words).decode(errors="replace")
            case _:
                holder[key] = deepcopy(draw.choice(_INTERESTING))
    try:
        text = _written(tree[0], longest)
    except (ValueError, RecursionError):  # it was put into itself
        return data
    if draw.random() < 0.01:
        at = text.find(b":", draw.randrange(len(text))) + 1
        return text[:at] + draw.choice(_DEEP) + text[at:]
    return text


def _written(value: Any, longest: int) -> bytes:
    """Write JSON, as far as it is needed: what holds the same long list many times would fill the memory."""
    parts, size = [], 0
    for part in json.JSONEncoder().iterencode(value):
        parts.append(part)
        size += len(part)
        if size > longest:
            break
    return "".join(parts).encode()


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Yield every place of a tree: what holds it, and its key there."""
    if depth > 20:
        return
    keys = value if isinstance(value, dict) else range(min(len(value), 50))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key], depth + 1)
