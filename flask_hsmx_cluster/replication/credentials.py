"""What ``flask cluster database prepare`` leaves for the agent: how to log in to this gateway's own database."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import ConfigError

#: Largest file of credentials, bytes.
MAX_CREDENTIALS = 64 * 1024


@dataclass(frozen=True)
class Credentials:
    """What the replicator needs to use this gateway's database.

    :param dsn: libpq's connection string of the role ``hsmx_cluster_agent``, with its password.
    :param certificate: the server's certificate, PEM, for the other gateway to pin.
    """

    dsn: str = field(repr=False)
    certificate: str

    @classmethod
    def load(cls, path: Path) -> Credentials | None:
        """Return what :meth:`save` wrote, None if there is nothing.

        :raises ConfigError: the file cannot be read.
        """
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                data = json.loads(file.read(MAX_CREDENTIALS))
            if not (isinstance(data, dict) and data.keys() == {"dsn", "certificate"}
                    and all(isinstance(value, str) for value in data.values())):
                raise ValueError("it has other content")
            return cls(**data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path} cannot be read: {error}", "Remove it, and prepare the database again.") from None

    def save(self, path: Path) -> None:
        """Write a file that only the owner of its directory may read.

        :raises ConfigError: the present user may not.
        """
        new = path.with_name(f"{path.name}.new")
        try:
            owner = path.parent.stat()
            new.unlink(missing_ok=True)
            # The directory's owner is less trusted than root, who may be the one that writes.
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w") as file:
                json.dump(asdict(self), file)
                file.flush()
                if os.geteuid() == 0:
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
                os.fsync(descriptor)
            new.replace(path)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}",
                              "Prepare the database as root, or name another file.") from None
