"""What ``nft -j list ruleset`` says, reduced to the rules that let somebody in.

Only what can be judged is: a rule that accepts by interface, source, protocol and port, new connections among others.
One that asks for more is left out; so is what goes through a verdict map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network, summarize_address_range
from typing import Any

from .check import Allowed, Network

#: Most rules of a kernel that are looked at.
MOST_RULES = 5000
_SILENT = {"counter", "log", "comment", "limit"}


class _Unclear(Exception):
    """A rule that is not judged."""


def allowed(listing: Any, but: Sequence[str] = ()) -> list[Allowed]:
    """Return the rules that let somebody in.

    :param listing: the parsed JSON, of whatever form.
    :param but: names of tables that are left out.
    """
    objects = [one for one in _items(listing, "nftables") if isinstance(one, dict)]
    others = {
        (chain.get("family"), chain.get("table"), chain.get("name"))
        for chain in _kind(objects, "chain")
        if chain.get("hook") not in (None, "input")
    }
    sets = {(one.get("family"), one.get("table"), one.get("name")): one.get("elem") for one in _kind(objects, "set")}
    found: list[Allowed] = []
    for rule in _kind(objects, "rule")[:MOST_RULES]:
        place = (rule.get("family"), rule.get("table"), rule.get("chain"))
        if place in others or rule.get("table") in but or rule.get("family") not in ("ip", "ip6", "inet"):
            continue
        try:
            found += _read(rule, {name: elements for (family, table, name), elements in sets.items()
                                  if (family, table) == place[:2]})  # fmt: skip
        except (_Unclear, KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
            continue
    return found


def closes(listing: Any) -> bool:
    """Return whether anything in the kernel's rules for incoming packets drops or refuses."""
    objects = [one for one in _items(listing, "nftables") if isinstance(one, dict)]
    if any(one.get("hook") == "input" and one.get("policy") == "drop" for one in _kind(objects, "chain")):
        return True
    return any(
        isinstance(part, dict) and ("drop" in part or "reject" in part)
        for rule in _kind(objects, "rule")
        for part in _items(rule, "expr")
    )


def _read(rule: Mapping[str, Any], sets: Mapping[Any, Any]) -> Iterator[Allowed]:
    protocol, ports, sources, accepts = "", None, None, False
    for part in _items(rule, "expr"):
        (kind, content), *more = part.items()
        if more or (kind not in _SILENT and kind not in ("match", "accept")):
            raise _Unclear
        if kind == "accept":
            accepts = True
        if kind != "match":
            continue
        left, right = content["left"], content["right"]
        meta, payload = left.get("meta", {}).get("key"), left.get("payload", {})
        field = payload.get("field")
        if content["op"] == "!=" and (meta in ("iif", "iifname") or field == "saddr"):
            continue  # from all but one is from anybody
        if content["op"] not in ("==", "in"):
            raise _Unclear
        if left.get("ct", {}).get("key") == "state" and "new" in (
            right if isinstance(right, list) else _elements(right, sets)):
            continue  # fmt: skip
        if meta in ("iif", "iifname"):
            if right == "lo":
                raise _Unclear
        elif meta == "l4proto" and right in ("tcp", "udp"):
            protocol = right
        elif meta == "l4proto" and set(right.get("set", ())) <= {"tcp", "udp"}:
            pass
        elif field == "dport" and payload["protocol"] in ("tcp", "udp", "th"):
            protocol = protocol if payload["protocol"] == "th" else payload["protocol"]
            ports = tuple(_ports(right, sets))
        elif field == "saddr":
            sources = tuple(_networks(right, sets))
        elif meta != "nfproto" and field not in ("daddr",):
            raise _Unclear
    if accepts and ports != () and sources != ():
        chain = f"the packet rule in table {rule['family']} {rule['table']}, chain {rule['chain']}"
        note = rule.get("comment")
        yield Allowed(protocol, ports or (), sources or (), _plain(chain + (f" (“{note}”)" if note else "")))


def _ports(value: Any, sets: Mapping[Any, Any]) -> Iterator[tuple[int, int]]:
    for one in _elements(value, sets):
        if isinstance(one, int):
            yield one, one
        else:
            first, last = one["range"]
            yield int(first), int(last)


def _networks(value: Any, sets: Mapping[Any, Any]) -> Iterator[Network]:
    for one in _elements(value, sets):
        if isinstance(one, str):
            yield ip_network(one)
        elif "prefix" in one:
            yield ip_network(f"{one['prefix']['addr']}/{one['prefix']['len']}", strict=False)
        else:
            first, last = map(ip_address, one["range"])
            yield from summarize_address_range(first, last)


def _elements(value: Any, sets: Mapping[Any, Any]) -> Iterator[Any]:
    """Yield the single values of what a rule compares with."""
    if isinstance(value, str) and value.startswith("@"):
        value = {"set": sets[value[1:]] or []}
    for one in value["set"] if isinstance(value, dict) and "set" in value else [value]:
        yield one["elem"]["val"] if isinstance(one, dict) and "elem" in one else one


def _kind(objects: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [one[kind] for one in objects if isinstance(one.get(kind), dict)]


def _items(data: Any, key: str) -> list[Any]:
    found = data.get(key) if isinstance(data, dict) else None
    return found if isinstance(found, list) else []


def _plain(text: str) -> str:
    return "".join(sign for sign in text[:200] if sign.isprintable())
