"""Signals for the host, sent with the Flask app as sender.

What an operator asked for is signalled, once it is done, by the process in which it was asked (a web worker or the
CLI). What happens by itself is in the agent's events; ``flask cluster watch``, or
:meth:`.HSMXCluster.send_events` called by the host, sends a signal for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blinker import Namespace

_signals = Namespace()

#: New settings are in force or on their way to the other gateway. Keyword: ``revision`` (int).
settings_saved = _signals.signal("settings-saved")

#: An operator's fail-over is done. Keywords: ``to`` (name of the gateway now active), ``took_ms`` (float).
failover_requested = _signals.signal("failover-requested")

#: This gateway has joined a cluster. Keyword: ``peer`` (name of the other gateway).
joined = _signals.signal("joined")

#: This gateway has left its cluster. Keyword: ``peer_informed`` (bool).
left = _signals.signal("left")

#: The dead other gateway is forgotten. Keyword: ``replaced`` (its name).
replaced = _signals.signal("replaced")

#: A change of the quarantine was made again on the active gateway. Keywords: ``row_id``, ``node`` (id: where it lies).
quarantine_reapplied = _signals.signal("quarantine-reapplied")

#: Changes of the quarantine were discarded. Keywords: ``discarded`` (how many), ``node`` (where they lie).
quarantine_discarded = _signals.signal("quarantine-discarded")

#: A request's write was refused because this gateway stands by. Keyword: ``active`` (URLs of the active one).
write_refused = _signals.signal("write-refused")

# What happens by itself. Each has the keywords of an event: ``kind``, ``severity``, ``text``, ``evidence`` (list),
# ``at`` (ISO), ``node`` (name of the gateway that recorded it), ``id`` (int).

#: Any event; the ones below are sent besides.
event_recorded = _signals.signal("event-recorded")

#: This gateway became active, or passive.
became_active = _signals.signal("became-active")
became_passive = _signals.signal("became-passive")

#: Writes are confirmed by the active gateway alone, or by both again.
data_degraded = _signals.signal("data-degraded")
data_synchronous = _signals.signal("data-synchronous")

#: This gateway serves although its data may be older than the other one's.
data_stale = _signals.signal("data-stale")

#: The first copy has begun, or is complete.
copy_begun = _signals.signal("copy-begun")
copy_done = _signals.signal("copy-done")

#: This gateway has caught up after an absence; ``evidence`` has the figures.
rejoined = _signals.signal("rejoined")

#: Something that this gateway wrote went to quarantine.
quarantined = _signals.signal("quarantined")

#: The data of both gateways was compared: it is the same, or differs.
verified = _signals.signal("verified")
verify_differs = _signals.signal("verify-differs")

#: This gateway's own addresses were changed in the section *Network interface*; ``evidence`` names them by port.
own_addresses_changed = _signals.signal("own-addresses-changed")

#: By kind of event: the signal of its own.
BY_KIND = {
    "active": became_active,
    "passive": became_passive,
    "degraded": data_degraded,
    "synchronous": data_synchronous,
    "data_stale": data_stale,
    "own_addresses": own_addresses_changed,
    "copy_begun": copy_begun,
    "copy_done": copy_done,
    "rejoined": rejoined,
    "quarantined": quarantined,
    "verified": verified,
    "verify_differs": verify_differs,
}


def send_event(sender: Any, event: Mapping[str, Any]) -> None:
    """Send the signals of one event."""
    event_recorded.send(sender, **event)
    own = BY_KIND.get(event["kind"])
    if own is not None:
        own.send(sender, **event)
