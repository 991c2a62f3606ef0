"""Names of what the cluster keeps in the host's database."""

from __future__ import annotations

#: Everything of ours lives in this schema; all of it is the gateway's own but the tables of :data:`PUBLISHED`.
SCHEMA = "hsmx_cluster"
#: Our tables that travel to the other gateway.
PUBLISHED = ("incarnation", "sequence_position")
#: What must not be lost; its subscription is the synchronous standby.
PUBLICATION = "hsmx_cluster"
#: The same for tables of which only some rows are shared: TRUNCATE knows no row filter, so it is not published here.
PUBLICATION_ROWS = "hsmx_cluster_rows"
#: What may lag.
PUBLICATION_BULK = "hsmx_cluster_bulk"
#: Subscriptions; also the names (``application_name``) by which the publisher knows its consumers.
SUBSCRIPTION = "hsmx_cluster"
SUBSCRIPTION_BULK = "hsmx_cluster_bulk"
#: The name of a session by which a passive gateway tells that it has followed the very database that it reaches.
FOLLOWS = "hsmx_cluster follows"
#: The channel on which the active gateway tells that its commits wait for the other one from now on.
WAITS = "hsmx_cluster_waits"
#: The name of a session that brings the other gateway's rows here, or compares with them. A promotion ends it.
FOLLOWING = "hsmx_cluster following"
#: A synchronous standby that never comes: while it is set, no commit is acknowledged (rule 5).
NOBODY = "hsmx_cluster_nobody"
AGENT_ROLE = "hsmx_cluster_agent"
PEER_ROLE = "hsmx_cluster_peer"
#: Owns the subscriptions: apply workers have its rights.
APPLY_ROLE = "hsmx_cluster_apply"


def slot_name(consumer: str, bulk: bool = False) -> str:
    """Return the name of the slot that keeps what a gateway has not had yet.

    On the passive gateway it exists too, and is advanced: the fork slot from which the other one will rejoin.

    :param consumer: node id of the gateway that reads from it, 32 hex digits.
    """
    return f"hsmx_{consumer[:12]}" + ("_bulk" if bulk else "")
