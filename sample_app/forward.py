"""TCP ports of this machine's loopback, forwarded to addresses inside the lab.

The listening socket is this machine's, the connecting one is the lab client's: nothing is routed, and no rule of
this machine's network is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from dataclasses import dataclass

from .lab import LabError, Namespace

#: Connections under way at once, over all forwarded ports.
MAX_CONNECTIONS = 128
#: How long a gateway may take to accept a connection, s; and to acknowledge what was sent, ms.
CONNECT_S = 2.0
ACKNOWLEDGE_MS = 3000
#: After this long without a byte in either direction a connection is closed, s.
IDLE_S = 60.0

_SORRY = """HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n\r\n\
<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="2"><meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,"><title>No answer</title></head>
<body style="font:1.125rem/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem">
<h1 style="font-size:1.5rem">{what} does not answer</h1>
<p>It may be powered off or cut off, or nobody holds the address. This page tries again every two seconds.</p>
</body></html>
"""


@dataclass(frozen=True)
class Target:
    """Where a forwarded port leads.

    :param what: what people call it.
    """

    what: str
    address: str
    port: int = 80


class Forwarder:
    """Forwards ports; runs in a thread of its own between ``start`` and ``close``.

    :param client: the namespace from which connections are made.
    :param targets: by port of 127.0.0.1.
    """

    def __init__(self, client: Namespace, targets: dict[int, Target]) -> None:
        self._client = client
        self._targets = targets
        self._open = 0
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="forwarder", daemon=True)

    def start(self) -> None:
        """Listen on every port.

        :raises OSError: one of them is taken.
        """
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def close(self) -> None:
        """End all connections, and the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        for port, target in self._targets.items():

            async def serve(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target = target
            ) -> None:
                # Ended by close(): asyncio would log a cancelled connection as an error.
                with contextlib.suppress(asyncio.CancelledError):
                    await self._serve(target, reader, writer)

            self._servers.append(await asyncio.start_server(serve, "127.0.0.1", port))

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= MAX_CONNECTIONS:
            writer.close()
            return
        self._open += 1
        try:
            try:
                far_reader, far_writer = await asyncio.wait_for(self._connect(target), CONNECT_S)
            except (OSError, TimeoutError, LabError):
                await self._apologise(target, reader, writer)
                return
            with contextlib.closing(far_writer):
                await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        except OSError:
            pass  # One side is gone; closing the other says so.
        finally:
            self._open -= 1
            writer.close()

    async def _connect(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connection = self._client.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, ACKNOWLEDGE_MS)
            await self._loop.sock_connect(connection, (target.address, target.port))
            return await asyncio.open_connection(sock=connection)
        except BaseException:
            connection.close()
            raise

    @staticmethod
    async def _apologise(target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # What the browser asked is read first: else closing would be a reset, and it would show its own error.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(65536), 1)
        writer.write(_SORRY.format(what=target.what).encode())
        await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await asyncio.wait_for(reader.read(65536), IDLE_S):
            writer.write(data)
            await writer.drain()
    except TimeoutError:
        pass
    # The other direction may go on: a client may have said all and still wait for the answer.
    if writer.can_write_eof():
        writer.write_eof()
