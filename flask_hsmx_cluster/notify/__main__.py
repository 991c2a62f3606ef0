"""``python -m flask_hsmx_cluster.notify``: send one message and end. The agent, which has no TLS, starts it.

A line of JSON comes in (``target``, ``message``) and one goes out (``ok``, ``answer``).
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from typing import Any

from ..errors import ClusterError
from ..settings.notify import Target
from . import mail, syslog, webhook
from .delivery import ALL_S, DeliveryFailed
from .texts import Message

#: What a server's answers may take of the memory, bytes.
MEMORY = 512 * 1024 * 1024
_WAYS = {"mail": mail.send, "webhook": webhook.send, "syslog": syslog.send}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Send a message and return how it went."""
    try:
        target, message = Target.from_dict(request["target"]), Message.from_dict(request["message"])
        return {"ok": True, "answer": _WAYS[target.kind](target, message)}
    except ClusterError as error:
        return {"ok": False, "answer": f"{error.message} {error.remedy}".strip()}
    except Exception as error:
        return {"ok": False, "answer": f"It could not be sent: {type(error).__name__}."}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(ALL_S)
    print(json.dumps(answer(json.load(sys.stdin))))


def _too_late(*_: object) -> None:
    raise DeliveryFailed(f"The server kept us waiting for more than {ALL_S} s.", "Is it reachable from this gateway?")


if __name__ == "__main__":
    main()
