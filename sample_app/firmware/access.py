"""Who may do what: two demo users, kept in the session cookie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from flask import session

Action = Literal["view", "administer"]


@dataclass(frozen=True)
class User:
    """A demo user; the password is printed on the login page."""

    name: str
    password: str
    title: str
    administers: bool


USERS = {
    user.name: user
    for user in (
        User("admin", "admin", "Administrator", administers=True),
        User("viewer", "viewer", "View only", administers=False),
    )
}


def current_user() -> User | None:
    """Return the user who is logged in, or None."""
    return USERS.get(str(session.get("user", "")))


def permits(action: str) -> bool:
    """Tell whether the present user may do an action, ``view`` or ``administer``. This is what the extension asks."""
    user = current_user()
    return user is not None and (user.administers or action == "view")


def local_target(target: str) -> str:
    """Return the path to go to after login; anything but a path on this gateway becomes the dashboard."""
    parts = urlsplit(target)
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if plain and not parts.netloc and not parts.scheme else "/"
