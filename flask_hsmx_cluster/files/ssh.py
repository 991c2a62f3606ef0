"""The text of OpenSSH's files: who may log in to pull, and whose host key is believed.

The agent's user logs in to the system's own sshd. Its key may do one thing only: start rsync as a read-only daemon with
the configuration that this gateway wrote. That holds whatever the other gateway asks for.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from ..errors import RequestRefused

#: Kinds of keys that are taken.
_KEY = re.compile(r"(ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa) ([A-Za-z0-9+/]{40,2000}={0,2})", re.ASCII)
#: Where the socket of an open connection is; ssh puts 40 characters in place of %C, and 17 more behind it.
_CONTROL, _CONTROL_MORE = "/to-%C", 55
_SOCKET_PATH_MOST = 107


def public_key(text: object) -> str:
    """Return kind and key of a public key, without its comment.

    :raises RequestRefused: it is none.
    """
    found = _KEY.match(text) if isinstance(text, str) else None
    if found is None or not (isinstance(text, str) and re.fullmatch(r"(?: [^\r\n]*)?\n?", text[found.end() :])):
        raise RequestRefused("This is not a public key of ssh.", "Are both gateways up to date?")
    return f"{found[1]} {found[2]}"


def serve_command(rsync: str, configuration: str) -> str:
    """Return the one command that a login may run, for a shell."""
    return shlex.join([rsync, "--server", "--daemon", f"--config={configuration}", "."])


def authorized_keys(key: str, addresses: Sequence[str], command: str) -> str:
    """Return the text of ``authorized_keys``.

    :param key: the other gateway's public key; empty: nobody may log in.
    :param addresses: from where it may come.
    :param command: what it runs, whatever it asks for.
    """
    if not key or not addresses:
        return ""
    quoted = command.replace("\\", "\\\\").replace('"', '\\"')
    return f'restrict,from="{",".join(addresses)}",command="{quoted}" {key} hsmx-cluster\n'


def known_hosts(key: str, addresses: Sequence[str], port: int) -> str:
    """Return the text of ``known_hosts``: the other gateway's key at each of its addresses, and no other."""
    names = (address if port == 22 else f"[{address}]:{port}" for address in addresses)
    return "".join(f"{name} {key}\n" for name in names) if key else ""


def remote_shell(ssh: str, directory: str, port: int, local: str) -> str:
    """Return the command by which rsync reaches the other gateway.

    :param directory: where key and known hosts are.
    :param local: own address to go out from.
    """
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityFile": f"{directory}/key",
        "UserKnownHostsFile": f"{directory}/known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "PreferredAuthentications": "publickey",
        "ConnectTimeout": "3",
        "ServerAliveInterval": "1",
        "ServerAliveCountMax": "3",
        "ForwardAgent": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "LogLevel": "ERROR",
    }
    # A connection that is there already saves a handshake, which takes longer than most passes.
    if len(f"{directory}{_CONTROL}") + _CONTROL_MORE < _SOCKET_PATH_MOST:
        options |= {"ControlMaster": "auto", "ControlPath": f"{directory}{_CONTROL}", "ControlPersist": "90"}
    parts = [ssh, "-F", "none", "-T", "-p", str(port), *(["-b", local] if local else [])]
    # rsync splits this text itself, by spaces and quotation marks.
    return " ".join([*parts, *(f"-o '{name}={value}'" for name, value in options.items())])
