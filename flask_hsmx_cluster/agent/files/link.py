"""The agent's line to the process of files."""

from __future__ import annotations

from ..child import Child, ChildDown


class FilesDown(ChildDown):
    """The process of files does not run, or did not answer in time."""

    code = "files_down"


class FilesLink(Child):
    """Starts the process of files and talks to it."""

    MODULE = "flask_hsmx_cluster.files"
    NAME = WHAT = "The process of files"
    LOOK = "It is started again by itself; see the agent's log."
    Down = FilesDown
