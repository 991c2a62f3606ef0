"""What a person does to networks, aliases and routes: look through them, add some, paste many, remove some.

Pure: settings in their dict form go in, changed ones come out. The page and the command line share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from typing import Any

from ..errors import ChecksFailed, Finding, RequestRefused
from ..settings import networks as shared_networks
from ..settings import notify, pppoe
from ..translate import gettext as _
from ..translate import ngettext
from . import fields

Json = dict[str, Any]

#: Longest pasted list, characters.
MAX_LIST = 256 * 1024
_MOST = {
    "networks": shared_networks.MAX_NETWORKS,
    "aliases": shared_networks.MAX_ALIASES,
    "routes": shared_networks.MAX_ROUTES,
}
#: Mistakes of a list that are told.
TOLD = 10


@dataclass(frozen=True)
class Entry:
    """A network, an alias or a route as it is shown.

    :param key: where it stands in the settings (``networks``, ``aliases``, ``routes``).
    :param name: by which it is removed: its address without prefix length, or its destination.
    :param words: its name or note; of a route its router.
    :param advertise: of a network: its router advertisements (:data:`.networks.ADVERTISE`), with their DNS server.
    """

    key: str
    name: str
    address: str
    port: str
    words: str
    advertise: str = ""
    dns: str = ""


def entries(settings: Json, text: str = "") -> list[Entry]:
    """Return all of them, in the order of the settings, or those in which a text occurs."""
    found = [
        *(Entry("networks", _host(one["address"]), one["address"], one["port"], one.get("name", ""),
                one.get("advertise", ""), one.get("dns") or "")
          for one in settings.get("networks", [])),
        *(Entry("aliases", _host(one["address"]), one["address"], one["port"], one.get("note", ""))
          for one in settings.get("aliases", [])),
        *(Entry("routes", one["destination"], one["destination"], one.get("port") or "", one["via"])
          for one in settings.get("routes", [])),
    ]
    wanted = text.strip().lower()
    return [
        one for one in found if wanted in f"{one.address}\n{one.port}\n{one.words}".lower()
    ] if wanted else found


def kept(settings: Json) -> Json:
    """Return what other pages have put into settings: a form that does not show it must not lose it."""
    return {key: settings[key] for key in (*shared_networks.KEYS, pppoe.KEY, notify.KEY) if key in settings}


def network(address: str, port: str, name: str = "", advertise: str = "", dns: str = "") -> Json:
    """Return a network of what was typed.

    :raises ValueError: says in words what is wrong.
    """
    return {
        "address": str(fields.interface(address)), "port": _port(port), "name": _words(name),
        **_advertised(advertise, dns),
    }


def with_advertisements(settings: Json, name: str, advertise: str, dns: str = "") -> Json:
    """Return settings in which a network has other router advertisements.

    :param name: the gateway's address in it, without prefix length.
    :raises ValueError: says in words what is wrong.
    """
    wanted = name.strip()
    rows = settings.get("networks", [])
    if wanted not in {_host(one["address"]) for one in rows}:
        raise ValueError(_("There is no network with the address %(name)s.", name=wanted[:60]))
    told = _advertised(advertise, dns)
    return {**settings, "networks": [
        {**{key: one[key] for key in one if key not in ("advertise", "dns")}, **told}
        if _host(one["address"]) == wanted else one for one in rows
    ]}


def alias(address: str, port: str, note: str = "") -> Json:
    """Return an alias of what was typed; without a prefix length it is a single address.

    :raises ValueError: says in words what is wrong.
    """
    if "/" in address:
        return {"address": str(fields.interface(address)), "port": _port(port), "note": _words(note)}
    return {"address": str(ip_interface(fields.reference(address))), "port": _port(port), "note": _words(note)}


def route(destination: str, via: str, port: str = "") -> Json:
    """Return a route of what was typed.

    :raises ValueError: says in words what is wrong.
    """
    text = destination.strip()
    try:
        if len(text) > fields.ADDRESS_MAX or "%" in text or "/" not in text:
            raise ValueError
        target = ip_network(text)
    except ValueError:
        raise ValueError(
            _("Write the network with its prefix length, for example %(example)s.", example="10.77.0.0/16")
        ) from None
    return {"destination": str(target), "via": str(fields.reference(via)), "port": _port(port) if port else None}


def aliases(text: str, port: str = "") -> list[Json]:
    """Return the aliases of a pasted list: on each line an address, ``@port`` if it is another one, and a note.

    Empty lines and those that begin with ``#`` are left out.

    :param port: of lines that name none.
    :raises ChecksFailed: names the lines that are wrong.
    """
    if len(text) > MAX_LIST:
        raise ChecksFailed([Finding("malformed", _("The list is too long."), _("Paste it in parts."), "lines")])
    found, wrong = [], []
    for number, line in enumerate(text.splitlines(), 1):
        where, _space, note = line.strip().partition(" ")
        if not where or where.startswith("#"):
            continue
        address, at, own_port = where.partition("@")
        try:
            found.append(alias(address, own_port if at else port, note))
        except ValueError as error:
            wrong.append(Finding(
                "malformed", _("Line %(n)s, %(line)s: %(why)s", n=number, line=where[:40], why=error),
                _("Correct the line, or begin it with #."), "lines"))
    if len(wrong) > TOLD:
        more = ngettext("1 more line is wrong.", "%(n)s more lines are wrong.", len(wrong) - TOLD)
        wrong[TOLD:] = [Finding("malformed", more, _("Correct the first ones, and look again."), "lines")]
    if not wrong and not found:
        wrong = [Finding("malformed", _("There is no address in the list."),
                         _("Write one address on each line."), "lines")]
    if wrong:
        raise ChecksFailed(wrong)
    return found


def named(settings: Json, key: str, name: str) -> Entry:
    """Return the network or alias with an address, without prefix length.

    :param key: ``networks`` or ``aliases``.
    :raises RequestRefused: there is none.
    """
    found = next((one for one in entries(settings) if one.key == key and one.name == name), None)
    if found is None:
        raise RequestRefused(
            _("There is no network, alias or route %(name)s.", name=name[:60]), _("Look at the list again."))
    return found


def replaced(settings: Json, key: str, name: str, row: Json) -> Json:
    """Return settings with another row in the place of a network or an alias.

    :raises RequestRefused: it is not there.
    """
    named(settings, key, name)
    return {**settings, key: [row if _host(one["address"]) == name else one for one in settings[key]]}


def added(settings: Json, key: str, rows: Sequence[Json]) -> Json:
    """Return settings with more rows.

    :raises ChecksFailed: there would be too many.
    """
    found = [*settings.get(key, []), *rows]
    if len(found) > _MOST[key]:
        raise ChecksFailed([Finding("count", _("There can be %(n)s at most.", n=_MOST[key]), _("Remove some."), key)])
    return {**settings, key: found}


def removed(settings: Json, names: Sequence[str]) -> Json:
    """Return settings without what has these names (see :class:`Entry`).

    :raises RequestRefused: one of them is not there.
    """
    wanted = {name.strip() for name in names}
    known = {one.name for one in entries(settings)}
    if unknown := wanted - known:
        raise RequestRefused(
            _("There is no network, alias or route %(name)s.", name=min(unknown)[:60]), _("Look at the list again."))
    rest: Json = {**settings}
    for key in (key for key in shared_networks.KEYS if key in settings):
        rest[key] = [
            one for one in settings[key]
            if (one["destination"] if key == "routes" else _host(one["address"])) not in wanted
        ]
    return rest


def _advertised(advertise: str, dns: str) -> Json:
    if advertise not in shared_networks.ADVERTISE:
        raise ValueError(_("Choose one of those that are offered."))
    return {
        **({"advertise": advertise} if advertise else {}),
        **({"dns": str(fields.reference(dns))} if dns.strip() else {}),
    }


def _host(address: str) -> str:
    return address.partition("/")[0]


def _port(text: str) -> str:
    text = text.strip()
    if not text:
        raise ValueError(_("Choose a port."))
    return text


def _words(text: str) -> str:
    text = " ".join(text.split())
    if len(text) > shared_networks.MAX_WORDS or not text.isprintable():
        raise ValueError(_("At most %(n)s characters that can be printed.", n=shared_networks.MAX_WORDS))
    return text
