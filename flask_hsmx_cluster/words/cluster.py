"""The agent's status in plain words, for the page and for the CLI alike.

Each function takes the result of the verb ``status`` and decides nothing: it only says what the agent said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..settings.model import STALE_WAIT_S
from ..translate import gettext as _
from ..translate import ngettext

#: What controls a terminal, breaks a line, or turns the direction of what follows; and halves of characters.
_ACTING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

#: The one sentence that this version owes every operator.
DATA_NOTICE = (
    "This version moves addresses only. Guests, vouchers, settings and files are not replicated to the other "
    "gateway yet."
)

#: What it owes them where the database is shared.
FILES_NOTICE = "The database is shared. Files are not replicated to the other gateway yet."

#: What a host without PostgreSQL is told beside what would be shared.
NOT_POSTGRESQL = "The database is not PostgreSQL, so that nothing of it is replicated. This is what would be shared."

#: Sign and words for what is shared: of a table, or of a field.
SHARED = {
    "shared": ("⇄", "shared"),
    "bulk": ("⇢", "bulk: shared, may lag"),
    "local": ("⌂", "local: each gateway has its own"),
    "mirrored": ("⇋", "mirrored: own and other swapped"),
    "computed": ("=", "computed"),
}


def visible(text: str) -> str:
    r"""Return a guest's text with what would act on a terminal, or turn a line around, written as ``\u001b``."""
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shared(kind: str) -> str:
    """Return in words what is shared of a table or field."""
    return _(SHARED[kind][1])


def table_count(counts: Mapping[str, int]) -> str:
    """Return how many tables are shared: ``9 shared, 1 bulk, 7 local; 2 of them not declared``."""
    text = _("%(shared)s shared, %(bulk)s bulk, %(local)s local", **counts)
    return text + (_("; %(not_declared)s of them not declared", **counts) if counts["not_declared"] else "")


def duration(seconds: float | None) -> str:
    """Return a length of time in its two largest units: ``3 days 4 h``, ``2 min 5 s``, ``12 s``."""
    if seconds is None:
        return "–"
    if 0 <= seconds < 1:
        return _("less than 1 s")
    left = max(0, int(seconds))
    days, left = divmod(left, 86400)
    hours, left = divmod(left, 3600)
    minutes, left = divmod(left, 60)
    if days:
        text = ngettext("1 day", "%(n)s days", days)
        return f"{text} {hours} h" if hours else text
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if minutes:
        return f"{minutes} min {left} s" if left else f"{minutes} min"
    return f"{left} s"


def milliseconds(value: float | None) -> str:
    """Return a short time: ``0.3 ms``, ``45 ms``, ``2.1 s``."""
    if value is None:
        return "–"
    if value < 10:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 1000 else duration(value / 1000)


def size(count: int) -> str:
    """Return a number of bytes in PostgreSQL's units: ``512 B``, ``16 MB``, ``1.5 GB``."""
    value, unit = float(max(0, count)), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"


def notice(status: dict[str, Any]) -> str:
    """Return what is not replicated."""
    return _(DATA_NOTICE if status["data"] is None else FILES_NOTICE)


def join(items: Sequence[str]) -> str:
    """Return ``a``, ``a and b``, or ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return _("%(several)s and %(last)s", several=", ".join(items[:-1]), last=items[-1])


def addresses(status: dict[str, Any]) -> str:
    """Return the shared addresses without prefix length, joined."""
    return join([bare(vip["address"]) for vip in status["virtual_ips"]])


def bare(address: str) -> str:
    """Return an address without its prefix length."""
    return address.partition("/")[0]


def role(name: str) -> str:
    """Return the word for a role."""
    return {
        "active": _("Active"), "passive": _("Standing by"), "standalone": _("Alone"), "unknown": _("Not heard"),
    }.get(name, name)


def headline(status: dict[str, Any]) -> str:
    """Return the one sentence that says what this gateway does."""
    here, peer, shared = status["node"], status["peer"], addresses(status)
    if status["cluster"] is None:
        return _("This gateway works alone: it is not in a cluster.")
    if here["role"] == "active":
        return _("This gateway is active: it answers on %(addresses)s.", addresses=shared)
    if here["role"] == "passive" and peer is not None and peer["role"] == "active":
        return _("This gateway stands by. %(peer)s is active: it answers on %(addresses)s.",
                 peer=peer["name"], addresses=shared)
    if here["role"] == "passive":
        return _("This gateway stands by and does not answer on %(addresses)s.", addresses=shared)
    if here["role"] == "standalone":
        return _("This gateway is in a cluster, but its settings are not in force here.")
    return _("This gateway is in a cluster, but has no role yet.")


def other(status: dict[str, Any]) -> str:
    """Return the sentence about the other gateway; empty outside a cluster."""
    peer = status["peer"]
    if status["cluster"] is None:
        return ""
    if peer is None and status["node"]["role"] == "standalone":
        return ""
    if peer is None:
        return _("The other gateway has not joined yet: nothing stands by.")
    if peer["role"] == "unknown":
        return _("The other one, %(peer)s, is not heard.", peer=peer["name"])
    if peer["maintenance"]:
        return _("The other one, %(peer)s, is in maintenance and does not take over.", peer=peer["name"])
    if status["node"]["role"] == "active" and peer["role"] == "active":
        return _("The other one, %(peer)s, says that it is active too.", peer=peer["name"])
    if status["node"]["role"] == "active":
        return _("The other one, %(peer)s, stands by.", peer=peer["name"])
    if peer["role"] == "active":
        return _("If it fails, this gateway takes over by itself.") if status["readiness"]["ready"] else ""
    return _("The other one, %(peer)s, stands by too.", peer=peer["name"])


def because(status: dict[str, Any]) -> str:
    """Return since when and why this gateway does what it does; empty outside a cluster."""
    here = status["node"]
    if status["cluster"] is None:
        return ""
    time, why = duration(here["since_s"]), here["why"].rstrip(".")
    if why == "has just started":
        text = _("For %(time)s, since it started.", time=time)
    else:
        text = _("For %(time)s: %(why)s.", time=time, why=why) if why else _("For %(time)s.", time=time)
    if here["phase"] in ("leading", "following"):
        return text
    return f"{text} {_('It %(does)s.', does=here['phase_text'].rstrip('.'))}"


def path_state(state: str) -> str:
    """Return the word for a path's state."""
    return {"up": _("works"), "down": _("cut"), "unknown": _("not known")}.get(state, state)


def reading(name: str) -> str:
    """Return the words for what was read on the wire about a shared address."""
    return {
        "held": _("held here"), "answered": _("the other gateway answers"), "silent": _("nobody answers"),
        "blind": _("cannot be told from here"), "no_carrier": _("no cable"),
        "conflict": _("somebody else answers"),
    }.get(name, name)


def event_kind(kind: str) -> str:
    """Return what people call a kind of event; one of a later version as well as it can be read."""
    known = {
        "active": _("Became active"), "passive": _("Became passive"), "both_active": _("Both were active"),
        "double": _("Address held twice"), "hold": _("Hold"), "hold_ended": _("End of a hold"), "wait": _("Wait"),
        "handover_failed": _("Failed hand-over"), "late": _("Late agent"), "stall": _("Stall"),
        "peer_lost": _("Other gateway lost"), "peer_back": _("Other gateway back"),
        "peer_stopped": _("Other gateway stopped"), "maintenance": _("Maintenance"), "conflict": _("Address conflict"),
        "data_late": _("Late database"), "data_not_writable": _("Database not writable"),
        "data_stale": _("Data may be older"), "degraded": _("Writes confirmed by one gateway"),
        "synchronous": _("Writes confirmed by both"), "copy_begun": _("First copy begun"),
        "copy_done": _("First copy complete"), "follow_failed": _("Data not followed"), "rejoined": _("Caught up"),
        "quarantined": _("Quarantine"), "reapplied": _("Made again from quarantine"),
        "discarded": _("Discarded from quarantine"), "restored": _("Taken back into quarantine"),
        "aside_deleted": _("Deleted what was put aside"), "files_aside": _("Files kept aside"),
        "files_allowed": _("Deletions of files allowed"), "verified": _("Data compared: equal"),
        "verify_differs": _("Data compared: differs"), "verify_failed": _("Data not compared"),
        "replaced": _("Other gateway replaced"), "services_late": _("Late services"),
        "pppoe_up": _("PPPoE connected"), "pppoe_down": _("PPPoE ended"), "pppoe_command": _("PPPoE: an operator"),
        "clone": _("Copied identity"), "clone_alive": _("Copied identity"), "foreign_machine": _("Copied identity"),
        "created": _("Cluster created"), "joined": _("Joined"), "left": _("Left"),
        "pairing_attempt": _("Failed pairing"), "settings": _("Settings"), "settings_pending": _("Settings"),
        "settings_refused": _("Settings"), "settings_conflict": _("Conflict of settings"),
        "applied": _("Settings in force"), "apply_failed": _("Settings not in force"),
        "restore_failed": _("Settings not in force"), "mended": _("Address mended"),
        "own_addresses": _("Own addresses changed"), "own_addresses_restored": _("Own addresses set again"),
        "own_addresses_failed": _("Own addresses not set"),
        "mend_failed": _("Address not mended"), "release_failed": _("Address not released"),
        "renew_failed": _("Lease not renewed"), "clock_step": _("Clock set"), "term_not_on_disk": _("Disk"),
        "terms_not_reserved": _("Disk"),
        "reign_not_remembered": _("Memory"), "reign_not_forgotten": _("Memory"), "certificate": _("New certificate"),
        "restart": _("Agent restart"), "peer_restarts": _("Agent restart"), "restart_refused": _("No agent restart"),
        "terms_used_up": _("No numbers left"), "store_repaired": _("Memory begun anew"),
        "data_not_kept": _("Writes refused for a moment"),
        "renewal_begun": _("Renewal begun"), "renewal_ended": _("Renewal ended"),
    }.get(kind)
    if known is not None:
        return known
    if kind.startswith("alarm_"):
        return _("Alarm: %(what)s", what=_alarm_subject(kind.removeprefix("alarm_")))
    return kind.replace("_", " ").strip().capitalize() or _("Event")


def _alarm_subject(key: str) -> str:
    subject, _underscore, name = key.partition("_")
    about = {
        "path": _("heartbeats over %(name)s", name=link_name(name)),
        "loss": _("loss on %(name)s", name=link_name(name)),
        "carrier": _("carrier of %(name)s", name=name),
        "unseen": _("virtual IP on %(name)s", name=name),
        "conflict": _("address conflict on %(name)s", name=name),
    }
    if name and subject in about:
        return about[subject]
    if subject in ("schema", "table", "column"):
        return _("shared tables")
    if subject == "peer" and name:
        return _("other gateway, %(what)s", what=_alarm_subject(name))
    return {
        "peer": _("other gateway"), "clone": _("copied identity"), "reference": _("reference addresses"),
        "disk": _("disk"), "database": _("database"), "hold": _("no heartbeats"),
        "restart": _("the other gateway's agent restarts"),
        "stale": _("data may be older"), "stale_wait": _("waits: data may be older"),
        "degraded": _("writes confirmed by one gateway only"), "wal_kept": _("WAL kept for the other gateway"),
        "apply_stopped": _("changes that cannot be stored"), "not_following": _("the other gateway is not followed"),
        "scopes_differ": _("what is shared"), "data_problem": _("database"), "database_disk": _("disk"),
    }.get(key, key.replace("_", " "))


def unprobed(count: int) -> str:
    """Return what to know of new addresses that were saved without a look at the network."""
    return _("%(n)s of the new addresses were not looked for on the network: there are too many at once. If another "
             "machine has one of them, an alarm will say so.", n=count)


def failover_plan(status: dict[str, Any]) -> list[str]:
    """Return what a fail-over will do, step by step, before it is done."""
    peer, shared = status["peer"], addresses(status)
    if peer is None:
        return [_("Nothing: no other gateway has joined this cluster.")]
    here = status["node"]["name"]
    giver, taker = (here, peer["name"]) if status["node"]["role"] == "active" else (peer["name"], here)
    return [
        _("%(giver)s gives up %(addresses)s and stands by.", giver=giver, addresses=shared),
        _("%(taker)s takes %(addresses)s over and becomes active.", taker=taker, addresses=shared),
        _("Guests notice a pause of a few milliseconds, if anything."),
        _("It stays that way: nothing moves back by itself."),
    ]


def maintenance_plan(status: dict[str, Any]) -> list[str]:
    """Return what switching maintenance on will do."""
    plan = []
    if status["node"]["role"] == "active" and status["peer"] is not None:
        plan.append(_("This gateway hands %(addresses)s over to %(peer)s first.",
                      addresses=addresses(status), peer=status["peer"]["name"]))
    return [
        *plan,
        _("Until maintenance ends, this gateway does not take over. If the other one fails, guests are offline."),
        _("It ends by itself after the time you choose, even after a restart."),
    ]


def left(status: dict[str, Any], peer_informed: bool) -> str:
    """Return what to say after leaving; the status is the one from before."""
    text = _("This gateway has left the cluster.")
    if status["peer"] is None or peer_informed:
        return text
    return f"{text} {_('%(peer)s does not know yet: leave there too.', peer=status['peer']['name'])}"


def leave_plan(status: dict[str, Any]) -> list[str]:
    """Return what leaving the cluster will do."""
    peer = status["peer"]
    if peer is None:
        return [
            _("This gateway gives up %(addresses)s. Nobody answers there any more.", addresses=addresses(status)),
            _("Its cluster settings are removed."),
        ]
    return [
        _("%(peer)s goes on alone with %(addresses)s; if this gateway is active, it hands over first.",
          peer=peer["name"], addresses=addresses(status)),
        _("The cluster settings and the cluster's key are removed from this gateway."),
        _("From then on nothing stands by for %(peer)s. To come back, join again with a new code.",
          peer=peer["name"]),
    ]


def replace_plan(status: dict[str, Any]) -> list[str]:
    """Return what replacing the other gateway will do."""
    peer = status["peer"]["name"]
    return [
        _("This gateway forgets %(peer)s, and the cluster gets a new key: %(peer)s cannot come back by itself, even if "
          "somebody switches it on.", peer=peer),
        _("This gateway keeps its settings, the virtual IPs and the data, and goes on serving alone."),
        _("What only %(peer)s had is gone with it.", peer=peer),
        _("You are shown a pairing code. On the new machine choose “Join a cluster” and enter it; its data is then "
          "copied from here."),
    ]


def rows(settings: dict[str, Any]) -> dict[str, str]:
    """Return settings as labelled lines, for the CLI and for comparing two revisions."""
    names = {node["node_id"]: node["name"] for node in settings["nodes"]}
    lines: dict[str, str] = {}
    for number, vip in enumerate(settings["virtual_ips"], 1):
        ticks = [text for key, text in (("off_subnet", _("outside the port's subnet")),
                                        ("virtual_mac", _("virtual MAC"))) if vip.get(key)]
        lines[_("Virtual IP %(n)s", n=number)] = ", ".join(
            [_("%(address)s on %(port)s", address=vip["address"], port=vip["port"]), *ticks])
    for link in settings["links"]:
        for node_id, end in link["ends"].items():
            label = f"{link_name(link['kind'])}, {names.get(node_id) or _('this gateway')}"
            lines[label] = _("%(address)s on %(port)s", address=end["address"], port=end["port"])
    for network in settings.get("networks", []):
        lines[_("Network %(name)s", name=network.get("name") or network["address"])] = _(
            "%(address)s on %(port)s", address=network["address"], port=network["port"])
    if aliases := settings.get("aliases"):
        lines[_("IP aliases")] = str(len(aliases))
    for route in settings.get("routes", []):
        lines[_("Route to %(network)s", network=route["destination"])] = _("via %(router)s", router=route["via"])
    for one in settings.get("pppoe", []):
        text = _("%(user)s on %(port)s", user=one["user"], port=one["port"])
        lines[_("PPPoE %(name)s", name=one["name"])] = text if one["enabled"] else f"{text}, {_('switched off')}"
    for one in settings.get("notify", []):
        label = _("Notification %(name)s", name=one["name"])
        lines[label] = one["address"] if one["enabled"] else f"{one['address']}, {_('switched off')}"
    for one in settings.get("interfaces", []):
        for node_id, addresses in one["addresses"].items():
            name = names.get(node_id) or _("this gateway")
            words = [*addresses, *([_("the networks may differ")] if one.get("apart") else [])]
            lines[_("Own addresses on %(port)s, %(name)s", port=one["port"], name=name)] = ", ".join(words)
    advanced = settings["advanced"]
    lines |= {
        _("Heartbeat interval"): f"{advanced['heartbeat_ms']} ms",
        _("Ping pongs"): str(advanced["ping_pongs"]),
        _("Lease"): f"{advanced['lease_s']} s",
        _("Boot hold"): f"{advanced['boot_hold_s']} s",
        _("Announcement refresh"): f"{advanced['announce_refresh_s']} s",
        _("Wait with older data"): stale_wait(advanced.get("stale_wait_s", STALE_WAIT_S[1])),
        _("References"): ", ".join(advanced["references"]) or _("none"),
    }
    return lines


def stale_wait(seconds: int | None) -> str:
    """Return how long a gateway that starts alone waits if its data may be older."""
    return _("does not serve by itself") if seconds is None else duration(seconds) if seconds else _("none")


def _aliases(settings: dict[str, Any]) -> dict[str, str]:
    return {
        _("IP alias %(address)s", address=alias["address"]): ", ".join(filter(None, (alias["port"], alias.get("note"))))
        for alias in settings.get("aliases", [])
    }


def link_name(kind: str) -> str:
    """Return what people call a kind of link."""
    return {"sync": _("Synchronisation"), "backup": _("Backup"), "service": _("Service network")}.get(kind, kind)


def compare(mine: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return label, mine and theirs of every line of two revisions; ``–`` where one has no such line."""
    left, right = ({**rows(each), **_aliases(each)} for each in (mine, theirs))
    alike = [label for label in _aliases(mine) if left[label] == right.get(label)]
    for label in alike:  # a thousand that both have would hide the few that differ
        del left[label], right[label]
    return [(label, left.get(label, "–"), right.get(label, "–")) for label in {**left, **right}]
