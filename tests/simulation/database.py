"""One gateway's PostgreSQL and its replicator, and what passes between the two of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask_hsmx_cluster.decision.model import Role

if TYPE_CHECKING:
    from .machine import Machine
    from .world import World

WORDS = {"promote": "PromoteData", "yield": "YieldData", "demote": "DemoteData", "set_synchronous": "SetSynchronous",
         "keep": "KeepData"}  # fmt: skip
#: The replicator looks at its follower this often, and a broken stream is made again this often, s.
LOOK_EVERY_S = 0.25
#: A commit is with the other gateway after this time, s.
STREAM_S = 0.002
#: A rejoin takes this long, s; to follow on where nothing was written meanwhile this long.
REJOIN_S, FOLLOW_S = 1.5, 0.3
#: So many writes that both have are kept.
SAFE_KEPT = 200


@dataclass(eq=False)
class Database:
    """As slow or broken as a test wants it.

    :param rows: numbers of the writes that are in its tables; ``quarantine``: what was set aside at a rejoin.
    :param waiting: commits that wait for the other gateway.
    :param follows: of which reign of the other gateway it has the stream.
    """

    machine: Machine
    delay_s: float = 0.015
    broken: bool = False  #: it answers with an error
    silent: bool = False  #: it does not answer
    deaf: bool = False  #: nothing reaches it
    confirms: bool = True  #: the other one has everything in time
    term: int | None = None  #: the reign for which it takes writes
    until_s: float = 0.0  #: boot time at which the right to write ends
    synchronous: bool = False
    shared: bool = False
    log: list[str] = field(default_factory=list)
    inbox: list[dict[str, Any]] = field(default_factory=list)
    rows: set[int] = field(default_factory=set)
    quarantine: set[int] = field(default_factory=set)
    waiting: list[int] = field(default_factory=list)
    follows: tuple[str, int] | None = None
    rejoins_at: float | None = None

    def fileno(self) -> None:
        return None

    def receive(self) -> list[dict[str, Any]]:
        found, self.inbox = self.inbox, []
        return found

    def send(self, verb: str, **arguments: Any) -> bool:
        """Take a wish of the agent's and answer it later."""
        machine = self.machine
        if machine.trap is not None:
            machine.trap()
        if self.deaf:
            return True
        if verb == "renew":
            if self.term == arguments["term"] and self.takes_writes():
                self.until_s = arguments["until_s"]
                return True
        else:
            self.log.append(WORDS[verb])
        result, ok = getattr(self, f"_{verb}")(**arguments)
        if result is not None and not self.silent:
            message = {"verb": verb, "term": arguments.get("term"), "ok": ok, "result": result,
                       "error": {"message": "it is down"}}  # fmt: skip
            machine.world.at(self.delay_s, self.tells, message)
        return True

    def takes_writes(self) -> bool:
        return self.term is not None and self.machine.clocks.boot_s() < self.until_s

    def tells(self, message: dict[str, Any]) -> None:
        """Let a message arrive at the agent, if that is there still."""
        self.inbox.append(message)
        self.machine.reads_database()

    def crash(self) -> None:
        """The server ends at once: the right to write is gone, and who waited is told nothing."""
        self.term, self.waiting = None, []
        self.follows = self.rejoins_at = None

    # What the replicator does -------------------------------------------------------------------------------

    def _promote(self, term: int, until_s: float) -> tuple[dict[str, Any], bool]:
        ok = not self.broken
        if ok and not self.silent:
            self.term, self.until_s = term, until_s
            self.follows = self.rejoins_at = None
            if self.machine.world.replication is not None:
                self.machine.world.replication.promoted(self)
        return ({"synchronous": self.synchronous} if self.machine.world.replication else {}), ok

    def _renew(self, term: int, until_s: float) -> tuple[dict[str, Any], bool]:
        self.log.append("PromoteData")
        result, ok = self._promote(term, until_s)
        return {"renewed": False, **result}, ok

    def _keep(self, term: int, until_s: float) -> tuple[dict[str, Any], bool]:
        kept = not (self.broken or self.silent) and self.term == term and self.takes_writes()
        if kept:
            self.until_s = until_s
        return {"kept": kept}, not self.broken

    def _yield(self, patience_s: float, within_s: float) -> tuple[dict[str, Any], bool]:
        self.term = None
        replication = self.machine.world.replication
        confirmed = self.confirms and (replication is None or replication.follower_has_all(self))
        self._free()
        return {"orderly": True, "confirmed": confirmed}, True

    def _demote(self) -> tuple[None, bool]:
        self.term = None
        self.waiting = []  # their sessions are ended before nobody is waited for any more: no success that is none
        self.synchronous = False
        return None, True

    def _set_synchronous(self, on: bool) -> tuple[dict[str, Any], bool]:
        if not self.broken:
            self.synchronous = on
            if not on:
                self._free()
        return {"on": on}, not self.broken

    def _free(self) -> None:
        replication = self.machine.world.replication
        if replication is None:
            return
        waiting, self.waiting = self.waiting, []
        for number in waiting:
            if number in self.machine.peer.database.rows:
                replication.acknowledge(number, both=True)
            elif not self.synchronous:
                replication.acknowledge(number, both=False)
            # else the session is ended: the client does not know


class Replication:
    """Streams between the two databases over the sync or backup link, and what clients were told.

    :param acknowledged: each write that a client was told to be safe; True: by both gateways.
    :param missed: of each take-over, what it lacked although both had confirmed it.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.acknowledged: dict[int, bool] = {}
        self.missed: list[tuple[float, str, set[int]]] = []
        self.writes = 0
        self._looks = 0
        world.at(LOOK_EVERY_S, self._look)

    def write(self, machine: Machine, _guest: int) -> None:
        """A client commits on the gateway that it reaches."""
        database = machine.database
        if not database.takes_writes() or database.broken or database.silent:
            return
        self.writes += 1
        number = self.writes
        database.rows.add(number)
        if database.synchronous:
            database.waiting.append(number)
        else:
            self.acknowledge(number, both=False)
        other = machine.peer.database
        if other.follows == (machine.name, database.term):
            self.world.at(STREAM_S, self._stream, machine)

    def acknowledge(self, number: int, both: bool) -> None:
        self.acknowledged[number] = both

    def follower_has_all(self, database: Database) -> bool:
        """Return whether the other gateway has all that was written here, after it had the time to take it."""
        machine = database.machine
        other = machine.peer.database
        if other.follows is not None and other.follows[0] == machine.name and self._linked() and self._lives(other):
            other.rows |= database.rows
        return database.rows <= other.rows

    def promoted(self, database: Database) -> None:
        lacks = {number for number, both in self.acknowledged.items() if both and number not in database.rows}
        lacks -= database.machine.peer.database.quarantine | database.quarantine
        if lacks:
            self.missed.append((self.world.now, database.machine.name, lacks))

    def lost(self) -> list[int]:
        """Return acknowledged writes that no gateway has, neither in its tables nor in quarantine."""
        kept: set[int] = set()
        for machine in self.world.machines.values():
            kept |= machine.database.rows | machine.database.quarantine
        return sorted(self.acknowledged.keys() - kept)

    def forgotten(self, active: Machine) -> list[int]:
        """Return acknowledged writes that are neither on the active gateway nor in any quarantine."""
        kept = set(active.database.rows)
        for machine in self.world.machines.values():
            kept |= machine.database.quarantine
        return sorted(self.acknowledged.keys() - kept)

    def _linked(self) -> bool:
        world = self.world
        return any(
            all(not world.wires[name, sender].cut and world.passes(name, port, sender) for sender in "ab")
            for name, port in (("sync", "sync0"), ("backup", "backup0"))
        )

    def _lives(self, database: Database) -> bool:
        return database.machine.powered and not database.machine.paused and not database.silent and not database.broken

    def _stream(self, machine: Machine) -> None:
        """What was written is applied on the other gateway, and who waited for that is told."""
        database, other = machine.database, machine.peer.database
        if other.follows != (machine.name, database.term) or not (self._lives(other) and self._linked()):
            return
        other.rows |= database.rows
        if self._lives(database):
            waiting, database.waiting = database.waiting, []
            for number in waiting:
                self.acknowledge(number, both=True)

    def _look(self) -> None:
        """The passive gateway's replicator follows, or rejoins; the active one's tells how its follower does."""
        world = self.world
        world.at(LOOK_EVERY_S, self._look)
        for machine in world.machines.values():
            database, other = machine.database, machine.peer.database
            if not database.takes_writes() or not self._lives(database):
                continue
            self._rejoin(machine, other)
            self._stream(machine)
            self._forget_what_is_safe(database, other)
            follows = other.follows == (machine.name, database.term) and self._linked() and self._lives(other)
            if machine.core is not None and not database.deaf:
                caught_up = follows and database.rows <= other.rows
                database.tells({"event": "follower", "streaming": follows, "caught_up": caught_up})

    def _rejoin(self, active: Machine, other: Database) -> None:
        """Set aside what only the other one has, then make its tables those of the active gateway."""
        database, core = active.database, other.machine.core
        reign = (active.name, database.term or 0)
        if other.follows == reign:
            return
        able = (
            core is not None and core.role is Role.PASSIVE and core.peer is not None and core.peer_fresh()
            and core.peer.role is Role.ACTIVE and not other.takes_writes() and self._lives(other) and self._linked()
        )  # fmt: skip
        if not able:
            other.rejoins_at = None
        elif other.rejoins_at is None:
            other.rejoins_at = self.world.now + (REJOIN_S if other.rows - database.rows else FOLLOW_S)
        elif self.world.now >= other.rejoins_at:
            other.quarantine |= other.rows - database.rows
            other.rows = set(database.rows)
            other.follows, other.rejoins_at, other.term = reign, None, None

    def _forget_what_is_safe(self, one: Database, other: Database) -> None:
        """What both have had at one time needs no further look: the sets stay small."""
        safe = one.rows & other.rows
        if len(safe) > SAFE_KEPT and not one.waiting:
            one.rows -= safe
            other.rows -= safe
            for number in safe:
                self.acknowledged.pop(number, None)
