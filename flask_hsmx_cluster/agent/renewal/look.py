"""Has a short-lived process look at a certificate: the agent has no TLS."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

from ...errors import RequestRefused
from ...renewal.certificate import Certificate
from ..notify.sender import BARE

#: A process that has not ended by then is ended, s; it gives up by itself before.
MOST_S = 8.0
#: To a port on this machine a connection is there at once, s.
CONNECT_S = 1.0


def look(where: str) -> Certificate:
    """Return the certificate that a server shows.

    :param where: address and port.
    :raises RequestRefused: none is seen; the message is no whole sentence.
    """
    host, _, port = where.rpartition(":")
    host = host.strip("[]")
    try:  # as long as nobody listens no process is worth its start
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except OSError as error:
        raise RequestRefused(f"nothing answers on {where} ({error.strerror or 'in time'})") from None
    try:
        done = subprocess.run(
            [*BARE, sys.executable, "-m", "flask_hsmx_cluster.renewal"], capture_output=True, timeout=MOST_S,
            input=json.dumps({"host": host, "port": int(port)}).encode(), check=False, start_new_session=True,
        )  # fmt: skip
        found = json.loads(done.stdout)
        if "problem" in found:
            raise RequestRefused(str(found["problem"])[:120])
        return Certificate.from_dict(found["certificate"])
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        raise RequestRefused("the process that looks has failed") from None
