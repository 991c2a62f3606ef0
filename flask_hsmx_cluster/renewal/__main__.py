"""``python -m flask_hsmx_cluster.renewal``: look at one certificate and end. The agent, which has no TLS, starts it.

A line of JSON comes in (``host``, ``port``) and one goes out (``certificate``, or ``problem``).
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from typing import Any

from ..errors import ClusterError
from .look import look

#: What a server's answer may take of the memory, bytes.
MEMORY = 512 * 1024 * 1024
#: Longest time for all of it, s.
ALL_S = 5


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Look, and return what was seen."""
    try:
        return {"certificate": look(request["host"], request["port"]).as_dict()}
    except ClusterError as error:
        return {"problem": error.message}
    except Exception as error:
        return {"problem": f"looking failed ({type(error).__name__})"}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.alarm(ALL_S)
    print(json.dumps(answer(json.load(sys.stdin))))


if __name__ == "__main__":
    main()
