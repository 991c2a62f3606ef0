"""What was told and what waits, kept over a restart of the agent: a small file in the state directory.

No secret is in it. If it cannot be read, nothing was told yet; if it cannot be written, the agent goes on without.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...network.clock import boot_time_s, machine_boot_id
from ...notify.policy import Voice

log = logging.getLogger(__name__)

FILE_NAME = "notifications.json"
#: More than a file of ours has, bytes.
MOST = 8 * 1024 * 1024


@dataclass
class Memory:
    """What survives the agent.

    :param voices: by name of the target.
    :param seen: id of the newest event that was taken up; None: none was.
    """

    path: Path
    voices: dict[str, Voice] = field(default_factory=dict)
    seen: int | None = None
    _written: str = ""

    @classmethod
    def load(cls, directory: str) -> Memory:
        """Return what was kept in the state directory."""
        path = Path(directory) / FILE_NAME
        try:
            with path.open("rb") as file:
                data = json.loads(file.read(MOST))
            now, passed_s = boot_time_s(), _passed_s(data)
            voices = {str(name): Voice.from_dict(one, now, passed_s) for name, one in data["voices"].items()}
            return cls(path, voices, None if data["seen"] is None else int(data["seen"]))
        except FileNotFoundError:
            return cls(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.warning("What was told before cannot be read, alarms are told anew: %s", error)
            return cls(path)

    def save(self) -> None:
        """Write what is new."""
        now = boot_time_s()
        told = {name: voice.to_dict(now) for name, voice in self.voices.items()}
        content = json.dumps([_without_ages(told), self.seen])
        if content == self._written:
            return
        when = {"boot_id": machine_boot_id(), "boot_s": now, "wall": datetime.now(UTC).isoformat()}
        data = {**when, "seen": self.seen, "voices": told}
        fresh = self.path.with_suffix(".new")
        try:
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w") as file:
                json.dump(data, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
            self._written = content
        except OSError as error:
            with suppress(OSError):
                fresh.unlink()
            log.warning("What was told cannot be kept on disk: %s", error)


def _passed_s(data: Mapping[str, Any]) -> float:
    """Return how long ago a file was written, s. Over a boot only the wall clock can tell."""
    if data["boot_id"] == machine_boot_id():
        return max(0.0, boot_time_s() - float(data["boot_s"]))
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(data["wall"])).total_seconds())


def _without_ages(told: Mapping[str, Any]) -> Any:
    return {name: {**one, "said": [{**said, "age_s": 0} for said in one["said"]]} for name, one in told.items()}
