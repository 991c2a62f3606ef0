"""Wall clocks of single processes, by Debian's libfaketime. The machine's own clock is never touched.

It is preloaded by ``env`` after ``setpriv`` has changed the user: preloaded earlier, while the process is still root,
it would make the semaphore by which it knows this process again as root, and then may not open it as another user. The
loader does not refuse: a program that has its capabilities as ambient ones is not taken for a set-user-id one. The
monotonic and the boot clock stay true; ``preload/sitecustomize.py`` says what that takes. Without the setting
``FORCE_MONOTONIC_FIX`` waiting threads of Python would spin, and the agent take thirty times its processor time.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sample_app.lab import Gateway, LabError
from sample_app.lab.privileges import AGENT_UID, GROUP, POSTGRES_UID

from .stacks import PRELOAD

_NAMES = {AGENT_UID: "agent", POSTGRES_UID: "database"}


def library() -> Path | None:
    """Return libfaketime for programs with threads; None if it is not installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


def start_with_a_clock_of_its_own(gateway: Gateway, uid: int) -> None:
    """Let the programs of a user be started with a clock that :func:`step` moves; without the library, do nothing."""
    if (found := library()) is None:
        return
    step(gateway, uid, 0)
    gateway.started_by[uid] = (
        "env", f"LD_PRELOAD={found}", f"FAKETIME_TIMESTAMP_FILE={_file(gateway, uid)}", "FAKETIME_CACHE_DURATION=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_FORCE_MONOTONIC_FIX=0",
        PRELOAD,
    )


def step(gateway: Gateway, uid: int, offset_s: int) -> None:
    """Let the clock of a user's programs be that far from the machine's, within a second.

    :raises LabError: libfaketime is not installed.
    """
    if library() is None:
        raise LabError("libfaketime is not installed (Debian: libfaketime)")
    new = _file(gateway, uid).with_suffix(".new")
    new.write_text(f"{offset_s:+d}\n")
    os.chown(new, uid, GROUP)
    new.replace(_file(gateway, uid))


def forget() -> None:
    """Remove what programs that were killed have left: a program of another user with the same id would stumble."""
    for pattern in ("faketime_shm_*", "sem.faketime_sem_*"):
        for path in Path("/dev/shm").glob(pattern):
            with contextlib.suppress(OSError):
                if path.stat().st_uid in _NAMES and not Path("/proc", path.name.rpartition("_")[2]).exists():
                    path.unlink()


def _file(gateway: Gateway, uid: int) -> Path:
    return gateway.directory / f"clock-of-{_NAMES[uid]}"
