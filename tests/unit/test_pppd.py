"""What pppd is given and what is understood of its log. Its own parser says whether anything could be injected."""

from __future__ import annotations

import grp
import os
import re
import select
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_hsmx_cluster.errors import ConfigError
from flask_hsmx_cluster.services import pppd
from flask_hsmx_cluster.services.pppd import Connection, Told
from sample_app.lab import pppd_stand_in

PPPD = shutil.which("pppd", path="/usr/sbin:/sbin")
GOOD = Connection("fibre", "wan0", "hotel", "geheim")
#: ... on a port that each machine has.
ON_LO = Connection("fibre", "lo", "hotel", "geheim")
HOSTILE = (
    'x"', "x\\", '\\"', "' y", '"\nplugin evil.so\n"', "a b", "# y", "a#b", "\\n", "\\\\", "x\r", "x\0", "\u2028plugin",
    "-detach", "file /etc/shadow", "äöü€", "x" * 300, "\x1b[31m", "",
)  # fmt: skip
TEXT = st.text(max_size=40) | st.sampled_from(HOSTILE) | st.text('"\\\' \t#nr0ab', max_size=20)


def row(**changes: object) -> dict[str, object]:
    return {**vars(GOOD), **changes}


@given(st.fixed_dictionaries({key: TEXT for key in ("user", "password", "service", "concentrator")}))
def test_each_text_is_one_word_or_refused(texts: dict[str, str]) -> None:
    try:
        connection = Connection.read(row(**texts))
    except ConfigError as error:
        assert not any(text in error.message for text in texts.values() if len(text) > 3 and text.isprintable())
        return
    words = list(pppd_stand_in.words(pppd.options(connection, privileged=True)))
    found = pppd_stand_in.options(words)
    names = {"user": "user", "password": "password", "service": "rp_pppoe_service", "concentrator": "rp_pppoe_ac"}
    assert {key: found.get(names[key], "") for key in names} == texts
    plain = pppd_stand_in.options(list(pppd_stand_in.words(pppd.options(GOOD, privileged=True))))
    assert set(found) - {"rp_pppoe_service", "rp_pppoe_ac"} == set(plain)


@pytest.mark.skipif(not (PPPD and os.access(PPPD, os.X_OK)), reason="pppd is not installed, or not for this user")
@settings(max_examples=60, deadline=None)
@given(TEXT.filter(lambda text: text.isprintable() and ":" not in text and len(text.encode()) <= pppd.LONGEST))
def test_pppd_itself_reads_the_same_word(text: str) -> None:
    """It names the option that it does not know; options are read before it looks for the kernel's PPP.

    (A colon would make two addresses of the word.)
    """
    assert PPPD
    reading = subprocess.run(
        [PPPD, "file", "/dev/stdin"], input=f"user {pppd.quoted(text)}\n{pppd.quoted('zz' + text)}\n",
        capture_output=True, text=True,
    )  # fmt: skip
    told = re.search(r"unrecognized option '(.*)'", reading.stderr + reading.stdout)
    assert told and told[1] == "zz" + text


@pytest.mark.skipif(not (PPPD and os.access(PPPD, os.X_OK)), reason="pppd is not installed, or not for this user")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_without_privilege_pppd_is_asked_for_nothing_that_only_root_may_say() -> None:
    assert PPPD
    plugins = ("nic-", "rp_pppoe_", "pppoe-")
    own = [line for line in pppd.options(GOOD, privileged=False).splitlines() if not line.startswith(plugins)]
    dip = grp.getgrnam("dip").gr_gid
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("\n".join([*own, "zzend\n"]))
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        reading = subprocess.run(
            ["setpriv", "--reuid=65534", f"--regid={dip}", "--clear-groups", PPPD, "file", file.name],
            capture_output=True, text=True,
        )  # fmt: skip
    assert "unrecognized option 'zzend'" in reading.stdout + reading.stderr


def test_options_of_the_discovery_stand_before_the_port_or_pppd_ignores_them() -> None:
    chosen = pppd_stand_in.options(list(pppd_stand_in.words(pppd.options(GOOD, privileged=True))))
    assert (chosen["pppoe-padi-timeout"], chosen["pppoe-padi-attempts"]) == ("1", "3")


@pytest.mark.parametrize("name", ["../x", "a/b", "a b", "", "-x", "x" * 33, "a\n"])
def test_a_name_makes_no_path_and_no_option(name: str) -> None:
    with pytest.raises(ConfigError):
        Connection.read(row(name=name))


@pytest.mark.parametrize("port", ["wan0 user x", "wan0\n", "../x", ""])
def test_a_port_is_one_word(port: str) -> None:
    with pytest.raises(ConfigError):
        Connection.read(row(port=port))


def test_a_text_with_a_line_end_is_never_quoted() -> None:
    with pytest.raises(ConfigError):
        pppd.quoted("a\nb")


LOG = {
    "up": (
        "Plugin pppoe.so loaded.", "PPP session is 17", "Connected to 02:AA:BB:CC:DD:EE via interface wan0",
        "Using interface ppp0", "Connect: ppp0 <--> wan0", "PAP authentication succeeded", "peer from calling number",
        "local  IP address 10.60.0.10", "remote IP address 10.60.0.1",
    ),
    "refused": ("PPP session is 3", "CHAP authentication failed: E=691", "Connection terminated."),
    "dead": ("No response to 3 echo-requests", "Serial link appears to be disconnected.", "Modem hangup"),
    "silent": ("Timeout waiting for PADO packets", "Unable to complete PPPoE Discovery"),
    "hostile": (
        "PADS: Generic-Error: \x1b[31m<b>no\x07 more than 1", "local  IP address 1;reboot", "Using interface ppp0;x",
    ),
}  # fmt: skip


def told(name: str) -> Told:
    found = Told()
    for line in LOG[name]:
        found.take(line, "wan0")
    return found


def test_its_log_is_understood() -> None:
    up = told("up")
    assert (up.stage, up.session, up.concentrator_mac) == ("up", 17, "02:aa:bb:cc:dd:ee")
    assert (up.interface, up.address, up.router) == ("ppp0", "10.60.0.10", "10.60.0.1")
    assert told("refused").wrong_password and "refused" in told("refused").fault
    assert told("silent").fault == "No access concentrator answers on wan0."
    assert told("dead").fault == "The provider's side has stopped answering."


def test_what_a_provider_says_is_shown_without_what_could_do_harm() -> None:
    hostile = told("hostile")
    assert hostile.fault.isprintable() and (hostile.address, hostile.interface) == ("", "")


def fake(directory: Path, script: str) -> str:
    path = directory / "fake-pppd"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def finish(run: pppd.Pppd) -> None:
    while run.read():
        select.select([run], [], [], 5)


def test_secrets_are_in_a_file_of_ours_alone_until_it_has_read_them(tmp_path: Path) -> None:
    script = f"""
    for last; do :; done
    stat -c %a "$last" >{tmp_path}/mode; cp "$last" {tmp_path}/seen
    echo "$@" >{tmp_path}/told; env >>{tmp_path}/told
    echo; exit 19"""
    run = pppd.Pppd(ON_LO, fake(tmp_path, script), tmp_path)
    run.start()
    finish(run)
    assert (tmp_path / "mode").read_text() == "600\n" and 'password "geheim"' in (tmp_path / "seen").read_text()
    assert GOOD.password not in (tmp_path / "told").read_text()
    assert not list(tmp_path.glob("*.options"))
    assert run.told.wrong_password and run.code == 19


def test_the_file_stays_until_it_is_read_though_a_plugin_was_loaded_before(tmp_path: Path) -> None:
    script = f"""
    for last; do :; done
    echo Plugin pppoe.so loaded.; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done
    cp "$last" {tmp_path}/seen; echo PPP session is 1; exit 16"""
    run = pppd.Pppd(ON_LO, fake(tmp_path, script), tmp_path)
    run.start()
    select.select([run], [], [], 5)
    assert run.read()
    (tmp_path / "go").touch()
    finish(run)
    assert "geheim" in (tmp_path / "seen").read_text() and not list(tmp_path.glob("*.options"))


def test_a_log_that_is_just_being_written_is_not_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = pppd.Pppd(ON_LO, fake(tmp_path, "exec sleep 60"), tmp_path)
    run.start()
    pieces = [f"PPP session is {number}\n".encode() for number in range(1, 30)]

    def read(_file: int, _most: int) -> bytes:
        if not pieces:
            raise BlockingIOError
        return pieces.pop(0)

    monkeypatch.setattr(pppd.os, "read", read)
    try:
        assert run.read() and not run.told.fault and run.told.session == 29
    finally:
        monkeypatch.undo()
        run.told.session = 0
        run.kill()
        finish(run)


def test_a_port_that_is_not_there_is_said(tmp_path: Path) -> None:
    run = pppd.Pppd(Connection("fibre", "gone0", "hotel", "geheim"), fake(tmp_path, "exit 2"), tmp_path)
    with pytest.raises(ConfigError, match="no port gone0"):
        run.start()
    assert not list(tmp_path.glob("*.options"))


@pytest.mark.parametrize("how", ["exit 16", "kill -9 $$"])
def test_the_provider_is_told_of_an_end_that_pppd_kept_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    sent: list[tuple[object, ...]] = []
    monkeypatch.setattr(pppd, "send_padt", lambda *words: sent.append(words))
    script = f"echo PPP session is 7; echo Connected to 02:AA:BB:CC:DD:EE via interface lo; {how}"
    run = pppd.Pppd(ON_LO, fake(tmp_path, script), tmp_path)
    run.start()
    finish(run)
    run.kill()
    assert sent == [("lo", run.told.own_mac, "02:aa:bb:cc:dd:ee", 7)]


def test_no_pppd_is_said_with_a_remedy_and_leaves_no_file(tmp_path: Path) -> None:
    run = pppd.Pppd(ON_LO, str(tmp_path / "missing"), tmp_path)
    run.start()  # setpriv is there, and says that pppd is not
    finish(run)
    assert run.told.fault and not list(tmp_path.glob("*.options"))


def test_what_an_earlier_process_left_is_ended(tmp_path: Path) -> None:
    script = "trap 'exit 5' TERM; echo PPP session is 1; while :; do sleep 0.05; done"
    run = pppd.Pppd(ON_LO, fake(tmp_path, script), tmp_path)
    run.start()
    while not run.told.session:
        assert run.read()
        select.select([run], [], [], 5)
    pppd.end_orphans(tmp_path)
    finish(run)
    assert run.code == 5
