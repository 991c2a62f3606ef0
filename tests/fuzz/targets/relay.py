"""The two public endpoints of the web app: any request, as far as a server lets it through."""

from __future__ import annotations

import tempfile
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from unittest import mock

from flask import Flask

from flask_hsmx_cluster import HSMXCluster
from flask_hsmx_cluster.control import MAX_MESSAGE
from flask_hsmx_cluster.errors import RequestRefused

from ..target import Broken, Target

_TYPES = ("application/octet-stream", "application/octet-stream; charset=x", "text/plain", "", "application/json")
_LENGTHS = ("", "0", "-1", "x", str(MAX_MESSAGE + 1), "9" * 40)


class Fuzzed(Target):
    name = "relay"
    longest = 2048

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        app = Flask("firmware")
        app.config.update(
            SECRET_KEY="x", HSMX_CLUSTER_STATE_DIR=self._directory.name, HSMX_CLUSTER_FIRMWARE_VERSION="5.2.03"
        )
        HSMXCluster(app, permission=lambda action: False)
        self._app, self._asked = app, list[Any]()
        self._agent = mock.patch("flask_hsmx_cluster.web.peer.state", lambda: SimpleNamespace(call=self._call))
        self._agent.start()

    def _call(self, verb: str, **arguments: Any) -> Any:
        self._asked.append(arguments)
        if len(self._asked[-1]["message"]) % 5 == 0:
            raise RequestRefused("no")
        return {"message": self._asked[-1]["message"]}

    def seeds(self) -> list[bytes]:
        return [bytes((0, 0, 0)) + b"HSMs" + bytes(99), bytes((1, 0, 5)) + b"HSMp", bytes((0, 2, 1)), b"\0\1\2x"]

    def take(self, data: bytes) -> bool:
        how, body = data[:3].ljust(3, b"\0"), data[3:]
        length = _LENGTHS[how[2] % len(_LENGTHS)] if how[2] else str(len(body))
        path = ("/pair", "/peer")[how[0] & 1]
        status: list[str] = []
        environ = {
            "REQUEST_METHOD": "POST", "PATH_INFO": f"/network/cluster{path}", "SERVER_NAME": "x", "SERVER_PORT": "80",
            "CONTENT_TYPE": _TYPES[how[1] % len(_TYPES)], "CONTENT_LENGTH": length, "wsgi.input": BytesIO(body),
            "wsgi.url_scheme": "http", "REMOTE_ADDR": "10.9.0.2", "SERVER_PROTOCOL": "HTTP/1.1",
            "QUERY_STRING": body[:20].decode("latin1"), "wsgi.errors": BytesIO(),
        }  # fmt: skip
        self._asked.clear()
        answer = b"".join(self._app.wsgi_app(environ, lambda code, headers, *_more: status.append(code)))  # type: ignore[arg-type]
        code = int(status[0][:3])
        if code >= 500:
            raise Broken(f"the web app answered {code}")
        if code != 200 and answer:
            raise Broken("a refusal is answered with no text")
        return code == 200

    def close(self) -> None:
        self._agent.stop()
        self._directory.cleanup()
