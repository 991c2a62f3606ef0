"""The section *Network interface*: a row for each configured port, filled in, fetched, read back.

Pure: settings in their dict form and ports go in, rows and words come out. Page, REST and command line share it. What
the other gateway tells of its ports is taken for hostile: any name, any number of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import ClusterError, RequestRefused
from ..settings import interfaces
from ..settings.addressing import PORT_NAME, Port
from ..translate import gettext as _
from ..translate import ngettext
from . import fields

Json = dict[str, Any]

#: Unmatched ports that are told, and characters of a name in them.
TOLD, NAME_SHOWN = 20, 32
#: Ports that somebody dials: their addresses are the access concentrator's to give.
_DIALLED = frozenset({"ppp", "tun"})


@dataclass(frozen=True)
class Row:
    """A port with own addresses.

    :param mine: what this gateway is to have: as the settings state it, else what it has.
    :param other: what the other one is to have as the settings state it; empty: its own business.
    :param stated: the settings state something of this port.
    """

    port: str
    mine: tuple[str, ...]
    other: tuple[str, ...]
    apart: bool
    stated: bool


@dataclass(frozen=True)
class Fetched:
    """What came of asking the other gateway.

    :param found: its own addresses by port, for ports of the same name.
    :param unmatched: in words, why there is nothing for a port.
    """

    found: Mapping[str, tuple[str, ...]]
    unmatched: tuple[str, ...]


@dataclass(frozen=True)
class ReadBack:
    """What a gateway's kernel has on a port of the section.

    :param gateway: its name.
    :param present: None where the gateway has no such port, or has not answered.
    :param text: in words.
    """

    port: str
    gateway: str
    wanted: tuple[str, ...]
    present: tuple[str, ...] | None
    ok: bool
    text: str


def static(port: Port) -> tuple[str, ...]:
    """Return a port's own addresses that are set, not leased from DHCP or a router; what is malformed is left out."""
    leased = set(port.get("leased", ()))
    found = []
    for text in port.get("addresses", ()):
        if text not in leased:
            try:
                found.append(str(fields.interface(text)))
            except ValueError:
                continue
    return tuple(found)


def _enterable(port: Port) -> tuple[str, ...]:
    """Return what a port has, if it can be stated whole: what is left out of a statement would be removed."""
    found = static(port)
    return found if len(found) <= interfaces.MAX_ADDRESSES else ()


def addresses(text: str) -> list[str]:
    """Read addresses with prefix lengths from a text in which commas, spaces or line ends separate them.

    :raises ValueError: says in words what is wrong.
    """
    items = text.replace(",", " ").split()
    if len(items) > interfaces.MAX_ADDRESSES:
        raise ValueError(_("At most %(n)s addresses.", n=interfaces.MAX_ADDRESSES))
    found = []
    for item in items:
        try:
            found.append(str(fields.interface(item)))
        except ValueError as error:
            raise ValueError(f"{item[:40]}: {error}" if len(items) > 1 else str(error)) from None
    return found


def cables(settings: Json, node_id: str) -> list[str]:
    """Return the ports of a gateway's synchronisation and backup links, which have fields of their own."""
    return [link["ends"][node_id]["port"] for link in settings["links"]
            if link["kind"] != "service" and node_id in link["ends"]]


def rows(settings: Json, node_id: str, ports: Iterable[Port]) -> list[Row]:
    """Return a row for each port of this gateway that has a set address of its own, and for each in the settings."""
    entries: dict[str, Json] = {one["port"]: one for one in settings.get(interfaces.KEY, [])}
    present = {str(port["name"]): _enterable(port) for port in ports if port.get("kind") not in _DIALLED}
    links = cables(settings, node_id)
    names = [name for name, own in present.items() if (own or name in entries) and name not in links]
    found = []
    for name in [*names, *(name for name in entries if name not in names)]:
        entry = entries.get(name, {"addresses": {}})
        mine = tuple(entry["addresses"].get(node_id) or present.get(name, ()))
        other = next((tuple(each) for node, each in entry["addresses"].items() if node != node_id), ())
        found.append(Row(name, mine, other, entry.get("apart", False), name in entries))
    return found


def leased_ports(ports: Iterable[Port]) -> list[str]:
    """Return the ports whose addresses come from DHCP or a router: there is nothing to enter."""
    return [str(port["name"]) for port in ports if port.get("leased") and not static(port)]


def crowded_ports(ports: Iterable[Port]) -> list[str]:
    """Return the ports that have more addresses than can be entered: they stay their gateway's own business."""
    return [str(port["name"]) for port in ports if static(port) and not _enterable(port)]


def entries(settings: Json, node_id: str, peer_id: str, typed: Iterable[Row], ports: Iterable[Port]) -> list[Json]:
    """Return the settings' entries of what was typed, beside those of ports that were not shown.

    What was merely shown is not stated: a port on which this gateway's field says what it has, and the other one's
    says nothing, stays the business of each gateway's own network settings.
    """
    present = {str(port["name"]): _enterable(port) for port in ports}
    before = {one["port"]: one for one in settings.get(interfaces.KEY, [])}
    found = dict(before)
    for row in typed:
        found.pop(row.port, None)
        if row.mine == present.get(row.port, ()) and not row.other and row.port not in before:
            continue
        both = {node: list(each) for node, each in ((node_id, row.mine), (peer_id, row.other)) if each}
        if both:
            found[row.port] = {"port": row.port, "addresses": dict(sorted(both.items())), "apart": row.apart}
    return [found[port] for port in sorted(found)]


def with_addresses(
    settings: Json, port: str, sides: Mapping[str, Sequence[str]], apart: bool | None = None
) -> Json:
    """Return settings with own addresses of gateways on a port; an empty list leaves that gateway to itself.

    :param sides: by node id; the others keep what they have.
    :param apart: None: as it is.
    """
    before = settings.get(interfaces.KEY, [])
    entry: Json = next((one for one in before if one["port"] == port), {"addresses": {}})
    both = {node: list(each) for node, each in {**entry["addresses"], **sides}.items() if each}
    rest = [one for one in before if one["port"] != port]
    if both:
        ticked = entry.get("apart", False) if apart is None else apart
        rest.append({"port": port, "addresses": dict(sorted(both.items())), "apart": ticked})
    return {**settings, interfaces.KEY: sorted(rest, key=lambda one: str(one["port"]))}


def fetched(settings: Json, node_id: str, peer_id: str, names: Sequence[str], ports: Iterable[Port]) -> Fetched:
    """Match the other gateway's ports with those of the section, by identical names only.

    :param names: of the section's rows.
    :param ports: what the other gateway tells.
    """
    theirs: dict[str, list[Port]] = {}
    for port in ports:
        theirs.setdefault(str(port["name"]), []).append(port)
    links = cables(settings, peer_id)
    found: dict[str, tuple[str, ...]] = {}
    unmatched = []
    for name in names:
        why = _why_not(name, theirs.get(name, []), links)
        if why:
            unmatched.append(why)
        else:
            found[name] = _enterable(theirs[name][0])
    only_there = [name for name, same in theirs.items()
                  if name not in names and name not in links and any(static(port) for port in same)]
    unmatched += [_only_there(name) for name in only_there[: TOLD + 1]]
    told = [*unmatched[:TOLD]]
    if (more := len(names) - len(found) + len(only_there) - len(told)) > 0:
        told.append(ngettext("1 more is unmatched.", "%(n)s more are unmatched.", more))
    return Fetched(found, tuple(told))


def _why_not(name: str, same: Sequence[Port], links: Sequence[str]) -> str:
    if not same:
        return _("%(port)s is only on this gateway.", port=name)
    if len(same) > 1:
        return _("%(port)s is named several times by the other gateway: it is not clear which is meant.", port=name)
    if name in links:
        return _("%(port)s is the cable between the gateways on the other one.", port=name)
    if _enterable(same[0]):
        return ""
    if static(same[0]):
        return _("%(port)s has more than %(n)s addresses on the other gateway: enter those that it is to keep.",
                 port=name, n=interfaces.MAX_ADDRESSES)
    if same[0].get("leased"):
        return _("%(port)s has its address from DHCP or a router on the other gateway: nothing to enter.", port=name)
    return _("%(port)s has no address on the other gateway.", port=name)


def _only_there(name: str) -> str:
    if PORT_NAME.fullmatch(name):
        return _("%(port)s is only on the other gateway, or has no address here.", port=name)
    shown = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in name[:NAME_SHOWN])
    return _("“%(name)s” on the other gateway is no name that a port can have here.",
             name=shown + ("…" if len(name) > NAME_SHOWN else ""))


def read_back(
    settings: Json, node_id: str, ports: Sequence[Port], peer_ports: Sequence[Port] | None
) -> list[ReadBack]:
    """Return what the kernels have, for each address that the settings state.

    :param peer_ports: the other gateway's; None: it has not answered.
    """
    found = []
    for entry in settings.get(interfaces.KEY, []):
        for node in settings["nodes"]:
            wanted = tuple(entry["addresses"].get(node["node_id"], ()))
            if wanted:
                there = ports if node["node_id"] == node_id else peer_ports
                found.append(_compared(entry["port"], node["name"], wanted, there))
    return found


def _compared(port: str, gateway: str, wanted: tuple[str, ...], ports: Sequence[Port] | None) -> ReadBack:
    if ports is None:
        return ReadBack(port, gateway, wanted, None, False, _("has not answered: what it has is not known"))
    same = next((one for one in ports if one["name"] == port), None)
    if same is None:
        return ReadBack(port, gateway, wanted, None, False, _("has no such port now"))
    present = static(same)
    missing = [address for address in wanted if address not in present]
    besides = [address for address in present if address not in wanted]
    words = [_("has %(addresses)s", addresses=", ".join(present) or _("no address"))]
    if missing:
        words.append(_("%(addresses)s is missing", addresses=", ".join(missing)))
    if besides:
        words.append(_("%(addresses)s is not of these settings", addresses=", ".join(besides)))
    return ReadBack(port, gateway, wanted, present, not missing and not besides, "; ".join(words))


def report(
    held: Json, ports: Sequence[Port], peer_ports: Sequence[Port] | None, unanswered: ClusterError | None = None
) -> Json:
    """Return the section as data: rows, what both kernels have, and what fetching would fill in.

    :param held: the agent's answer to ``settings``.
    :param unanswered: why the other gateway's ports are not known.
    :raises RequestRefused: this gateway is in no cluster.
    """
    if not held["formed"]:
        raise RequestRefused(_("This gateway is not in a cluster."), _("Create one, or join one."))
    settings, node_id = held["settings"], held["node_id"]
    peer_id = next((node["node_id"] for node in settings["nodes"] if node["node_id"] != node_id), "")
    shown = rows(settings, node_id, ports)
    told = fetched(settings, node_id, peer_id, [row.port for row in shown], peer_ports or [])
    return {
        "interfaces": [asdict(row) for row in shown],
        "read_back": [asdict(one) for one in read_back(settings, node_id, ports, peer_ports)],
        "fetched": {port: list(found) for port, found in told.found.items()} if peer_ports is not None else {},
        "unmatched": list(told.unmatched) if peer_ports is not None else [],
        "unanswered": unanswered.as_dict() if unanswered else None,
    }
