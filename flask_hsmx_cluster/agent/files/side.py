"""This gateway's files as the agent tends them: who pulls what from whom, whether both have the same, and what people
are shown.

The active gateway tells at once what has changed; the passive one pulls it. On a period, and whenever the digests of
both differ, the passive one looks at everything.
"""

from __future__ import annotations

import logging
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...errors import ClusterError, PeerUnavailable, RequestRefused
from ...files.declare import Files, Tree
from ...files.plan import DELETIONS_MOST, DELETIONS_PART
from ...files.way import Way, way
from ...network.clock import boot_time_s
from ..cluster import Cluster
from ..heartbeat.status import Showing, brought_up_to_date
from ..jobs import Periodic
from ..peer.client import Route
from ..peer.exchange import Exchange
from ..preflight.checks import routes_between
from ..preflight.files import host_key, login_problem
from . import told
from .link import FilesLink
from .showing import Seen, tree_state

log = logging.getLogger(__name__)
#: The names of the jobs.
SET_UP, CHANGES, COMPARE, WHOLE = "files: set-up", "files: changes", "files: compare", "files: full pass"
SET_UP_EVERY_S = 1.0
COMPARE_EVERY_S = 15.0
#: Changes are told when they happen, not on a period.
IDLE_S = 60.0
#: The other gateway is asked for its keys this often, s; as long as it has told none, oftener.
FACTS_EVERY_S, FACTS_SOON_S = 60.0, 3.0
#: The set-up is told again at least so often, s: a daemon that has ended is started by it.
TOLD_AGAIN_S = 10.0
#: A full pass is waited for this long, s; a longer one goes on all the same.
WAIT_MOST_S = 20.0
#: Most changes that wait to be told; a full pass makes good what is lost.
NEWS_MOST = 50


class FilesSide:
    """Keeps the process of files set up, and lets a passive gateway pull.

    :param link: the process.
    :param soon: has a job run now.
    """

    def __init__(self, cluster: Cluster, exchange: Exchange, link: FilesLink, soon: Callable[[str], None]) -> None:
        self._cluster, self._exchange, self._link, self._soon = cluster, exchange, link, soon
        self._files = Files.from_json(cluster.config.files)
        self._lock = threading.Lock()
        self._in_force: dict[str, Any] | None = None
        self._told_at = self._facts_at = float("-inf")
        self._own: dict[str, str] = {}
        self._peer_facts: dict[str, str] | None = None
        self._news: deque[dict[str, Any]] = deque(maxlen=NEWS_MOST)
        self._mark: tuple[str, int] | None = None  # up to which of its changes the other gateway has told
        self._passed = threading.Event()
        self._hearing: object = None
        self._seen = Seen()
        self._problem: ClusterError | None = None
        self._showing: dict[str, Showing] = {}
        self._recorded: dict[str, str] = {}
        exchange.handle("files_facts", self._on_facts)
        exchange.handle("files_state", self._on_state)
        exchange.handle("files_changed", self._on_changed)

    def periodic_jobs(self) -> Periodic:
        """Return period (s) and work of each job, by name."""
        return {
            SET_UP: (SET_UP_EVERY_S, self.set_up),
            CHANGES: (IDLE_S, self.tell_changes),
            COMPARE: (COMPARE_EVERY_S, self.compare),
            WHOLE: (float(self._files.every_s), self.whole_pass),
        }

    # -- set-up -----------------------------------------------------------------------------------------------

    def set_up(self) -> str:
        """Let the process run and know the role, and exchange keys with the other gateway."""
        try:
            with self._lock:
                result = self._set_up()
            self._problem = None
            return result
        except ClusterError as error:
            self._problem = error
            raise
        finally:
            self._update_alarms()

    def _set_up(self) -> str:
        heads, state_dir = self._cluster.heads(), self._cluster.config.state_dir
        if heads is None or not self._cluster.has_peer(heads):
            if has_keys(state_dir):
                self._start()
                self._link.ask("forget", state_dir=state_dir)  # nobody may log in any more
            if self._link.alive():
                self._link.stop()
            self._in_force, self._peer_facts, self._mark, self._seen = None, None, None, Seen()
            return "there is no other gateway"
        self._start()
        routes, role = self._routes(), self._cluster.role()
        if self._configure(role, [one.local for one in routes], [one.remote for one in routes]) and role == "passive":
            self._soon(WHOLE)
        self._exchange_facts()
        return f"{role}, over {self._way()}"

    def _start(self) -> None:
        if self._link.alive():
            return
        self._link.start()
        self._in_force, self._mark = None, None
        self._hearing = hearing = object()
        threading.Thread(target=self._hear, args=(hearing,), name="files", daemon=True).start()

    def _configure(self, role: str, own: list[str], remote: list[str]) -> bool:
        """Tell the process what is to be, if that is another than it knows; return whether the role is another."""
        facts = self._peer_facts or {"key": "", "host_key": "", "secret": ""}
        wanted: dict[str, Any] = {
            "files": self._cluster.config.files, "state_dir": self._cluster.config.state_dir, "role": role,
            "way": self._way(), "own": own, "peer": {**facts, "addresses": remote},
        }  # fmt: skip
        former = self._in_force
        if wanted == former and boot_time_s() - self._told_at < TOLD_AGAIN_S:
            return False
        self._own = {str(key): str(value) for key, value in self._link.ask("configure", **wanted).items()}
        self._in_force, self._told_at = wanted, boot_time_s()
        ready = bool(self._peer_facts)
        return ready and (former is None or (former["role"], former["peer"]) != (role, wanted["peer"]))

    def _way(self) -> Way:
        peer = self._cluster.store.peer()
        return way(self._cluster.config.firmware_version, peer.firmware if peer else "")

    def _routes(self) -> list[Route]:
        """Return the ways to the other gateway: the links, those first over which heartbeats come."""
        heads = self._cluster.require_heads()
        settings, node_id = heads.applied.settings, self._cluster.node_id
        peer = settings.peer_of(node_id)
        found = routes_between(settings, node_id, peer.node_id) if peer else {}
        living = {path["kind"] for path in self._cluster.hot.snapshot()["paths"] if path["state"] == "up"}
        kinds = [kind for kind in ("sync", "backup") if kind in found]
        return [found[kind] for kind in sorted(kinds, key=lambda kind: kind not in living)]

    def _exchange_facts(self) -> None:
        every_s = FACTS_EVERY_S if self._peer_facts else FACTS_SOON_S
        if boot_time_s() - self._facts_at < every_s:
            return
        self._facts_at = boot_time_s()
        try:
            answer = self._exchange.ask("files_facts", timeout_s=3.0, facts=self._facts())
        except (PeerUnavailable, RequestRefused) as error:  # that it is away is said elsewhere; or it is not up yet
            log.debug("The other gateway has not told its keys: %s", error.message)
            return
        self._peer_facts = told.facts(answer.get("facts"))

    def _facts(self) -> dict[str, str]:
        if not self._own:
            raise RequestRefused("Files are not set up on this gateway yet.", "Repeat it in a few seconds.")
        return {"key": self._own["key"], "secret": self._own["secret"], "host_key": host_key(self._files)}

    def _on_facts(self, _sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
        facts = told.facts(arguments.get("facts"))
        own = self._facts()
        if facts != self._peer_facts:
            self._peer_facts = facts
            self._soon(SET_UP)
        return {"facts": own}

    # -- changes ----------------------------------------------------------------------------------------------

    def _hear(self, hearing: object) -> None:
        """Take what the process says by itself, until it has gone or there is another one."""
        while (descriptor := self._link.fileno()) is not None:
            try:
                select.select([descriptor], [], [])
            except (OSError, ValueError):
                return
            if self._hearing is not hearing:
                return
            for message in self._link.receive() or ():
                if message.get("event") == "changed":
                    self._seen.changed(message["trees"])
                    self._news.append(message)
                    self._soon(CHANGES)
                    self._soon(COMPARE)
                else:
                    self._passed.set()
                    self._soon(COMPARE)

    def tell_changes(self) -> str:
        """On the active gateway: tell the other one what has changed."""
        if self._cluster.role() != "active":
            self._news.clear()
            return "this gateway is not active"
        count = 0
        while self._news:
            message = self._news[0]
            arguments = {key: message[key] for key in ("incarnation", "revision", "trees")}
            try:
                self._exchange.ask("files_changed", timeout_s=3.0, **arguments)
            except PeerUnavailable as error:  # it notices that it has missed something, and looks at everything
                self._news.clear()
                return f"not told: {error.message}"
            if self._news and self._news[0] is message:
                self._news.popleft()
            count += 1
        return f"{count} told"

    def _on_changed(self, _sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
        incarnation, revision, trees = told.changes(arguments)
        mark, self._mark = self._mark, (incarnation, revision)
        self._seen.changed(trees)
        if self._cluster.role() == "passive" and self._peer_facts:
            missed = mark is None or mark[0] != incarnation or revision > mark[1] + 1
            self._pull(dict.fromkeys(self._names()) if missed else trees)
        return {}

    def _pull(self, trees: told.Paths, repair: bool = False) -> None:
        routes = [[one.local, one.remote] for one in self._routes()]
        self._link.ask("pull", routes=routes, trees=trees, repair=repair)

    def _names(self) -> list[str]:
        return [tree.name for tree in self._files.trees]

    # -- everything -------------------------------------------------------------------------------------------

    def whole_pass(self) -> str:
        """On the passive gateway: look at everything, and pull what differs."""
        if self._cluster.role() != "passive" or not self._peer_facts or not self._in_force:
            return "nothing to pull"
        try:
            there = self._ask_state()
        except (PeerUnavailable, RequestRefused) as error:
            return f"not now: {error.message}"
        trees = [name for name in self._names() if there.get(name)]
        self._passed.clear()
        self._pull(dict.fromkeys(trees))
        end = boot_time_s() + WAIT_MOST_S
        while (busy := self._look().get("busy")) and boot_time_s() < end:
            self._passed.wait(1.0)
            self._passed.clear()
        self._soon(COMPARE)
        return "under way" if busy else f"{len(trees)} looked at"

    def compare(self) -> str:
        """See whether both gateways have the same files; on the passive one, pull what differs."""
        if not self._link.alive() or not self._in_force:
            return "nothing to compare"
        found = self._look()
        if self._cluster.role() != "passive" or not self._peer_facts:
            return "the other gateway compares"
        try:
            there = self._ask_state()
        except (PeerUnavailable, RequestRefused) as error:
            return f"not now: {error.message}"
        here = {name: one["digest"] for name, one in found["trees"].items()}
        equal = {name: bool(digest) and here.get(name) == digest for name, digest in there.items()}
        self._seen.compared(equal, boot_time_s(), datetime.now(UTC).isoformat(timespec="seconds"))
        self._update_alarms()
        differing = [name for name, same in equal.items() if not same and there[name] and name in here]
        if found.get("busy") or not differing:
            return f"{sum(equal.values())} of {len(self._names())} alike"
        for name in differing:
            last = found["results"].get(name) or {"asks": 0, "whole": False, "error": "", "at": 0.0}
            if not last["asks"] and self._seen.may_pull(name, boot_time_s()):
                # Lengths and times showed no difference since there is one: contents are compared.
                looked = last["whole"] and not last["error"] and last["at"] > self._seen.unlike_since(name)
                self._pull({name: None}, repair=looked)
        return f"{', '.join(differing)} not alike"

    def _ask_state(self) -> dict[str, str]:
        """Return the other gateway's digests.

        :raises RequestRefused: it is not active.
        """
        found, results = self._seen.shown.get("trees", {}), self._seen.shown.get("results", {})
        answer = self._exchange.ask(
            "files_state", timeout_s=3.0, trees={name: one["digest"] for name, one in found.items()},
            questions={name: one["asks"] for name, one in results.items() if one["asks"]},
        )  # fmt: skip
        if answer.get("role") != "active":
            raise RequestRefused("The other gateway is not active: nothing is pulled from it.")
        there = told.trees(answer.get("trees"))
        self._seen.there = there
        return there

    def _on_state(self, _sender: str, arguments: dict[str, Any]) -> dict[str, Any]:
        theirs, questions = told.trees(arguments.get("trees")), told.questions(arguments.get("questions"))
        found = self._look()
        here = {name: one["digest"] for name, one in found["trees"].items()}
        if self._cluster.role() == "active":
            self._seen.there, self._seen.questions = theirs, questions
            equal = {name: bool(digest) and here.get(name) == digest for name, digest in theirs.items()}
            self._seen.compared(equal, boot_time_s(), datetime.now(UTC).isoformat(timespec="seconds"))
        return {"role": self._cluster.role(), "trees": here}

    def _look(self) -> dict[str, Any]:
        found = self._link.ask("look", 5.0)
        self._seen.shown = found
        self._record(found)
        return found

    # -- verbs ------------------------------------------------------------------------------------------------

    def sync_now(self) -> dict[str, Any]:
        """Look at everything now.

        :raises RequestRefused: this gateway is not passive.
        """
        if self._cluster.role() != "passive":
            raise RequestRefused("This gateway is not passive: it pulls nothing.", "Do it on the passive gateway.")
        self._soon(WHOLE)
        return {"begun": True}

    def allow(self, tree: str) -> dict[str, Any]:
        """Let the deletions be done that wait for an operator, and no more than these.

        :raises RequestRefused: none wait.
        """
        waiting = (self._look().get("results") or {}).get(tree, {}).get("asks", 0)
        if not waiting:
            raise RequestRefused(f"No deletions wait in {tree!r:.40} on this gateway.", "See its passive gateway.")
        self._link.ask("allow", tree=tree, deletions=waiting)
        text = f"{waiting:,} deletions in the files {tree} were allowed"
        self._cluster.store.record("files_allowed", "info", text)
        self._pull({tree: None})
        return {"allowed": waiting}

    def status(self) -> dict[str, Any]:
        """Return what the verb ``status`` shows."""
        role, problem, shown = self._cluster.role(), self._problem, self._seen.shown
        progress = shown.get("progress")
        if progress:
            progress = {key: progress[key] for key in ("tree", "files", "size", "of_files", "of_size")}
        return {
            "role": role,
            "way": self._way(),
            "problem": problem.message if problem else "",
            "remedy": problem.remedy if problem else "",
            "progress": progress,
            "trees": [tree_state(tree.name, tree.path, role, self._seen, boot_time_s()) for tree in self._files.trees],
        }

    def directories(self) -> list[str]:
        """Return the declared directories that exist, on whose disks this gateway depends."""
        return [tree.path for tree in self._files.trees if Path(tree.path).is_dir()]

    def stop(self) -> None:
        self._link.stop()

    # -- alarms and events ------------------------------------------------------------------------------------

    def alarms(self) -> list[dict[str, Any]]:
        """Return the alarms, as the verb ``status`` shows them."""
        now = boot_time_s()
        return [one.as_dict(now) for one in list(self._showing.values())]

    def _update_alarms(self) -> None:
        with self._seen.lock:
            for one in brought_up_to_date(self._showing, self._present(), boot_time_s()):
                self._cluster.store.record(f"alarm_{one.key}", one.severity, one.text)

    def _present(self) -> Iterator[Showing]:
        problem, heads = self._problem, self._cluster.heads()
        if heads is None or not self._cluster.has_peer(heads):
            return
        if problem is not None:
            yield Showing("files", "warning", f"Files are not kept as one: {problem.message}", problem.remedy)
        if self._way() == "ssh" and (wrong := login_problem(self._cluster.config.state_dir, host_key(self._files))):
            yield Showing("files_login", "warning", f"The other gateway cannot log in for its files: {wrong}",
                          "See docs/files.md.")  # fmt: skip
        for tree in self._files.trees:
            yield from self._present_of(tree)

    def _present_of(self, tree: Tree) -> Iterator[Showing]:
        state = tree_state(tree.name, tree.path, self._cluster.role(), self._seen, boot_time_s())
        if state["state"] == "asks_there":
            yield Showing(f"peer_files_asks_{tree.name}", "critical",
                          f"{state['asks']:,} files {tree.name} are gone here: the other gateway still has them, and "
                          "asks before it deletes them",
                          "See why they are gone; then go to the other gateway's own page Files.")  # fmt: skip
        elif state["asks"]:
            text = (
                f"The other gateway lacks {state['asks']:,} of the {state['of']:,} files {tree.name} that are here: "
                f"nothing is deleted before you allow it (limit: {DELETIONS_PART:.0%} or {DELETIONS_MOST:,})"
            )
            yield Showing(f"files_asks_{tree.name}", "critical", text,
                          "See why they are gone. If it was on purpose, allow it on this gateway's page Files, or: "
                          f"flask cluster files allow-deletions {tree.name}")  # fmt: skip
        if state["state"] == "failed":
            yield Showing(f"files_failed_{tree.name}", "warning",
                          f"The files {tree.name} cannot be copied: {state['error']}",
                          state["remedy"] or "It is tried again by itself.")  # fmt: skip
        if state["state"] == "absent":
            yield Showing(f"files_absent_{tree.name}", "warning", f"{tree.path} is not there, or cannot be read",
                          "Make it, for the agent's user to read and write; see docs/files.md.")  # fmt: skip
        if state["unreadable"]:
            count, first = state["unreadable_count"], state["unreadable"][0]
            yield Showing(f"files_unreadable_{tree.name}", "warning",
                          f"{count:,} of the files {tree.name} cannot be read, such as {first}",
                          "Let the agent's user read them; see docs/files.md.")  # fmt: skip
        if state["state"] == "undeclared":
            yield Showing(f"files_undeclared_{tree.name}", "warning",
                          f"The other gateway declares no files {tree.name}",
                          "Give both gateways the same firmware and configuration.")  # fmt: skip

    def _record(self, found: dict[str, Any]) -> None:
        """Write down what was kept aside, once."""
        for name, one in (found.get("results") or {}).items():
            if one["aside"] and self._recorded.get(name) != one["aside"]:
                self._recorded[name] = one["aside"]
                text = f"Files {name} that the other gateway lacks, or has otherwise, were kept aside"
                self._cluster.store.record("files_aside", "info", text, [one["aside"]])


def has_keys(state_dir: str) -> bool:
    """Return whether this gateway has keys for the copying of files, from a cluster that it is, or was, in."""
    return (Path(state_dir) / "files" / "key").exists()
