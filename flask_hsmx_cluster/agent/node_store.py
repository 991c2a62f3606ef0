"""The node store: what this gateway remembers of itself and its cluster. It is its own, and never replicated.

Any thread may call any method but the hot loop's: an fsync can take 100 ms.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from .. import models as m
from ..network.clock import machine_boot_id
from .config import AgentConfig
from .heartbeat.standing import DataStanding
from .membership import Key
from .revisions.model import Heads, Revision, RevisionRefused
from .revisions.rows import revision_from_row, revision_row
from .store_file import StoreError, damaged
from .term_store import TermStore

log = logging.getLogger(__name__)

T = TypeVar("T")

FILE_NAME = "node.sqlite"
#: Revisions kept for the record beside those in use.
MAX_REVISIONS = 50
MAX_MACS = 64
MAX_EVIDENCE = 20
MAX_TEXT = 500

#: What is forgotten with the cluster, in the order that foreign keys ask for.
_CLUSTER_TABLES: tuple[type[m.Base], ...] = (
    m.ClusterKey,
    m.RevisionHead,
    m.RevisionAncestor,
    m.SettingsRevision,
    m.Peer,
    m.PeerMac,
    m.Joining,
    m.Pairing,
    m.Maintenance,
    m.DataStanding,
    m.Guide,
)


@dataclass(frozen=True)
class PeerFacts:
    """What the other gateway last told about itself."""

    node_id: str
    name: str
    firmware: str
    version: str
    protocol: int
    http_port: int


@dataclass(frozen=True)
class PairingState:
    """The one-time code that lives at present.

    :param code_hash: derived from the code; the code itself is never stored.
    :param expires_at_s: on the boot-time clock, s.
    :param joiner: node id that used the code; empty as long as nobody did.
    """

    code_hash: bytes
    expires_at_s: float
    attempts_left: int
    joiner: str = ""


def wall_time() -> str:
    """Return the present wall time, ISO 8601, UTC, ms."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def machine_id(state_dir: Path) -> str:
    """Return the machine's id: ``machine-id`` in the state directory if there is one, else the system's, or ''."""
    for path in (state_dir / "machine-id", Path("/etc/machine-id")):
        try:
            return path.read_text().strip()
        except OSError:
            continue
    return ""


class NodeStore(TermStore):
    """This gateway's own memory.

    :param path: the database file.
    :param node_name: recorded with events.
    :raises StoreError: it is damaged, of a later schema, or cannot be opened.
    """

    def __init__(self, path: Path, node_name: str = "") -> None:
        self.node_name = node_name
        self._remembered: dict[str, Any] = {}
        self.recorded = 0  # events since the start: whoever waits for new ones need not read the disk
        super().__init__(path)

    @classmethod
    def open(cls, config: AgentConfig) -> NodeStore:
        """Return the node store in the state directory of a configuration."""
        return cls(Path(config.state_dir) / FILE_NAME, config.node_name)

    @contextmanager
    def _membership_session(self) -> Iterator[Session]:
        """The same for what changes node id, keys or settings: what is remembered of them is read anew."""
        with self._lock:
            try:
                with self._session() as session:
                    yield session
            finally:
                self._remembered.clear()

    def _remember(self, name: str, read: Callable[[Session], T]) -> T:
        """Return what was read before, or read it. Every page and every job asks for these; nobody else writes."""
        with self._lock:
            if name not in self._remembered:
                with self._session() as session:
                    self._remembered[name] = read(session)
            found: T = self._remembered[name]
            return found

    def demand_sound(self) -> None:
        """Read everything on which a membership depends.

        :raises StoreError: something of it cannot be read, or makes no sense.
        """
        self.demand_types()
        with self._session() as session:
            known = session.get(m.Identity, 1) is not None
            session.scalars(select(m.IdentityMac.mac)).all()
        _ = (self.node_id if known else "", self.keys(), self.heads(), self.peer(), self.pairing(), self.guide(),
             self.reserved_term(), self.standing(), self.joining(), self.maintenance_until(),
             self.peer_macs())  # fmt: skip
        if (heads := self.heads()) is not None:
            try:  # a key that has changed in one bit would make the other gateway a stranger
                heads.applied.verify(self.keys())
            except RevisionRefused:
                raise damaged(self.path, "the cluster's key does not fit its settings") from None

    # -- identity ---------------------------------------------------------------------------------------------

    def identify(self, machine: str, macs: Mapping[str, str]) -> bool:
        """Return whether this is the machine on which the store was written; a new store takes it on.

        False means a cloned or moved disk: another machine id, or not one of the known port MACs is present any
        more. No port present at all (drivers not loaded yet) is no mismatch.

        :param machine: the machine id, '' if there is none.
        :param macs: MACs of this machine's own ports, by port name.
        """
        with self._membership_session() as session:
            identity = session.get(m.Identity, 1)
            if identity is None:
                self._take_on(session, machine, macs)
                return True
            if identity.machine_digest != _machine_digest(machine):
                return False
            known = set(session.scalars(select(m.IdentityMac.mac)))
            if known and macs and not known & {mac.lower() for mac in macs.values()}:
                return False
            self._remember_macs(session, macs, MAX_MACS - len(known))
            return True

    def start_anew(self, machine: str, macs: Mapping[str, str]) -> None:
        """Make this machine a gateway of its own, with a new node id and no cluster."""
        self.forget_cluster()
        with self._membership_session() as session:
            session.execute(delete(m.Identity))
            session.execute(delete(m.IdentityMac))
            self._take_on(session, machine, macs)

    @staticmethod
    def _take_on(session: Session, machine: str, macs: Mapping[str, str]) -> None:
        session.add(m.Identity(node_id=uuid4().hex, machine_digest=_machine_digest(machine)))
        NodeStore._remember_macs(session, macs, MAX_MACS)

    @staticmethod
    def _remember_macs(session: Session, macs: Mapping[str, str], room: int) -> None:
        for port, mac in list(macs.items())[: max(room, 0)]:
            session.merge(m.IdentityMac(mac=mac.lower(), port=port[:32]))

    @property
    def node_id(self) -> str:
        """This gateway's id, 32 hex digits; :meth:`identify` comes first."""

        def read(session: Session) -> str:
            identity = session.get(m.Identity, 1)
            if identity is None:
                raise StoreError("This gateway has no identity yet.", "Start the agent.")
            if re.fullmatch("[0-9a-f]{32}", identity.node_id) is None:
                raise damaged(self.path, "its node id cannot be read")
            return identity.node_id

        return self._remember("node_id", read)

    # -- cluster ----------------------------------------------------------------------------------------------

    def keys(self) -> tuple[Key, ...]:
        """Return the cluster's keys; the first signs."""

        def read(session: Session) -> tuple[Key, ...]:
            rows = session.scalars(select(m.ClusterKey).order_by(m.ClusterKey.position))
            return tuple(Key(row.key_id, row.secret) for row in rows)

        return self._remember("keys", read)

    def heads(self) -> Heads | None:
        """Return the settings revisions of this gateway, or None outside of a cluster."""

        def read(session: Session) -> Heads | None:
            head = session.get(m.RevisionHead, 1)
            if head is None or head.applied is None:
                return None
            lineage = session.scalars(select(m.RevisionAncestor.digest).order_by(m.RevisionAncestor.position))
            return Heads(
                self._revision(session, head.applied),
                tuple(lineage),
                self._revision(session, head.prepared) if head.prepared else None,
                self._revision(session, head.conflict) if head.conflict else None,
                head.peer_digest,
                self._there(session, head),
            )

        return self._remember("heads", read)

    def save_heads(self, heads: Heads, keys: Sequence[Key] | None = None) -> None:
        """Store the settings revisions, and the keys if given, in one transaction."""
        with self._membership_session() as session:
            self._write_heads(session, heads)
            if keys is not None:
                self._write_keys(session, keys)
            self._forget_old_revisions(session)

    @staticmethod
    def _write_heads(session: Session, heads: Heads) -> None:
        for revision in (heads.applied, heads.prepared, heads.conflict, heads.there):
            if revision is not None and session.get(m.SettingsRevision, revision.digest) is None:
                session.add(revision_row(revision))
        session.flush()
        session.merge(
            m.RevisionHead(
                id=1,
                applied=heads.applied.digest,
                prepared=heads.prepared.digest if heads.prepared else None,
                conflict=heads.conflict.digest if heads.conflict else None,
                peer_digest=heads.peer_digest,
            )
        )
        session.execute(delete(m.RevisionAncestor))
        session.add_all(m.RevisionAncestor(position=at, digest=item) for at, item in enumerate(heads.lineage))

    @staticmethod
    def _write_keys(session: Session, keys: Sequence[Key]) -> None:
        session.execute(delete(m.ClusterKey))
        session.flush()
        session.add_all(m.ClusterKey(key_id=key.key_id, position=at, secret=key.secret) for at, key in enumerate(keys))

    def forget_cluster(self) -> None:
        """Leave the cluster: its keys, settings and codes are gone. The node id and the events stay."""
        with self._membership_session() as session:
            for table in _CLUSTER_TABLES:
                session.execute(delete(table))
            self.renew_terms(session)

    def joining(self) -> tuple[Revision, str, int] | None:
        """Return the revision of a join whose last answer is missing, with the address and port to ask."""
        with self._session() as session:
            row = session.get(m.Joining, 1)
            head = session.get(m.RevisionHead, 1)
            if row is None or head is None or head.prepared is None:
                return None
            return self._revision(session, head.prepared), row.address, self._http_port(row)

    def begin_joining(
        self, revision: Revision, keys: Sequence[Key], peer: PeerFacts, address: str, http_port: int
    ) -> None:
        """Store what was agreed, before the other gateway is told to go ahead."""
        self.forget_cluster()
        with self._membership_session() as session:
            session.add(revision_row(revision))
            session.flush()
            session.add(m.RevisionHead(id=1, applied=None, prepared=revision.digest, conflict=None))
            session.add(m.Joining(id=1, address=address, http_port=http_port))
            self._write_keys(session, keys)
            session.add(_peer_row(peer))

    def finish_joining(self, heads: Heads) -> None:
        """Put the agreed settings in force."""
        with self._membership_session() as session:
            self._write_heads(session, heads)
            session.execute(delete(m.Joining))

    def peer(self) -> PeerFacts | None:
        """Return what the other gateway last told about itself."""
        with self._session() as session:
            row = session.get(m.Peer, 1)
            if row is None:
                return None
            return PeerFacts(row.node_id, row.name, row.firmware, row.version, row.protocol, self._http_port(row))

    def set_peer(self, peer: PeerFacts | None) -> None:
        """Store what the other gateway tells about itself. Nothing is written if nothing is new."""
        if self.peer() == peer:
            return
        with self._session() as session:
            session.execute(delete(m.Peer))
            if peer is not None:
                session.add(_peer_row(peer))

    def peer_macs(self) -> dict[str, str]:
        """Return the MACs of the other gateway's virtual-IP ports, by port name."""
        with self._session() as session:
            macs = {row.port: row.mac for row in session.scalars(select(m.PeerMac))}
        if not all(re.fullmatch("[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac, re.ASCII) for mac in macs.values()):
            raise damaged(self.path, "the other gateway's MAC cannot be read")
        return macs

    def remember_peer_macs(self, macs: Mapping[str, str]) -> None:
        """Store the MACs that the other gateway signed: after a restart an ARP answer can still be told as its own."""
        with self._session() as session:
            session.execute(delete(m.PeerMac))
            session.add_all(m.PeerMac(port=port[:32], mac=mac) for port, mac in macs.items())

    def _http_port(self, row: m.Peer | m.Joining) -> int:
        if not 0 < row.http_port < 65536:
            raise damaged(self.path, "the other gateway's port makes no sense")
        return row.http_port

    def _revision(self, session: Session, digest: str) -> Revision:
        row = session.get(m.SettingsRevision, digest)
        if row is None:
            raise damaged(self.path, "a settings revision is missing")
        try:
            revision = revision_from_row(row)
        except ValueError as error:
            raise damaged(self.path, f"a settings revision cannot be read: {error}") from None
        if revision.digest != digest:
            raise damaged(self.path, "a settings revision does not match its digest")
        return revision

    def _there(self, session: Session, head: m.RevisionHead) -> Revision | None:
        """Return what the other gateway has in force, where it is known and not the same as here."""
        if head.peer_digest == head.applied or session.get(m.SettingsRevision, head.peer_digest) is None:
            return None
        return self._revision(session, head.peer_digest)

    @staticmethod
    def _forget_old_revisions(session: Session) -> None:
        head = session.get_one(m.RevisionHead, 1)
        used = [digest for digest in (head.applied, head.prepared, head.conflict, head.peer_digest) if digest]
        newest = select(m.SettingsRevision.digest).order_by(m.SettingsRevision.number.desc()).limit(MAX_REVISIONS)
        session.execute(
            delete(m.SettingsRevision).where(
                m.SettingsRevision.digest.not_in(used), m.SettingsRevision.digest.not_in(newest)
            )
        )

    # -- pairing ----------------------------------------------------------------------------------------------

    def pairing(self) -> PairingState | None:
        """Return the living pairing code. One of an earlier boot is dead: its time cannot be told."""
        with self._session() as session:
            row = session.get(m.Pairing, 1)
            if row is None or row.boot_id != machine_boot_id():
                return None
            return PairingState(row.code_hash, row.expires_at_s, row.attempts_left, row.joiner)

    def set_pairing(self, state: PairingState | None) -> None:
        """Store the pairing code's state, or forget it."""
        with self._session() as session:
            session.execute(delete(m.Pairing))
            if state is not None:
                session.add(
                    m.Pairing(
                        code_hash=state.code_hash,
                        boot_id=machine_boot_id(),
                        expires_at_s=state.expires_at_s,
                        attempts_left=state.attempts_left,
                        joiner=state.joiner,
                    )
                )

    # -- the data's standing ----------------------------------------------------------------------------------

    def standing(self) -> DataStanding:
        """Return what was last known of this gateway's data beside the other one's."""
        with self._session() as session:
            row = session.get(m.DataStanding, 1)
            return DataStanding(row.followed, row.behind, row.in_step_at, row.degraded_at) if row else DataStanding()

    def remember_standing(self, standing: DataStanding) -> None:
        """Store what is known of this gateway's data beside the other one's."""
        with self._session() as session:
            session.merge(m.DataStanding(id=1, **vars(standing)))

    # -- maintenance and events -------------------------------------------------------------------------------

    def maintenance_until(self) -> str | None:
        """Return until when this gateway is in maintenance, ISO wall time, or None."""
        with self._session() as session:
            row = session.get(m.Maintenance, 1)
            return row.until if row else None

    def set_maintenance_until(self, until: str | None) -> None:
        """Store until when this gateway is in maintenance."""
        with self._session() as session:
            session.execute(delete(m.Maintenance))
            if until is not None:
                session.add(m.Maintenance(id=1, until=until))

    def record(self, kind: str, severity: str, text: str, evidence: Sequence[str] = ()) -> None:
        """Record an event; the oldest beyond :data:`~flask_hsmx_cluster.models.MAX_EVENTS` are forgotten.

        One that cannot be written, as on a full disk, is in the agent's log only: it stops nothing.
        """
        row = m.Event(at=wall_time(), kind=kind[:64], severity=severity[:16], text=text[:MAX_TEXT], node=self.node_name)
        row.evidence = [
            m.EventEvidence(position=at, text=item[:MAX_TEXT]) for at, item in enumerate(evidence[:MAX_EVIDENCE])
        ]
        try:
            with self._session() as session:
                session.add(row)
                session.flush()
                session.execute(delete(m.Event).where(m.Event.id <= row.id - m.MAX_EVENTS))
            self.recorded += 1
        except StoreError as error:
            log.error("An event was not stored (%s): %s", error.message, text[:MAX_TEXT])

    def events(self, limit: int = 100, before: int | None = None) -> list[dict[str, Any]]:
        """Return events, newest first, as the verb ``events`` does."""
        query = select(m.Event).order_by(m.Event.id.desc()).limit(limit)
        if before is not None:
            query = query.where(m.Event.id < before)
        with self._session() as session:
            return [
                {
                    "id": row.id,
                    "at": row.at,
                    "kind": row.kind,
                    "severity": row.severity,
                    "text": row.text,
                    "evidence": [item.text for item in row.evidence],
                    "node": row.node,
                }
                for row in session.scalars(query)
            ]

    def event_count(self) -> int:
        """Return how many events are kept."""
        with self._session() as session:
            return session.scalar(select(func.count()).select_from(m.Event)) or 0


def _machine_digest(machine: str) -> str:
    return hashlib.sha256(b"hsmx-cluster machine\0" + machine.encode()).hexdigest() if machine else ""


def _peer_row(peer: PeerFacts) -> m.Peer:
    return m.Peer(
        id=1,
        node_id=peer.node_id,
        name=peer.name,
        firmware=peer.firmware,
        version=peer.version,
        protocol=peer.protocol,
        http_port=peer.http_port,
    )
