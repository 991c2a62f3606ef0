"""What can follow the role, and how it is told.

Becoming active: data; :meth:`Participant.before_active`; all addresses in one batch; announcements;
:meth:`Participant.after_active`. A hand-over on request: :meth:`Participant.before_passive`; last writes; addresses
go; :meth:`Participant.after_passive`. A gateway that becomes passive for any other reason has only the last step.

Each participant has one thread, on which all its methods are called but two: :meth:`Participant.stop_now` and
:meth:`Participant.status` come from other threads, at any time. That thread lives as long as the process, so that
a child with ``PR_SET_PDEATHSIG`` that it starts ends with the process, and no sooner.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable


class Stage(StrEnum):
    """Where a gateway is on its way from one role to the other; names are those of the steps that lead there."""

    BEFORE_ACTIVE = "before_active"
    ACTIVE = "after_active"
    BEFORE_PASSIVE = "before_passive"
    PASSIVE = "after_passive"

    @property
    def upwards(self) -> bool:
        """Whether it leads to the active role."""
        return self in (Stage.BEFORE_ACTIVE, Stage.ACTIVE)


class Participant(Protocol):
    """One thing that follows the role. Plug it in at :func:`.participants.participants`.

    A step that fails raises ClusterError: it is shown with its remedy, and stops nothing. A step may come again
    (a hand-over that has failed is followed by before_active and after_active), and after_passive comes on a gateway
    that never was active, too.
    """

    name: str

    def configure(self, setup: Mapping[str, Any]) -> None:
        """Take its own part of the set-up, empty if there is nothing to do; called again when it changes, at any stage.

        :raises ClusterError: it cannot be used.
        """

    def before_active(self) -> None:
        """The addresses are not there yet, and wait: a second at most for all participants."""

    def after_active(self) -> None:
        """The addresses are there and announced."""

    def before_passive(self) -> None:
        """A hand-over on request: the addresses are still there, the other gateway waits. As quick as possible."""

    def after_passive(self) -> None:
        """The addresses are gone. Nothing that must run on one gateway only may be left. All do it at the same time."""

    def stop_now(self) -> None:
        """End at once what must run on one gateway only, whatever the thread is doing; no step begins it again before
        the next before_active.

        The agent is dead or silent, or the role has gone while an earlier step still runs.
        """

    def tick(self, now_s: float) -> None:
        """About every 0.5 s while it has no step to do: compare what runs with what should.

        :param now_s: boot time, s.
        """

    def status(self) -> dict[str, Any]:
        """Return what people are shown. Must not wait.

        An entry ``alarms`` is a list of ``key``, ``severity`` (``warning`` or ``critical``), ``text``, ``remedy``.
        """


@runtime_checkable
class Exclusive(Protocol):
    """A participant of which there must never be two: it ends first, whatever time the others take."""

    exclusive: bool


@runtime_checkable
class Commanded(Protocol):
    """A participant to which operators can say something."""

    def command(self, **wish: Any) -> None:
        """Do it, from any thread.

        :raises ClusterError: it cannot be.
        """
