"""The agent's end of the replicator: what is too long harms one question, and not all that come after it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from flask_hsmx_cluster import agent_line
from flask_hsmx_cluster.agent import child
from flask_hsmx_cluster.agent.data.replicator import ReplicatorDown, ReplicatorLink
from flask_hsmx_cluster.agent_line import Line
from flask_hsmx_cluster.errors import ClusterError, RequestRefused


class Linked:
    """A link and the far ends of its sockets; ``answer`` is what is written to the next question."""

    def __init__(self) -> None:
        self.link = ReplicatorLink()
        self.link._prompt, self.prompt = socket.socketpair()
        self.link._patient, self.patient = socket.socketpair()
        self.line = Line(self.patient.detach())

    def answer_once(self, **answer: object) -> threading.Thread:
        def serve() -> None:
            message = self.line.read()
            assert message is not None
            self.line.write({"id": message["id"], "verb": message["verb"], **answer})

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        return thread


@pytest.fixture
def linked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Linked]:
    for module in (child, agent_line):
        monkeypatch.setattr(module, "LONGEST_LINE", 100_000)
    linked = Linked()
    yield linked
    linked.link.stop()
    linked.prompt.close()
    linked.line._file.close()
    linked.line._socket.close()


def test_an_answer_that_is_too_long_is_told_as_such_and_the_next_question_is_answered(linked: Linked) -> None:
    for size, fits in ((200_000, False), (10, True)):
        thread = linked.answer_once(ok=True, result={"rows": "x" * size})
        if fits:
            assert linked.link.ask("quarantine") == {"rows": "x" * size}
        else:
            with pytest.raises(ClusterError, match="too long"):
                linked.link.ask("quarantine")
        thread.join()


def test_a_question_that_is_too_long_never_reaches_the_replicator_which_would_end(linked: Linked) -> None:
    with pytest.raises(RequestRefused, match="too much"):
        linked.link.ask("make", request="x" * 200_000)
    thread = linked.answer_once(ok=True, result={"made": True})
    assert linked.link.ask("make", request="x") == {"made": True}
    thread.join()


def test_a_socket_that_is_of_no_use_any_more_has_the_replicator_started_again(linked: Linked) -> None:
    def flood() -> None:
        linked.line.read()
        with suppress(OSError):  # nobody takes all of it
            linked.line._socket.sendall(json.dumps({"id": 0, "rows": "x" * 500_000}).encode() * 2)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    with pytest.raises(ReplicatorDown):
        linked.link.ask("look")
    assert linked.link._patient is None and not linked.link.alive()
    thread.join(5)


def test_an_agent_that_ends_with_answers_unread_has_gone_all_the_same() -> None:
    """The kernel then says that the connection was reset, and not that it has ended."""
    ours, theirs = socket.socketpair()
    line = Line(theirs.detach())
    line.write({"event": "failed"})
    ours.close()
    assert line.read() is None
    line._file.close()
    line._socket.close()
