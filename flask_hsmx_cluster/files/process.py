"""The process of files: watches the declared directories, knows their digests, and pulls on a passive gateway.

It is asked on the patient line. On the prompt one it says at once what has changed, and that a pass has ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ..agent_line import Line, lines_to_agent
from ..errors import ClusterError
from ..network.clock import boot_time_s
from .declare import Files, Tree
from .manifest import Manifest, Summary
from .paths import tellable
from .places import Peer, Places
from .puller import Puller
from .rsync import Source, daemon
from .ssh import remote_shell
from .watch import Changes, Watch

log = logging.getLogger(__name__)
#: After a change it is waited this long for more of them, s: a saved file is several events.
SETTLE_S = 0.01
#: The whole of each tree is looked at again after this time, s: a change may go unnoticed.
READ_EVERY_S = 300.0
#: Files are read in the background, beside a heartbeat.
NICENESS = 5
#: A daemon that has not ended by then is ended by force, s.
ENDS_WITHIN_S = 2.0
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_LOWER = 47, 3
_CAP_NET_ADMIN, _CAP_NET_RAW = 12, 13


class Process:
    """Serves the agent until it goes."""

    def __init__(self, prompt: Line, patient: Line) -> None:
        self._prompt, self._patient = prompt, patient
        self._incarnation = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._revision = 0
        self._files: Files | None = None
        self._manifests: dict[str, Manifest] = {}
        self._summaries: dict[str, Summary] = {}
        self._watch = Watch()
        self._anew = threading.Event()
        self._known = threading.Event()  # what is declared has been read once
        self._places: Places | None = None
        self._puller: Puller | None = None
        self._setup: dict[str, Any] = {}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def run(self) -> None:
        """Serve until the agent has closed its lines."""
        threading.Thread(target=self._watch_or_end, name="watch", daemon=True).start()
        while (message := self._patient.read()) is not None:
            self._patient.write({"id": message["id"], "verb": message["verb"], **self._carry_out(message)})

    def _carry_out(self, message: Mapping[str, Any]) -> dict[str, Any]:
        verbs: dict[str, Callable[..., dict[str, Any]]] = {
            "configure": self._configure, "look": self._look, "pull": self._pull, "allow": self._allow,
            "forget": self._forget,
        }
        try:
            return {"ok": True, "result": verbs[message["verb"]](**message["arguments"])}
        except ClusterError as error:
            return {"ok": False, "error": error.as_dict()}
        except Exception as error:
            log.exception("%s failed", message["verb"])
            return {"ok": False, "error": ClusterError(f"{message['verb']}: {error}"[:300]).as_dict()}

    # -- verbs ------------------------------------------------------------------------------------------------

    def _configure(
        self, files: str, state_dir: str, role: str, way: str, own: list[str], peer: dict[str, Any]
    ) -> dict[str, Any]:
        """Take over what is declared, the role, the way to travel and what the other gateway told.

        :param own: this gateway's addresses of the links.
        """
        declared = Files.from_json(files)
        told = Peer(peer["key"], peer["host_key"], peer["secret"], tuple(peer["addresses"]))
        rsync = shutil.which("rsync")
        if rsync is None:
            raise ClusterError("rsync is not installed: files are not copied.", "Install rsync.")
        self._places = self._places or Places(state_dir)
        key, secret = self._places.make_keys()
        self._places.write(declared.trees, told, declared.ssh_port, way == "ssh", rsync)
        if self._puller is None:
            self._puller = Puller(rsync, self._places, self._files_here, self._pulled)
            threading.Thread(target=self._puller.run, name="pull", daemon=True).start()
        if declared != self._files:
            with self._lock:
                self._files = declared
                self._manifests = {tree.name: Manifest(tree) for tree in declared.trees}
                self._known.clear()
            self._anew.set()
        self._setup = {"way": way, "role": role}
        self._puller.configure(declared.trees, role == "passive")
        self._keep_daemons(rsync, own if way == "rsync" and told.addresses else [], declared.rsync_port)
        return {"key": key, "secret": secret}

    def _forget(self, state_dir: str) -> dict[str, Any]:
        """Let nobody in any more: this gateway is in no cluster."""
        self._keep_daemons("", [], 0)
        if self._puller is not None:
            self._puller.configure((), passive=False)
        Places(state_dir).forget()
        return {}

    def _keep_daemons(self, rsync: str, addresses: list[str], port: int) -> None:
        for address in [*self._daemons]:
            if address not in addresses or self._daemons[address].poll() is not None:
                former = self._daemons.pop(address)
                former.terminate()
                try:
                    former.wait(ENDS_WITHIN_S)
                except subprocess.TimeoutExpired:
                    former.kill()
                    former.wait()
        for address in addresses:
            if address not in self._daemons and self._places is not None:
                argv = daemon(rsync, str(self._places.serve_configuration(True)), address, port)
                self._daemons[address] = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", "--", *argv], stdin=subprocess.DEVNULL
                )

    def _look(self) -> dict[str, Any]:
        return {
            "incarnation": self._incarnation,
            "revision": self._revision,
            "trees": {name: asdict(one) for name, one in list(self._summaries.items())},
            "unwatched": len(self._watch.unwatched),
            "now": boot_time_s(),
            **(self._puller.as_dict() if self._puller else {}),
        }

    def _pull(
        self, routes: list[list[str]], trees: dict[str, list[str] | None], repair: bool = False
    ) -> dict[str, Any]:
        """Pull soon.

        :param routes: own and the other gateway's address of each link, the best first.
        """
        if self._puller is None or self._places is None or self._files is None:
            raise ClusterError("Files are not set up yet.")
        files, directory = self._files, str(self._places.directory)
        ssh = shutil.which("ssh")
        sources = []
        for local, host in routes:
            if self._setup["way"] == "ssh":
                if ssh is None:
                    raise ClusterError("ssh is not installed: files are not copied.", "Install openssh-client.")
                sources.append(Source(host, shell=remote_shell(ssh, directory, files.ssh_port, local)))
            else:
                password = str(self._places.password)
                sources.append(Source(host, port=files.rsync_port, local=local, password_file=password))
        self._puller.want(sources, trees, repair)
        return {}

    def _allow(self, tree: str, deletions: int) -> dict[str, Any]:
        if self._puller is not None:
            self._puller.allow(tree, deletions)
        return {}

    # -- what is here -----------------------------------------------------------------------------------------

    def _files_here(self, tree: str) -> int:
        """Return how many files a tree has here; until it has been read it is waited."""
        self._known.wait()
        found = self._summaries.get(tree)
        return found.files if found else 0

    def _pulled(self, tree: str) -> None:
        with self._lock:  # what came is noted before it is said that it has come
            self._note(self._watch.take())
        self._tell(event="pulled", tree=tree)

    def _watch_or_end(self) -> None:
        """Watch; without it nothing of what is told would be true, so the agent is to start another process."""
        try:
            self._keep_watch()
        except BaseException:
            log.exception("The files cannot be watched any more")
            os._exit(1)

    def _keep_watch(self) -> None:
        read_at = float("-inf")
        while True:
            if self._anew.is_set() or boot_time_s() - read_at > READ_EVERY_S:
                self._anew.clear()
                read_at = boot_time_s()
                with self._lock:
                    self._read_all()
            if self._watch.wait(1.0):
                self._anew.wait(SETTLE_S)
                with self._lock:
                    self._note(self._watch.take())

    def _read_all(self) -> None:
        files, before = self._files, dict(self._summaries)
        for tree in files.trees if files else ():
            self._read(tree.name)
        if files:
            self._known.set()
        changed = [name for name, one in self._summaries.items() if one != before.get(name)]
        self._say(dict.fromkeys(changed))

    def _read(self, name: str) -> None:
        """Look at a whole tree, and watch each directory of it, before what is in it is read."""
        tree = next(one for one in self._files.trees if one.name == name) if self._files else None
        if tree is None:
            return
        manifest, root = self._manifests[name], os.fsencode(tree.path)
        known: set[bytes] = set()
        while True:  # until no directory has come meanwhile
            known |= manifest.directories | {b""}
            for directory in known:
                self._watch.add(name, root, directory, manifest.is_excluded)
            manifest.read()
            if manifest.directories <= known:
                break
        self._leave_out(tree)
        found = manifest.summary()
        self._summaries[name] = found if os.path.isdir(root) else Summary()

    def _leave_out(self, tree: Tree) -> None:
        """Have rsync keep to what is copied, before the other gateway is told to pull."""
        if self._places is not None:
            self._places.leave_out(tree, self._manifests[tree.name].left_out)

    def _note(self, changes: dict[str, Changes]) -> None:
        """Take note of what the kernel said, and say it on."""
        told: dict[str, set[bytes] | None] = {}
        for tree in self._files.trees if self._files else ():
            name, manifest = tree.name, self._manifests[tree.name]
            one = changes.get(name)
            if one is None:
                continue
            if one.whole:
                before = self._summaries.get(name), manifest.directories
                self._read(name)
                if (self._summaries.get(name), manifest.directories) != before:
                    told[name] = None
                continue
            found = manifest.update(one.touched | manifest.complete(one.created - one.touched))
            self._leave_out(tree)
            if found:
                self._summaries[name] = manifest.summary()
                told[name] = found if all(map(manifest.has, found)) else None  # what went is found by a whole pass
        self._say(told)

    def _say(self, changed: Mapping[str, set[bytes] | None]) -> None:
        if not changed:
            return
        self._revision += 1
        if self._setup.get("role") == "active":
            trees = {name: tellable(paths) for name, paths in changed.items()}
            self._tell(event="changed", incarnation=self._incarnation, revision=self._revision, trees=trees)

    def _tell(self, **message: Any) -> None:
        with contextlib.suppress(OSError):  # the agent has gone: whoever reads notices
            self._prompt.write(message)


def main() -> None:
    lines = lines_to_agent()
    os.umask(0o002)  # the firmware's user shares the group, and is to change what has come
    os.nice(NICENESS)
    libc = ctypes.CDLL(None)
    for capability in (_CAP_NET_ADMIN, _CAP_NET_RAW):  # neither rsync nor ssh needs the agent's
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_LOWER, capability, 0, 0)
    Process(*lines).run()
    os._exit(0)
