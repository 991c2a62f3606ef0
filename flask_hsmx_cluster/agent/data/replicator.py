"""The agent's end of the replicator, the process that has its hands on PostgreSQL."""

from __future__ import annotations

from ..child import Child, ChildDown


class ReplicatorDown(ChildDown):
    """The replicator does not run, or did not answer in time."""

    code = "replicator"


class ReplicatorLink(Child):
    """Starts the replicator and talks to it. A lease that one had granted ends by itself.

    :param log_level: the replicator's.
    :param shared: whether the database is shared; it may be prepared later, and is noticed then.
    """

    MODULE = "flask_hsmx_cluster.replication"
    NAME = "The replicator"
    WHAT, LOOK = "The database", "See whether PostgreSQL runs."
    Down = ReplicatorDown

    def __init__(self, log_level: str = "INFO", shared: bool = True) -> None:
        super().__init__(log_level)
        self.shared = shared
