"""Signals for the host, sent with the Flask app as sender after the agent has done what was asked.

They are sent by the process in which the operator asked (a web worker or the CLI). What the agent decides
by itself, such as a take-over, is in its events.
"""

from __future__ import annotations

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
