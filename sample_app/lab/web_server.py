"""gunicorn's configuration in the lab: one worker with few threads, none of which a slow sender holds for long.

A thread takes in a request as a whole and sends its answer; gunicorn bounds neither. A guest that sends half a request,
or a client whose virtual IP has moved meanwhile, would hold the thread for ever: four of them, and the other gateway's
requests are answered no more. A firmware has a web server in front that takes in requests as a whole
(docs/installation.md).
"""

from __future__ import annotations

import socket
import struct
from typing import Any

workers, threads = 1, 4
#: A sender that is silent for so long in the midst of a request is cut off, as is a receiver that takes nothing, s.
STALLED_S = 5


def when_ready(server: Any) -> None:
    """Bound each blocking read and write of the connections to come: they inherit it from the socket that listens."""
    limit = struct.pack("ll", STALLED_S, 0)
    for listener in server.LISTENERS:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            listener.sock.setsockopt(socket.SOL_SOCKET, option, limit)
