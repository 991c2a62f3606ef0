"""Every error that the extension raises. Each says what is wrong and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

#: A row's values by column, as text.
Values = dict[str, str | None]
#: Characters of one row of a conflict.
_CONFLICT_CHARACTERS = 6000


class ClusterError(Exception):
    """Base of all errors of the extension.

    :param message: what is wrong, one sentence, fit to be shown to an operator.
    :param remedy: what to do about it; empty when the message says it all.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def as_dict(self) -> dict[str, object]:
        """Return the form that travels over the control socket and the REST API."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy}


class ConfigError(ClusterError):
    """What the host's developer configured is missing, malformed, or contradicts itself.

    That is a ``HSMX_CLUSTER_*`` key, or the scope of a table.
    """

    code = "config"


class AgentUnavailable(ClusterError):
    """The agent of this gateway does not answer on its control socket."""

    code = "agent_unavailable"


class NotAllowed(ClusterError):
    """The caller may not do this."""

    code = "not_allowed"


class RequestRefused(ClusterError):
    """The request is understood, but not possible now (for example: not in a cluster)."""

    code = "refused"


class NotActive(ClusterError):
    """This gateway is not the active one, so that shared data cannot be changed here.

    :param active: where the active gateway answers, URLs; empty if that is not known.
    """

    code = "not_active"

    def __init__(self, message: str, remedy: str = "", active: Sequence[str] = ()) -> None:
        super().__init__(message, remedy)
        self.active = list(active)

    def as_dict(self) -> dict[str, object]:
        return {**super().as_dict(), "active": self.active}


class PairingFailed(ClusterError):
    """Pairing did not succeed: wrong or expired code, or no answer."""

    code = "pairing"


class PeerUnavailable(ClusterError):
    """The other gateway did not answer, or its answer could not be trusted."""

    code = "peer_unavailable"


class NetworkError(ClusterError):
    """The kernel refused an operation on a port or an address."""

    code = "network"


class DataConflict(ClusterError):
    """A change that is kept in quarantine does not fit the active gateway's data any more; nothing was changed.

    :param kind: ``changed``, ``exists``, ``gone``, ``unique`` (another row has the value), ``reference`` (a foreign
        key), ``rule`` (another constraint) or ``schema``.
    :param wanted: the row as the change would make it, by column, as text; None for a deletion.
    :param present: the active gateway's row that stands against it, if there is one.
    :param base: the row that the change was based on, if known.
    :param seen: stands for the present row: to overwrite it, and no later one, hand it in again.
    """

    code = "conflict"

    def __init__(
        self, message: str, remedy: str = "", *, kind: str = "", wanted: Values | None = None,
        present: Values | None = None, base: Values | None = None, seen: str = "",
    ) -> None:
        super().__init__(message, remedy)
        self.seen = seen
        self.kind = kind
        self.wanted = wanted
        self.present = present
        self.base = base

    @property
    def can_overwrite(self) -> bool:
        """Whether the present row can be replaced all the same, if a person says so."""
        return self.kind in ("changed", "exists")

    def as_dict(self) -> dict[str, object]:
        shown = {"wanted": self.wanted, "present": self.present, "base": self.base}
        return {**super().as_dict(), "kind": self.kind, "can_overwrite": self.can_overwrite, "seen": self.seen,
                **{name: values and _clipped(values) for name, values in shown.items()}}  # fmt: skip


def _clipped(values: Values) -> Values:
    """Return values short enough for one message between the agents."""
    longest = max(16, _CONFLICT_CHARACTERS // max(1, len(values)))
    return {name: value if value is None or len(value) <= longest else f"{value[: longest - 1]}…"
            for name, value in values.items()}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    :param key: stable name of the check, for example ``virtual_ip_in_use``.
    :param text: what was found, in words.
    :param remedy: how to fix it.
    :param field: the settings field concerned (``virtual_ips.0.address``), or empty.
    :param blocking: False for a warning that does not stop anything.
    """

    key: str
    text: str
    remedy: str
    field: str = ""
    blocking: bool = True

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class ChecksFailed(ClusterError):
    """Settings or preflight were refused; nothing was changed.

    :param findings: every finding, in the order in which a person would fix them.
    """

    code = "findings"

    def __init__(self, findings: list[Finding], message: str = "") -> None:
        first = findings[0].text if findings else "refused"
        super().__init__(message or f"Refused, nothing was changed: {first}", findings[0].remedy if findings else "")
        self.findings = findings

    def as_dict(self) -> dict[str, object]:
        return {**super().as_dict(), "findings": [finding.as_dict() for finding in self.findings]}
