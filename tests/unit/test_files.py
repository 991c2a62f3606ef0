"""Files that both gateways have: what is declared, what is never sent, what is believed of the other gateway."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hsmx_cluster.agent.files import told
from flask_hsmx_cluster.agent.files.showing import Seen, tree_state
from flask_hsmx_cluster.config import Config
from flask_hsmx_cluster.errors import ConfigError, RequestRefused
from flask_hsmx_cluster.files import exclude, plan, rsync, ssh
from flask_hsmx_cluster.files.declare import Files, Tree
from flask_hsmx_cluster.files.manifest import Manifest
from flask_hsmx_cluster.files.paths import is_inside, tellable
from flask_hsmx_cluster.files.places import ASIDES_MOST, Peer, Places
from flask_hsmx_cluster.files.watch import Watch
from flask_hsmx_cluster.files.way import way

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmkCb1ULZ1jVLcOB0eS9IU0gDqzvYIQbYyGxQb0pZcM"
needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="not installed: rsync")


def configured(*trees: dict[str, Any], **more: Any) -> Config:
    return Config.load({"HSMX_CLUSTER_FIRMWARE_VERSION": "5.3", "HSMX_CLUSTER_FILES": list(trees), **more})


@pytest.mark.parametrize(
    ("trees", "more", "why"),
    [
        ([{"name": "a"}], {}, "path is missing"),
        ([{"name": "A b", "path": "/srv/a"}], {}, "small letters"),
        ([{"name": "global", "path": "/srv/a"}], {}, "taken"),
        ([{"name": "a", "path": "srv/a"}], {}, "absolute"),
        ([{"name": "a", "path": "/srv/../etc"}], {}, "without"),
        ([{"name": "a", "path": "/srv/a\n[b]"}], {}, "printable"),
        ([{"name": "a", "path": "/etc"}], {}, "system's own"),
        ([{"name": "a", "path": "/proc/1"}], {}, "system's own"),
        ([{"name": "a", "path": "/etc/ssl/site"}], {}, "ssl is never sent"),
        ([{"name": "a", "path": "/srv/firmware/Backups"}], {}, "Backups is never sent"),
        ([{"name": "a", "path": "/srv/a", "exclude": ["a/b"]}], {}, "must be a name"),
        ([{"name": "a", "path": "/srv/a", "exclude": "*.tmp"}], {}, "must be a list"),
        ([{"name": "a", "path": "/srv/a", "file_mb": 0}], {}, "file_mb"),
        ([{"name": "a", "path": "/srv/a", "mode": 1}], {}, "'mode' is not known"),
        ([{"name": "a", "path": "/srv/a"}, {"name": "a", "path": "/srv/b"}], {}, "twice"),
        ([{"name": "a", "path": "/srv/a"}, {"name": "b", "path": "/srv/a/b"}], {}, "lies in"),
        ([{"name": "a", "path": "/var/lib/hsmx-cluster/x"}], {}, "HSMX_CLUSTER_STATE_DIR"),
        ([{"name": "a", "path": "/var/lib"}], {}, "HSMX_CLUSTER_STATE_DIR"),
        ([{"name": "a", "path": "/srv/a"}], {"HSMX_CLUSTER_SSH_PORT": 80}, "HSMX_CLUSTER_SSH_PORT is 80"),
        ([{"name": "a", "path": "/srv/a"}], {"HSMX_CLUSTER_RSYNC_PORT": 22}, "HSMX_CLUSTER_RSYNC_PORT is the same"),
    ],
)
def test_what_cannot_work_is_refused_and_the_key_is_named(
    trees: list[dict[str, Any]], more: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match="HSMX_CLUSTER_") as raised:
        configured(*trees, **more)
    assert why in raised.value.message, raised.value.message


def test_no_link_leads_into_the_state_directory(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "portal").symlink_to("state")
    with pytest.raises(ConfigError, match="lie in one another"):
        configured({"name": "a", "path": str(tmp_path / "portal")}, HSMX_CLUSTER_STATE_DIR=str(tmp_path / "state"))


def test_what_is_declared_reaches_the_agent_as_it_is() -> None:
    files = configured({"name": "portal", "path": "/srv/portal", "exclude": ["*.tmp"]}).files
    assert Files.from_json(files.to_json()) == files and files.trees[0].exclude == ("*.tmp",)
    with pytest.raises(ConfigError):
        Files.from_json(json.dumps({"trees": [{"name": "x", "path": "/etc"}]}))


@pytest.mark.parametrize(
    "name", ["server.PEM", "License", "licence.txt", "backup", "x.bak", "id_rsa.pub", ".ssh", "a.tmp"]
)
def test_these_names_are_never_sent(name: str) -> None:
    assert exclude.excluder(["*.tmp"]).fullmatch(os.fsencode(name))


def test_other_names_are_sent() -> None:
    for name in ("index.html", "licences.html", "pem", "keyboard.js", "backups.html", "a.tmpx", "x\nkey"):
        assert not exclude.excluder(["*.tmp"]).fullmatch(os.fsencode(name)), name


@needs_rsync
def test_rsync_leaves_out_what_our_own_reading_does(tmp_path: Path) -> None:
    names = ["Server.pem", "a.TMP", "b.html", "ab.x", "a+b.x", "q?", "#x", "; y", "! z", "- w", "(v)", "a.b"]
    names.append("a\nb.key")
    patterns = ("*.tmp", "a?.x", "(v)", "#x", "!*")
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    for name in names:
        (source / "sub" / name).write_text("x")
    (tmp_path / "rules").write_text(exclude.rsync_rules(patterns))
    subprocess.run(["rsync", "-r", f"--exclude-from={tmp_path}/rules", f"{source}/", f"{tmp_path}/copy/"], check=True)
    leaves_out = exclude.excluder(patterns)
    expected = {name for name in names if not leaves_out.fullmatch(os.fsencode(name))}
    assert {path.name for path in (tmp_path / "copy" / "sub").iterdir()} == expected
    assert {"b.html", "; y", "- w", "q?", "a.b", "a+b.x"} == expected


@given(st.text(max_size=60))
def test_a_path_that_is_believed_stays_in_its_tree(path: str) -> None:
    if is_inside(path):
        joined = os.path.normpath(f"/tree/{path}")
        assert joined == f"/tree/{path}" and "\0" not in path


def test_hostile_paths() -> None:
    for path in ("", "/etc/passwd", "..", "a/../../b", "a//b", "./a", "a/", "a\0b", "x" * 2000, "\udc80", None, 7):
        assert not is_inside(path), path
    assert is_inside("a name\nin two lines") and is_inside("..a/b..")
    assert tellable({b"a", b"\xff"}) is None and tellable(None) is None and tellable({b"b", b"a"}) == ["a", "b"]
    assert tellable({b"%d" % number for number in range(201)}) is None


def test_what_the_other_gateway_tells_is_taken_in_one_form_only() -> None:
    good = {"key": f"{KEY} somebody", "host_key": "", "secret": "ab" * 24}
    assert told.facts(good) == {**good, "key": KEY}
    for bad in ({**good, "key": 'restrict ssh-ed25519 AAAA'}, {**good, "key": f"{KEY}\nssh-rsa AAAA"},
                {**good, "secret": "x:y\nroot:z"}, {**good, "host_key": "* ssh-rsa"}, {}, None, []):  # fmt: skip
        with pytest.raises(RequestRefused):
            told.facts(bad)
    changed = {"incarnation": "x", "revision": 3, "trees": {"portal": ["a", "../b"], "other": ["a"]}}
    assert told.changes(changed) == ("x", 3, {"portal": None, "other": ["a"]}), "one that leads out stands for all"
    for worse in ({**changed, "revision": "3"}, {**changed, "trees": []}, {**changed, "trees": {1: []}}, None):
        with pytest.raises(RequestRefused):
            told.changes(worse)
    assert told.trees({"a": "ab" * 32, "b": ""}) == {"a": "ab" * 32, "b": ""}
    for digests in ({"a": "xyz"}, {"a": None}, [], None):
        with pytest.raises(RequestRefused):
            told.trees(digests)


def test_who_may_log_in_and_what_for() -> None:
    command = ssh.serve_command("/usr/bin/rsync", '/srv/a "b"/ssh.conf')
    line = ssh.authorized_keys(KEY, ["192.0.2.1", "192.0.2.2"], command)
    assert line.startswith('restrict,from="192.0.2.1,192.0.2.2",command="/usr/bin/rsync --server --daemon ')
    assert line.endswith(f'" {KEY} hsmx-cluster\n') and '\\"b\\"' in line and line.count("\n") == 1
    assert ssh.authorized_keys("", ["192.0.2.1"], command) == "" == ssh.authorized_keys(KEY, [], command)
    assert ssh.known_hosts(KEY, ["192.0.2.1"], 22) == f"192.0.2.1 {KEY}\n"
    assert ssh.known_hosts(KEY, ["2001:db8::1"], 2222) == f"[2001:db8::1]:2222 {KEY}\n"
    shell = ssh.remote_shell("/usr/bin/ssh", "/var/lib/hsmx-cluster/files", 22, "192.0.2.2")
    assert "-b 192.0.2.2" in shell and "'StrictHostKeyChecking=yes'" in shell and "ControlPersist" in shell
    assert "ControlPersist" not in ssh.remote_shell("ssh", f"/srv/{'x' * 60}", 22, ""), "the socket's path is too long"


def test_what_the_daemon_gives_and_to_whom() -> None:
    text = rsync.serve_text([Tree("a", "/srv/a")], {"a": "/x/a.rules"}, ["192.0.2.2"], "/x/lock", "/x/secrets")
    for line in ("read only = yes", "hosts allow = 192.0.2.2", "hosts deny = *", "secrets file = /x/secrets",
                 "exclude from = /x/a.rules", "munge symlinks = yes", "list = no"):  # fmt: skip
        assert line in text.splitlines()
    refused = next(line for line in text.splitlines() if line.startswith("refuse options"))
    assert {"copy-links", "copy-unsafe-links", "copy-dirlinks"} <= set(refused.split())
    nobody = rsync.serve_text([Tree("a", "/srv/a")], {"a": "/x"}, [], "/x/lock")
    assert "hosts allow = none.invalid" in nobody and "secrets" not in nobody


def test_a_pull_asks_for_nothing_dangerous() -> None:
    source = rsync.Source("2001:db8::1", shell="ssh -T")
    argv = rsync.pull("rsync", source, Tree("a", "/srv/a"), "/x/rules", "/x/own", delete_most=5, aside="/x/aside")
    assert argv[-2:] == ["[2001:db8::1]::a/", "/srv/a/"] and "--fsync" in argv and "--delay-updates" in argv
    assert {"--no-links", "--no-devices", "--no-specials", "--no-perms", "--max-delete=5", "--backup"} <= set(argv)
    dry = rsync.pull("rsync", source, Tree("a", "/srv/a"), "/x/rules", "/x/own", dry=True, aside="/x/aside")
    assert "--dry-run" in dry and "--backup" not in dry and "--delete-delay" not in dry
    daemon = rsync.Source("192.0.2.1", password_file="/x/p")
    password = rsync.pull("rsync", daemon, Tree("a", "/srv/a"), "/x/rules", "/x/own")
    assert "--contimeout=3" in password
    assert not [one for one in argv if "contimeout" in one], "rsync refuses it where it does not connect itself"
    assert "--password-file=/x/p" in password and password[-2] == "hsmx-cluster@192.0.2.1::a/"


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [("5.2.03", "5.2.03", "ssh"), ("5.2.02", "5.2.03", "rsync"), ("5.3", "5.1.9", "rsync"), ("v5.10", "5.2.3", "ssh"),
     ("5.2", "6", "rsync"), ("nightly", "5.2.03", "ssh"), ("nightly", "4", "rsync"), ("5.2.03-rc1", "5.2.04", "ssh")],
)  # fmt: skip
def test_a_mixed_pair_uses_what_both_understand(here: str, there: str, expected: str) -> None:
    assert way(here, there) == way(there, here) == expected


def test_when_a_person_is_asked_before_files_are_deleted() -> None:
    assert not plan.asks_first(1, 1) and not plan.asks_first(20, 100) and not plan.asks_first(1000, 10_000)
    assert plan.asks_first(2, 2) and plan.asks_first(21, 100) and plan.asks_first(1001, 1_000_000)
    assert not plan.asks_first(21, 100, allowed=21) and plan.asks_first(22, 100, allowed=21)
    assert plan.asks_first(11, 90, lately=10) and not plan.asks_first(10, 90, lately=10)
    assert plan.asks_first(1, 9, lately=10) and not plan.asks_first(1, 9, lately=9) and plan.asks_first(2, 8, lately=1)
    assert not plan.asks_first(0, 7, lately=3, asked=True)
    assert plan.asks_first(2, 1000, asked=True) and not plan.asks_first(1, 1000, asked=True)


def test_a_dry_run_and_progress_are_read() -> None:
    lines = ["recv 100 a", "recv 4096 sub/", "recv 7 sub/b\\#012c", "del. 0 own", 'skipping "x"', "del. 0 d/"]
    found = plan.planned(lines)
    assert found == plan.Plan(2, 107, 2, 1, ("own",))
    assert plan.progress("        1001 100%  977.54kB/s    0:00:00 (xfr#2, to-chk=0/3)") == (2, 1001)
    assert plan.progress("recv 100 a") is None
    lengths = {"a": 5, "own": 7}
    assert plan.planned(lines, lambda name: lengths.get(name, 0)).replaced == 12
    assert plan.has_room(107, 10**9) and not plan.has_room(10**9, 10**9)


def test_a_manifest_knows_contents_and_nothing_else(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for root in (here, there):
        (root / "sub").mkdir(parents=True)
        (root / "sub" / "a\nb").write_text("1")
        (root / "c").write_text("2")
    (here / "x.pem").write_text("ours")
    (here / "link").symlink_to("/etc/passwd")
    os.mkfifo(here / "pipe")
    (here / "c").chmod(0o755)
    one, other = Manifest(Tree("a", str(here))), Manifest(Tree("a", str(there)))
    one.read()
    other.read()
    assert one.summary().digest == other.summary().digest and one.summary().left_out == 2
    assert one.summary().files == 2 and one.directories == {b"", b"sub"}
    (here / "c").write_text("3")
    assert one.update({b"c", b"sub/a\nb", b"gone"}) == {b"c"}
    assert one.summary().digest != other.summary().digest
    (here / "c").unlink()
    assert one.update({b"c"}) == {b"c"} and not one.has(b"c")


def test_a_change_of_the_same_length_at_the_same_time_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    manifest = Manifest(Tree("a", str(tmp_path)))
    manifest.read()
    before, status = manifest.summary(), path.stat()
    path.write_text("2")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    manifest.read()
    assert manifest.summary() != before


def test_the_kernel_says_what_changed(tmp_path: Path) -> None:
    watch = Watch()
    try:
        watch.add("a", os.fsencode(tmp_path), b"", lambda name: name.startswith(b".hsmx"))
        (tmp_path / ".hsmx-temp").mkdir()
        assert not watch.take()
        (tmp_path / "new").write_text("x")
        (tmp_path / "new").rename(tmp_path / "final\n")
        found = watch.take()["a"]
        assert found.touched == {b"new", b"final\n"} and found.created == {b"new"} and not found.whole
        (tmp_path / "sub").mkdir()
        assert watch.take()["a"].whole
    finally:
        watch.close()


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="not installed: openssh-client")
def test_places_write_for_nobody_else_and_forget(tmp_path: Path) -> None:
    places, tree = Places(str(tmp_path)), Tree("portal", "/srv/portal")
    key, secret = places.make_keys()
    assert places.make_keys() == (key, secret) and ssh.public_key(key) == key
    places.write([tree], Peer(KEY, KEY, "cd" * 24, ("192.0.2.2",)), 22, True, "/usr/bin/rsync")
    login = tmp_path / ".ssh" / "authorized_keys"
    assert KEY in login.read_text()
    for path in (login, *(path for path in places.directory.iterdir() if path.suffix != ".pub")):
        assert path.stat().st_mode & 0o077 == 0, path
    places.write([tree], Peer(KEY, KEY, "cd" * 24, ("192.0.2.2",)), 22, False, "/usr/bin/rsync")
    assert login.read_text() == "", "over the daemon nobody logs in"
    places.new_aside("portal").mkdir()
    places.forget()
    assert not login.exists() and not places.key.exists() and (places.directory / "aside").is_dir()


def test_the_oldest_that_was_kept_aside_goes_first_whatever_the_wall_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, kept = Places(str(tmp_path)), []
    foreign = tmp_path / "files" / "aside" / "portal" / "of an administrator"
    foreign.mkdir(parents=True)
    real = time.gmtime
    for number in range(ASIDES_MOST + 3):
        seconds = 1_000_000.0 - 1000 * (number // 11)  # eleven in one second, then the clock is set back
        monkeypatch.setattr(time, "gmtime", lambda at=seconds: real(at))
        kept.append(places.new_aside("portal"))
        kept[-1].mkdir()
        places.bound_asides("portal")
    assert [path for path in kept if path.exists()] == kept[3:] and foreign.exists()


def test_only_equal_digests_count_as_synchronised() -> None:
    seen = Seen(shown={"trees": {"a": {"digest": "d", "files": 1, "size": 1, "left_out": 0, "unreadable": (),
                                       "unreadable_count": 0}}})  # fmt: skip

    def state() -> str:
        return str(tree_state("a", "/srv/a", "passive", seen, 10.0)["state"])

    assert state() == "waiting"
    seen.there = {"a": "d"}
    assert state() == "behind", "nobody has compared them yet"
    seen.compared({"a": True}, 1.0, "today")
    assert state() == "synchronised"
    seen.changed(["a"])
    assert state() == "behind"
    seen.compared({"a": False}, 2.0, "today")
    assert state() == "behind" and seen.unlike_since("a") == 2.0
    seen.shown["results"] = {"a": {"error": "", "partly": "rsync: mkstemp: Permission denied", "aside": ""}}
    assert state() == "failed", "what stands in the way is said"
    seen.compared({"a": True}, 3.0, "today")
    assert state() == "synchronised"
    seen.compared({"a": False}, 4.0, "today")
    asks = {"asks": 7, "of": 9, "examples": ("x",), "error": "", "remedy": "", "aside": "", "at": 0}
    seen.shown["results"] = {"a": asks}
    assert state() == "asks"
    seen.questions = told.questions({"a": 7})
    active = tree_state("a", "/srv/a", "active", seen, 10.0)
    assert (active["state"], active["asks"], active["examples"]) == ("asks_there", 7, [])
    seen.questions = told.questions(None)
    assert tree_state("a", "/srv/a", "active", seen, 10.0)["state"] == "behind"
    for wrong in ({"a": "7"}, {"a": 0}, {1: 1}, [1]):
        with pytest.raises(RequestRefused):
            told.questions(wrong)
    seen.there = {"b": "d"}
    assert state() == "undeclared"
