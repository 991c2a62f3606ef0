"""What is never sent, even inside a declared directory: by name, the same for rsync and for our own reading of a tree.

A pattern is the name of a file or directory at any depth, in which ``*`` stands for any characters and ``?`` for one;
upper and lower case are alike. What is in an excluded directory is excluded. The gateway that sends enforces it; the
one that receives leaves what it has itself under such names alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

#: Where files arrive before they are renamed: rsync's temporary ones, and those that are whole and wait.
TEMPORARY, STAGING = ".hsmx-temp", ".hsmx-staging"
#: Backups, certificates with their keys, and the licence are each gateway's own.
NEVER = (
    "backup", "backups", "*.backup", "*.bak", "*.bkp",
    "*.pem", "*.key", "*.crt", "*.cer", "*.der", "*.csr", "*.p7b", "*.p12", "*.pfx", "*.jks",
    "ssl", "tls", "certs", "certificates", "letsencrypt", "id_rsa*", "id_ed25519*", "id_ecdsa*", ".ssh",
    "licence", "license", "licence.*", "license.*", "*.lic", "*.licence", "*.license",
    TEMPORARY, STAGING,
)  # fmt: skip


def check_pattern(pattern: object) -> str:
    """Return what is wrong with a pattern; empty if it can be used."""
    if not isinstance(pattern, str) or not pattern.isprintable() or not 0 < len(pattern) <= 200:
        return "must be printable and have 1 to 200 characters"
    if pattern != pattern.strip() or re.search(r"[\[\]\\/]", pattern):
        return "must be a name, in which * and ? stand for others; without brackets, slashes and spaces at its ends"
    if "**" in pattern or pattern in (".", ".."):
        return "is no name"
    return ""


def rsync_rules(patterns: Iterable[str]) -> str:
    """Return the text of a file for rsync's option ``exclude-from``."""
    return "".join(f"- {_any_case(pattern)}\n" for pattern in (*NEVER, *patterns))


def path_rules(paths: Iterable[bytes], kind: bytes = b"-") -> bytes:
    """Return rules for single paths of a tree: links, and whatever else is not copied there.

    :param kind: ``-``: they are not sent; ``P``: they are not deleted where files arrive.
    """
    return b"".join(b"%b /%b\n" % (kind, _literal(path)) for path in sorted(paths))


def excluder(patterns: Iterable[str]) -> re.Pattern[bytes]:
    """Return what matches, as a whole, each name that is not sent."""
    wild = {"*": b".*", "?": b"."}
    parts = (
        b"".join(wild.get(character) or re.escape(os.fsencode(character)) for character in pattern)
        for pattern in (*NEVER, *patterns)
    )
    return re.compile(b"|".join(parts), re.IGNORECASE | re.DOTALL)


def _literal(path: bytes) -> bytes:
    """Return a pattern for one path; for a line break, which a line cannot hold, stands any character."""
    if re.search(rb"[*?[\r\n]", path):  # only beside these a backslash means something to rsync
        path = re.sub(rb"[*?[\\]", rb"\\\g<0>", path)
    return re.sub(rb"[\r\n]", b"?", path)


def _any_case(pattern: str) -> str:
    return "".join(
        f"[{one.lower()}{one.upper()}]" if one.isascii() and one.isalpha() else one for one in pattern
    )
