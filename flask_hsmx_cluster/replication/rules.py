"""How the host declares what is shared, and the rules for tables that it says nothing about.

:data:`RULES` says what the HSMX manual says: everything is shared except language, licence, performance, SSL
certificates, firewall, backups and their settings, and each WAN interface's own addresses. The manual's sentence on
interfaces can be read otherwise: :func:`rules_where` has both readings.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Shared:
    """Declare a table as shared between the two gateways.

    :param rows: SQL condition of the rows that are shared, for example ``"scope = 'shared'"``; empty: all of them.
        Its columns must be in the key.
    :param key: columns of a unique key by which rows are identified; empty: the primary key.
    :param local: columns that each gateway keeps for itself.
    :param mirrored: pairs of columns, this gateway's and the other one's: ``(("own_ip", "peer_ip"),)``.
    :param bulk: the table may lag behind, and holds up no other commit.
    :param why: the reason, for the coverage page.
    """

    rows: str = ""
    key: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    mirrored: tuple[tuple[str, str], ...] = ()
    bulk: bool = False
    why: str = ""


@dataclass(frozen=True)
class Local:
    """Declare a table as belonging to one gateway.

    :param why: the reason, for the coverage page.
    """

    why: str = ""


#: What may stand in ``info={"cluster": ...}`` of a table.
Declaration = Shared | Local | str

#: The words for the simple cases.
WORDS: dict[str, Shared | Local] = {"shared": Shared(), "bulk": Shared(bulk=True), "local": Local()}


@dataclass(frozen=True)
class Rule:
    """What holds for tables that the host says nothing about.

    :param tables: patterns of table names, separated by spaces; ``*`` stands for anything.
    :param declaration: what holds for them.
    """

    tables: str
    declaration: Shared | Local

    def fits(self, table: str) -> bool:
        """Tell whether a table is meant."""
        return any(fnmatchcase(table.lower(), pattern) for pattern in self.tables.split())



def rules_where(local: str) -> tuple[Rule, ...]:
    """Return the rules; the first one that fits a table holds, and a table that none fits is shared.

    :param local: the interfaces whose own addresses belong to one machine, ``wan`` or ``lan``; the other ones' are the
        same on both gateways. What rides on any of them (virtual IPs, aliases, PPPoE) is shared.
    """
    own = f"a {local.upper()} interface's own address belongs to one machine"
    return (
        Rule("alembic_version", Local("each database notes its own migrations")),
        Rule("language language_settings", Local("language is set on each gateway")),
        Rule("licence licence_* license license_*", Local("a licence belongs to one machine")),
        Rule("performance performance_*", Local("performance limits depend on one machine's hardware")),
        Rule("certificate certificates certificate_* ssl_*", Local("SSL certificates are installed on one machine")),
        Rule("firewall firewall_*", Local("each gateway has its own firewall")),
        Rule("backup backups backup_*", Local("each gateway makes its own backups, by its own settings")),
        Rule(f"{local}_address {local}_addresses", Local(own)),
        Rule("interface interfaces interface_address interface_addresses network_interface network_interfaces",
             Shared(rows=f"kind <> '{local}'", why=f"{own}, all else is shared")),
        Rule("virtual_ip virtual_ips ip_alias ip_aliases pppoe pppoe_*",
             Shared(why="what rides on an interface is shared, and lives on the active gateway only")),
    )  # fmt: skip


#: What holds unless ``HSMX_CLUSTER_LOCAL_INTERFACES`` says otherwise.
RULES = rules_where("wan")

#: Why a table is shared that neither the host nor a rule says anything about.
NOT_DECLARED = "not declared: shared"


def rule_for(table: str, rules: tuple[Rule, ...] = RULES) -> Shared | Local | None:
    """Return what holds for a table that the host says nothing about; None: no rule fits, it is shared."""
    return next((rule.declaration for rule in rules if rule.fits(table)), None)


def declared_why(found: Shared | Local) -> str:
    """Return why a table is shared or not that the host has declared."""
    return f"declared: {found.why}" if found.why else "declared"
