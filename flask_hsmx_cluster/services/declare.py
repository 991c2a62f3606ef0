"""What the firmware wants to follow the role, as it states it: services and hooks. Checked, and touches nothing.

The same on both gateways: they run the same firmware.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self, TypeVar

from ..errors import ConfigError

#: When a hook is called.
STEPS = ("before_active", "after_active", "before_passive", "after_passive")
#: The descriptor on which the process that has the app is asked to call hooks, in its environment.
RUNNER_FD = "HSMX_CLUSTER_HOOKS_FD"
#: Longest name, most parts of a command, longest part, most statements of a kind.
NAME_MOST, PARTS_MOST, PART_MOST, STATED_MOST = 40, 100, 1000, 64
#: A time limit is within these bounds, s.
LIMIT_LEAST_S, LIMIT_MOST_S = 0.1, 60.0
#: Most time between two health checks, s.
EVERY_MOST_S = 3600.0

Argv = tuple[str, ...]
T = TypeVar("T", "Service", "Hook", "Check")


@dataclass(frozen=True)
class Service:
    """A program that runs on the active gateway only, or on both.

    Stated by exactly one of ``unit``, ``run``, or ``start`` with ``stop`` and ``status``.

    :param name: what people call it.
    :param runs_on: ``active`` or ``both``.
    :param when: of those on the active gateway: started ``before`` the addresses come, or ``after`` it.
    :param limit_s: one start or stop may take this long, s.
    :param unit: a systemd unit.
    :param run: a program that stays in the foreground.
    :param start: starts it and ends; ``stop`` ends it; ``status`` ends with 0 if it runs, with another code if not.
    """

    name: str
    runs_on: str = "active"
    when: str = "after"
    limit_s: float = 10.0
    unit: str = ""
    run: Argv = ()
    start: Argv = ()
    stop: Argv = ()
    status: Argv = ()

    def __post_init__(self) -> None:
        _name(self)
        _one_of(self, "runs_on", ("active", "both"))
        _one_of(self, "when", ("before", "after"))
        _limit(self)
        for part in ("run", "start", "stop", "status"):
            _command(self, part)
        if not isinstance(self.unit, str):
            raise _refuse(self, "unit must be a text", "For example kea.service.")
        if self.unit and not re.fullmatch(r"[A-Za-z0-9:_.\\@-]{1,200}\.(service|target|socket)", self.unit):
            raise _refuse(self, f"unit {self.unit!r:.60} is no name of a systemd unit", "For example kea.service.")
        three = [self.start, self.stop, self.status]
        if any(three) and not all(three):
            raise _refuse(self, "start, stop and status belong together", "State all three.")
        if sum(map(bool, (self.unit, self.run, self.start))) != 1:
            raise _refuse(self, "it must be stated how to run it, in one way", "State unit, or run, or start.")


@dataclass(frozen=True)
class Hook:
    """Something of the host's that is called at a change of role: a command, or a callable of the app's.

    :param step: one of :data:`STEPS`.
    :param order: lower ones are called first.
    :param limit_s: it is ended after this time, s.
    :param command: the program; empty for a callable.
    :param number: which callable of the app's it is.
    """

    name: str
    step: str
    order: int = 0
    limit_s: float = 1.0
    command: Argv = ()
    number: int = -1

    def __post_init__(self) -> None:
        _name(self)
        _one_of(self, "step", STEPS)
        _limit(self)
        _command(self, "command")
        if type(self.order) is not int:
            raise _refuse(self, "order must be a whole number", "Lower ones are called first.")
        if bool(self.command) == (self.number >= 0):
            raise _refuse(self, "it has no command", "State the program and its arguments, as a list.")


@dataclass(frozen=True)
class Check:
    """A look at this gateway's health, now and then: a command, or a callable of the app's.

    :param every_s: from the end of one to the next, s.
    :param limit_s: it is ended after this time, s, and has failed.
    :param moves_role: while it fails here and not on the other gateway, this one is less healthy. Both roles must
        evaluate it alike.
    :param command: the program, which ends with 0 if all is well; empty for a callable.
    :param number: which callable of the app's it is.
    """

    name: str
    every_s: float = 5.0
    limit_s: float = 2.0
    moves_role: bool = False
    command: Argv = ()
    number: int = -1

    def __post_init__(self) -> None:
        _name(self)
        _limit(self)
        _limit(self, "every_s", LIMIT_LEAST_S, EVERY_MOST_S)
        _command(self, "command")
        if type(self.moves_role) is not bool:
            raise _refuse(self, "moves_role must be True or False", "Correct it.")
        if bool(self.command) == (self.number >= 0):
            raise _refuse(self, "it is neither a function nor a command", "Give one of the two.")


@dataclass(frozen=True)
class Statement:
    """All that the firmware states.

    :param runner: the command that loads the app and calls its callables; empty if there are none.
    """

    services: tuple[Service, ...] = ()
    hooks: tuple[Hook, ...] = ()
    checks: tuple[Check, ...] = ()
    runner: Argv = ()

    def __post_init__(self) -> None:
        for what, names in (
            ("Service", [one.name for one in self.services]),
            ("Hook", [f"{one.name} ({one.step})" for one in self.hooks]),
            ("Check", [one.name for one in self.checks]),
        ):
            if len(names) > STATED_MOST:
                raise ConfigError(f"More than {STATED_MOST} of the kind {what} are stated.", "State fewer.")
            for name in sorted(name for name in set(names) if names.count(name) > 1):
                raise ConfigError(f"{what} {name} is stated twice.", "Give each its own name.")

    def __bool__(self) -> bool:
        return bool(self.services or self.hooks or self.checks)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what :meth:`to_json` gave.

        :raises ConfigError: it is malformed.
        """
        try:
            told = json.loads(text)
            return cls(
                tuple(service_from(one) for one in told["services"]),
                tuple(_made(Hook, one) for one in told["hooks"]),
                tuple(_made(Check, one) for one in told["checks"]),
                tuple(str(part) for part in told["runner"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"What follows the role cannot be read: {error!r:.100}") from None


def service_from(told: object) -> Service:
    """Return a service as the host states it.

    :raises ConfigError: it cannot work; names the field.
    """
    return _made(Service, told)


def hook_from(told: object) -> Hook:
    """Return a hook that is a command, as the host states it.

    :raises ConfigError: it cannot work; names the field.
    """
    if isinstance(told, Mapping) and "number" in told:
        raise ConfigError("Hook: a field 'number' is not known.", "Register callables by HSMXCluster.hook().")
    return _made(Hook, told)


def stated_hook(told: object) -> Hook:
    """Return a hook in the form in which the agent passes it on.

    :raises ConfigError: it is malformed.
    """
    return _made(Hook, told)


def check_from(told: object) -> Check:
    """Return a check in the form in which the agent passes it on.

    :raises ConfigError: it is malformed.
    """
    return _made(Check, told)


def _made(kind: type[T], told: object) -> T:
    word = kind.__name__
    if not isinstance(told, Mapping):
        raise ConfigError(f"{word}: {told!r:.60} is not a mapping.", "State its fields by name.")
    known = {field.name for field in fields(kind)}
    for name in told:
        if name not in known:
            raise ConfigError(f"{word}: a field {name!r:.40} is not known.", f"Use {', '.join(sorted(known))}.")
    argvs: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    try:
        return kind(**argvs)
    except TypeError:
        missing = "name" if "name" not in told else "step"
        raise ConfigError(f"{word} {told.get('name', '')!r:.60}: {missing} is missing.", "State it.") from None


def _refuse(one: Any, problem: str, remedy: str) -> ConfigError:
    return ConfigError(f"{type(one).__name__} {one.name!r:.60}: {problem}.", remedy)


def _name(one: Any) -> None:
    if not isinstance(one.name, str) or not 0 < len(one.name) <= NAME_MOST or not one.name.isprintable():
        raise _refuse(one, f"its name must be printable and have 1 to {NAME_MOST} characters", "Choose another one.")


def _one_of(one: Any, field: str, allowed: Iterable[str]) -> None:
    if getattr(one, field) not in allowed:
        raise _refuse(one, f"{field} must not be {getattr(one, field)!r:.40}", f"Use one of {', '.join(allowed)}.")


def _limit(one: Any, field: str = "limit_s", least: float = LIMIT_LEAST_S, most: float = LIMIT_MOST_S) -> None:
    limit = getattr(one, field)
    if type(limit) not in (int, float) or not least <= limit <= most:
        raise _refuse(one, f"{field} must be from {least} to {most:.0f}", "It is a time in seconds.")


def _encodable(text: str) -> bool:
    try:
        return bool(os.fsencode(text) or not text)
    except UnicodeEncodeError:  # half a character, as JSON may hold it
        return False


def _command(one: Any, field: str) -> None:
    argv = getattr(one, field)
    if not isinstance(argv, tuple) or len(argv) > PARTS_MOST:
        raise _refuse(one, f"{field} must be a list of texts", "The program and its arguments; there is no shell.")
    for part in argv:
        if not isinstance(part, str) or len(part) > PART_MOST or "\0" in part or not _encodable(part):
            raise _refuse(one, f"{field} must be a list of texts", "The program and its arguments; there is no shell.")
    if argv and not argv[0].startswith("/"):
        raise _refuse(one, f"{field} must begin with an absolute path, not {argv[0]!r:.60}", "For example /usr/sbin/x.")
