"""Files of the PostgreSQL server, read and written by the server itself.

Only its own user may write them, and the one who asks may be another user, or a process without any right. So a
superuser's connection is all that is needed. A file is replaced as a whole or not at all, whatever crashes.
"""

from __future__ import annotations

import shlex
from hashlib import sha256

from psycopg import sql

from ..errors import RequestRefused
from .database import Connection, failures, one

#: Largest file that is read or written, bytes.
MAX_BYTES = 1024 * 1024

# What arrives may end early, when the server is killed: only the whole content ever gets the file's name.
_WRITE = """
umask 077
target=$(readlink -f -- "$1")
new=$target.hsmx_cluster
rm -f -- "$new"
trap 'rm -f -- "$new"' EXIT
base64 -d >"$new"
[ "$(sha256sum <"$new" | cut -c 1-64)" = "$2" ]
if [ -e "$target" ]; then chmod --reference="$target" -- "$new"; fi
sync -- "$new"
mv -f -- "$new" "$target"
sync -- "$(dirname -- "$target")"
"""


def read_file(connection: Connection, path: str) -> bytes | None:
    """Return the content of a file of the server's machine, None if there is none.

    :raises DatabaseFailure: the server may not read it.
    :raises RequestRefused: it is larger than :data:`MAX_BYTES`.
    """
    with failures(f"PostgreSQL cannot read {path}"):
        content = one(connection, "SELECT pg_read_binary_file(%s, 0, %s, true)", path, MAX_BYTES + 1)
    if content is None:
        return None
    if len(content) > MAX_BYTES:
        raise RequestRefused(f"{path} is larger than {MAX_BYTES} bytes.", "See what is in it.")
    return bytes(content)


def write_file(connection: Connection, path: str, content: bytes) -> None:
    """Replace a file of the server's machine; a new one may be read by the server's user only.

    The content is in no statement: PostgreSQL's log may keep those, and it may be a private key.

    :param path: absolute; a symbolic link stays, the file that it names is replaced.
    :raises DatabaseFailure: the server may not write it; the old file is then unchanged.
    :raises RequestRefused: the path is no plain absolute path, or the content is too large.
    """
    if not path.startswith("/") or not path.isprintable():
        raise RequestRefused(f"{path!r:.100} is no absolute path.", "See PostgreSQL's settings.")
    if len(content) > MAX_BYTES:
        raise RequestRefused(f"{path} would be larger than {MAX_BYTES} bytes.", "See what is in it.")
    program = shlex.join(["sh", "-euc", _WRITE, "sh", path, sha256(content).hexdigest()])
    with failures(f"PostgreSQL cannot write {path}"), connection.transaction():
        connection.execute("CREATE TEMPORARY TABLE hsmx_cluster_file (content bytea) ON COMMIT DROP")
        with connection.cursor() as cursor:
            with cursor.copy("COPY pg_temp.hsmx_cluster_file FROM STDIN") as copy:
                copy.write_row((content,))
            cursor.execute(sql.SQL(
                "COPY (SELECT translate(encode(content, 'base64'), E'\\n', '') FROM pg_temp.hsmx_cluster_file) "
                "TO PROGRAM {}").format(sql.Literal(program)))


def data_file(connection: Connection, name: str) -> str:
    """Return the path of a file in the server's data directory."""
    return f"{one(connection, 'SHOW data_directory')}/{name}"
