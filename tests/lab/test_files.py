"""Files on a running pair: the passive gateway pulls what the active one declares, over a real sshd and rsync."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sample_app.lab import Gateway, Lab, Namespace, form, wait_for_roles
from sample_app.lab.privileges import GROUP, WEB_UID
from sample_app.lab.sshd import PROGRAM

from .hotel import wait_until

pytestmark = pytest.mark.skipif(
    not PROGRAM.exists() or shutil.which("rsync") is None, reason="not installed: openssh-server, rsync"
)
COUNT = 30


def tree(gateway: Gateway) -> Path:
    return gateway.files / "portal"


def put(path: Path, data: bytes) -> None:
    """Write a file as the firmware's own user."""
    path.write_bytes(data)
    os.chown(path, WEB_UID, GROUP)


def shown(gateway: Gateway) -> dict[str, Any]:
    return dict(gateway.call("status")["files"]["trees"][0])


def state(gateway: Gateway) -> str:
    return str(shown(gateway)["state"])


def why(lab: Lab) -> str:
    return "\n".join(f"{one.call('status')['files']}\n{one.log('agent')[-1500:]}" for one in lab.gateways)


def wait_alike(lab: Lab) -> None:
    wait_until(lambda: all(state(one) == "synchronised" for one in lab.gateways), lambda: why(lab), 40)


def names(gateway: Gateway) -> set[str]:
    return {str(path.relative_to(tree(gateway))) for path in tree(gateway).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(sync="switch", backup="switch") as lab:
        for gateway in lab.gateways:
            gateway.declare_files(portal=["*.tmp"])
        for number in range(COUNT):
            put(tree(lab.a) / f"page{number}.html", os.urandom(1000 + 100 * number))
        put(tree(lab.b) / "own.html", b"only here")
        put(tree(lab.b) / "page1.html", b"another one")
        put(tree(lab.b) / "server.pem", b"b's certificate")
        lab.start()
        form(lab)
        yield lab


def test_the_first_copy_keeps_aside_what_only_the_passive_had(lab: Lab) -> None:
    wait_alike(lab)
    assert names(lab.b) == {f"page{number}.html" for number in range(COUNT)} | {"server.pem"}
    aside = next((lab.b.state / "files" / "aside" / "portal").iterdir())
    assert (aside / "own.html").read_bytes() == b"only here"
    assert (aside / "page1.html").read_bytes() == b"another one"
    wait_until(lambda: "files_aside" in {one["kind"] for one in lab.b.call("events")["events"]})


def test_a_change_and_a_new_directory_arrive_by_themselves_and_the_jobs_say_so(lab: Lab) -> None:
    wait_alike(lab)
    data = os.urandom(3000)
    put(tree(lab.a) / "page2.html", data)
    inside = tree(lab.a) / "images" / "summer"
    inside.mkdir(parents=True)
    put(inside / "a name\nin two lines", b"x")
    (tree(lab.a) / "page3.html").unlink()
    wait_until(lambda: (tree(lab.b) / "page2.html").read_bytes() == data, lambda: why(lab))
    wait_until(lambda: (tree(lab.b) / "images/summer/a name\nin two lines").exists(), lambda: why(lab))
    wait_until(lambda: not (tree(lab.b) / "page3.html").exists(), lambda: why(lab))
    wait_alike(lab)
    jobs = {job["name"]: job for job in lab.b.call("status")["jobs"]}
    assert {"files: changes", "files: full pass"} <= set(jobs)
    assert all(jobs[name]["last_run_s"] is not None for name in ("files: changes", "files: full pass"))


def test_what_never_leaves_a_gateway_and_what_is_dangerous(lab: Lab) -> None:
    wait_alike(lab)
    there = tree(lab.a)
    for name in ("Key.PEM", "licence.txt", "x.tmp", "id_rsa", "site.p12"):
        put(there / name, b"secret")
    (there / "backup").mkdir()
    put(there / "backup" / "today", b"secret")
    (there / "passwd").symlink_to("/etc/passwd")
    (there / "way").symlink_to("backup")
    os.mkfifo(there / "pipe")
    put(there / "tool", b"#!/bin/sh")
    (there / "tool").chmod(0o6755)
    (there / "later").mkdir()  # links make no noise: they are counted when the whole is looked at
    put(there / "last", b"last")
    os.link(there / "last", there / "again")
    wait_until(lambda: {"last", "tool", "again"} <= names(lab.b), lambda: why(lab))
    wait_alike(lab)
    assert not {name for name in names(lab.b) if "secret" in (tree(lab.b) / name).read_bytes().decode("latin-1")}
    assert not (tree(lab.b) / "passwd").is_symlink() and not (tree(lab.b) / "pipe").exists()
    assert (tree(lab.b) / "tool").stat().st_mode & 0o7000 == 0
    assert (tree(lab.b) / "server.pem").read_bytes() == b"b's certificate"
    wait_until(lambda: shown(lab.a)["left_out"] == 3, lambda: why(lab))


def test_the_key_of_the_other_gateway_can_do_nothing_else(lab: Lab) -> None:
    wait_alike(lab)
    key, hosts = lab.b.state / "files" / "key", lab.b.state / "files" / "known_hosts"
    options = [f"UserKnownHostsFile={hosts}", "BatchMode=yes", "IdentitiesOnly=yes", "GlobalKnownHostsFile=/dev/null"]
    ssh = ["ssh", "-F", "none", "-i", str(key), *(f"-o{one}" for one in options)]
    host = lab.a.address("sync0").split("/")[0]

    def run(where: Namespace, *command: str) -> str:
        argv = where.command("sh", "-c", '"$@" < /dev/null 2>&1 || true', "sh", *command)
        return subprocess.run(argv, capture_output=True, text=True, timeout=30).stdout

    assert "@RSYNCD" in run(lab.b.namespace, *ssh, f"hsmx-cluster@{host}", "id"), "rsync, whatever is asked for"
    out = lab.b.directory / "stolen"
    for options in (["-rL"], ["-r", "--copy-unsafe-links"]):
        run(lab.b.namespace, "rsync", *options, "-e", " ".join(ssh), f"hsmx-cluster@{host}::portal/", f"{out}/")
        assert not (out / "passwd").exists()
    run(lab.b.namespace, "rsync", "-r", "-e", " ".join(ssh), f"hsmx-cluster@{host}::portal/way/", f"{out}/")
    assert not (out / "today").exists(), "no link leads to what is never sent"
    run(lab.b.namespace, "rsync", "-r", "-e", " ".join(ssh), f"hsmx-cluster@{host}::portal/", f"{out}/")
    assert (out / "last").exists() and not (out / "Key.PEM").exists() and not (out / "backup").exists()
    put(lab.b.directory / "evil", b"evil")
    run(lab.b.namespace, "rsync", "-e", " ".join(ssh), str(lab.b.directory / "evil"), f"hsmx-cluster@{host}::portal/")
    assert not (tree(lab.a) / "evil").exists()
    login = f"hsmx-cluster@{lab.a.address('lan0').split('/')[0]}"
    ssh = [part.replace(str(hosts), "/dev/null") for part in ssh] + ["-oStrictHostKeyChecking=no"]
    stranger = run(lab.client, *ssh, login)
    assert "@RSYNCD" not in stranger and "Permission denied" in stranger, "from the other gateway's addresses only"


def test_many_deletions_wait_for_a_person(lab: Lab) -> None:
    wait_alike(lab)
    before = names(lab.b)
    gone = {f"page{number}.html" for number in range(4, 24)}
    for name in gone:
        (tree(lab.a) / name).unlink()
    put(tree(lab.a) / "new.html", b"new")
    wait_until(lambda: state(lab.b) == "asks", lambda: why(lab))
    wait_until(lambda: (tree(lab.b) / "new.html").exists(), lambda: why(lab))
    left = gone & names(lab.b)
    assert len(left) >= len(gone) - len(before) // 5, "a pass in the midst of it deletes a fifth at most"
    wait_until(lambda: shown(lab.b)["asks"] >= len(left), lambda: why(lab))
    for gateway, key in ((lab.b, "files_asks_portal"), (lab.a, "peer_files_asks_portal")):
        wait_until(lambda: key in {one["key"] for one in gateway.call("status")["alarms"]}, lambda: why(lab))  # noqa: B023
    assert lab.b.cli("files", "allow-deletions", "portal")["allowed"] >= len(left)
    wait_until(lambda: not gone & names(lab.b), lambda: why(lab))
    wait_alike(lab)


def test_the_backup_link_carries_on_and_a_fail_over_turns_it_round(lab: Lab) -> None:
    wait_alike(lab)
    lab.faults.pull(lab.a, "sync")
    try:
        put(tree(lab.a) / "page1.html", b"over the backup link")
        copy = tree(lab.b) / "page1.html"
        wait_until(lambda: copy.read_bytes() == b"over the backup link", lambda: why(lab), 60)
        wait_until(lambda: shown(lab.b)["last"]["host"] == lab.a.address("backup0").split("/")[0], lambda: why(lab))
    finally:
        lab.faults.plug(lab.a, "sync")
    wait_alike(lab)
    wait_for_roles(lab)
    lab.a.call("failover")
    wait_for_roles(lab, lab.b)
    put(tree(lab.b) / "page1.html", b"the other way")
    wait_until(lambda: (tree(lab.a) / "page1.html").read_bytes() == b"the other way", lambda: why(lab), 60)
    wait_alike(lab)


def test_an_older_firmware_has_a_daemon_with_a_secret_for_the_peer_alone(lab: Lab) -> None:
    for gateway in lab.gateways:
        gateway.environment["HSMX_CLUSTER_FIRMWARE_VERSION"] = "5.2.02" if gateway is lab.a else "5.2.03"
        gateway.stop_web()
        gateway.signal_agent(signal.SIGTERM)
        gateway.start_web()
        gateway.start_agent()
        gateway.wait_until_ready()
    active = wait_for_roles(lab)
    put(tree(active) / "old", b"over 873")
    other = lab.other(active)
    wait_until(lambda: (tree(other) / "old").exists(), lambda: why(lab), 60)
    wait_alike(lab)
    assert {one.call("status")["files"]["way"] for one in lab.gateways} == {"rsync"}
    assert (active.state / ".ssh" / "authorized_keys").read_text() == ""
    listening = active.namespace.run("ss", "-Hltn", "sport = :873").splitlines()
    assert {line.split()[3] for line in listening} == {
        f"{active.address(port).split('/')[0]}:873" for port in ("sync0", "backup0")
    }
    denied = other.namespace.command("rsync", f"rsync://{active.address('sync0').split('/')[0]}/portal/")
    done = subprocess.run(denied, capture_output=True, text=True, env={"RSYNC_PASSWORD": "x", "PATH": os.defpath})
    assert done.returncode and "auth failed" in done.stderr.lower(), done.stderr
