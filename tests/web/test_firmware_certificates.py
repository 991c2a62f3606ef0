"""The sample firmware's certificates page: what is installed is checked, private, and in force after a reboot."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from sample_app import https
from sample_app.firmware import create_app
from sample_app.firmware.models import db

from .test_firmware import log_in

PAGE = "/system/certificates"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FlaskClient]:
    app = create_app({
        "TESTING": True, "WTF_CSRF_ENABLED": False, "FIRMWARE_STATE_DIR": tmp_path, "FIRMWARE_NAME": "Gateway A",
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'firmware.sqlite'}", "FIRMWARE_HTTPS_PORT": 443,
    })  # fmt: skip
    yield log_in(app, "admin")
    with app.app_context():
        db.engine.dispose()


def test_a_certificate_is_made_and_waits_for_the_reboot(client: FlaskClient, tmp_path: Path) -> None:
    assert "HTTPS does not run" in client.get(PAGE).text
    answer = client.post(f"{PAGE}/make", data={"name": "wifi.example", "days": 30}, follow_redirects=True)
    made = https.shown(tmp_path, https.INSTALLED)
    assert made is not None and made.names == ("wifi.example",) and made.days_left in (29, 30)
    assert "Reboot this gateway." in answer.text and made.fingerprint in answer.text
    assert stat.S_IMODE((tmp_path / https.INSTALLED).stat().st_mode) == 0o600
    (tmp_path / https.IN_FORCE).write_bytes((tmp_path / https.INSTALLED).read_bytes())  # as at the next start
    assert "Reboot this gateway." not in client.get(PAGE).text


def test_only_a_certificate_with_its_own_key_is_installed(client: FlaskClient, tmp_path: Path) -> None:
    one, other = https.make(["one.example"], 30).decode(), https.make(["other.example"], 30).decode()
    end = "-----END CERTIFICATE-----\n"
    assert client.post(f"{PAGE}/upload", data={"pem": one}).status_code == 302
    before = (tmp_path / https.INSTALLED).read_bytes()
    for pem, words in (
        ("nonsense", "There is no certificate in it"),
        (one.partition(end)[0] + end, "The key is missing"),
        (one.partition(end)[0] + end + other.partition(end)[2], "belongs to another certificate"),
    ):
        answer = client.post(f"{PAGE}/upload", data={"pem": pem})
        assert answer.status_code == 422 and words in answer.text
    assert (tmp_path / https.INSTALLED).read_bytes() == before
    assert not [path for path in tmp_path.glob("https.*") if path.name != https.INSTALLED], "nothing is left behind"


@pytest.mark.parametrize("data", [{"name": "a b", "days": 30}, {"name": "", "days": 30}, {"name": "a.b", "days": 0}])
def test_what_makes_no_certificate_is_refused(client: FlaskClient, data: dict[str, Any]) -> None:
    assert client.post(f"{PAGE}/make", data=data).status_code == 422
