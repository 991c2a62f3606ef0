"""Short-lived processes that send one message each: TLS, names and slow servers are not for the agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from typing import Any, BinaryIO

from ...network.clock import boot_time_s
from ...notify.texts import Message
from ...settings.notify import Target

#: A process that has not ended by then is ended, s; it gives up by itself before.
MOST_S = 30.0
#: Of what it prints that much is read, bytes.
OUTPUT_MOST = 16384
#: util-linux's: what talks to the outside has none of the agent's capabilities.
BARE = ("setpriv", "--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all", "--")


class Sending:
    """A message on its way.

    :raises OSError: the process cannot be started.
    """

    def __init__(self, target: Target, message: Message) -> None:
        self.message = message
        self._began_at = boot_time_s()
        self._output = _in_memory()
        try:
            with _in_memory() as request:  # a pipe could fill, and nobody is to wait for it
                request.write(json.dumps({"target": target.as_dict(), "message": message.as_dict()}).encode())
                request.seek(0)
                self._process = subprocess.Popen(
                    [*BARE, sys.executable, "-m", "flask_hsmx_cluster.notify"], stdin=request, stdout=self._output,
                    start_new_session=True,
                )  # fmt: skip
        except BaseException:
            self._output.close()
            raise

    def result(self) -> tuple[bool, str] | None:
        """Return whether the message has arrived and what the server said; None: it is still on its way."""
        if self._process.poll() is None:
            if boot_time_s() - self._began_at < MOST_S:
                return None
            self.end()
        if self._output.closed:
            return False, "Sending took too long."
        with self._output:
            self._output.seek(0)
            return _read(self._output.read(OUTPUT_MOST))

    def wait(self) -> tuple[bool, str]:
        """Wait for the result, and return it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(MOST_S)
        result = self.result()
        return (False, "Sending took too long.") if result is None else result

    def end(self) -> None:
        """End the process, if it has not ended."""
        self._process.kill()
        self._process.wait()
        self._output.close()


def _in_memory() -> BinaryIO:
    """Return a file that is on no disk: a password is in what is sent."""
    return os.fdopen(os.memfd_create("hsmx-cluster-notify"), "w+b")


def _read(output: bytes) -> tuple[bool, str]:
    try:
        found: dict[str, Any] = json.loads(output)
        return found["ok"] is True, str(found["answer"])[:1000]
    except (ValueError, KeyError, TypeError):
        return False, "The process that sends has failed; see the agent's log."

