"""What pages consist of: headers, errors that people can read, and files of others as they were published."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import requests

import epista
from epista.server import web
from tests.makers import Server
from tests.server.test_images import KEY, asset, ome  # noqa: F401

WEB = Path(web.__file__).parent

ROOT = WEB.parent.parent.parent

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def address(http_ws: epista.Workspace, server: Server) -> str:
    server.api().put(KEY, ome())
    return http_ws.image.url(KEY)


def test_a_page_lets_nothing_run_that_is_not_ours_and_tells_nobody_its_address(address: str) -> None:
    headers = requests.get(address, headers=HTML, timeout=60).headers

    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-security-policy"] == (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "frame-ancestors 'none'; form-action 'self'"
    )
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_its_address_may_say_what_is_seen(http_ws: epista.Workspace, address: str) -> None:
    assert "#" not in address
    assert http_ws.image.url(KEY, at=(1234567.5, 20, 0.25)).endswith("/view#1234567.5,20,0.25")
    assert http_ws.image.url(http_ws.get(KEY), version=1).startswith(f"{http_ws.url}/tiles/")
    with pytest.raises(epista.KeyNotFoundError):
        http_ws.image.url("EXP-1/none.tif")
    epista.use(http_ws)
    try:
        assert epista.image.url(KEY).endswith("/view")
    finally:
        epista.use(None)


def test_every_address_is_a_session_of_its_own_that_is_audited(http_ws: epista.Workspace, server: Server, address: str) -> None:
    http_ws.image.url(KEY)

    assert server.api().get("~/audit").text.count('"images.open"') == 2


def test_the_token_is_in_no_log(address: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    requests.get(address, headers=HTML, timeout=60)
    requests.get(address + "?a=1", headers=HTML, timeout=60)

    assert "images.view" in {vars(record).get("endpoint") for record in caplog.records}
    ours = [record for record in caplog.records if record.name.startswith("epista")]
    assert address.split("/")[-2] not in str([vars(record) for record in ours])


def test_whoever_has_no_valid_address_reads_why(server: Server, address: str) -> None:
    forged = address.replace("/view", "x/view")

    person = requests.get(forged, headers=HTML, timeout=60)
    program = requests.get(forged, timeout=60)

    assert (person.status_code, program.status_code) == (403, 403)
    assert person.headers["content-type"] == "text/html; charset=utf-8"
    assert "open the image again" in person.text
    assert "content-security-policy" in person.headers
    assert program.json()["code"] == "forbidden"


def test_what_is_no_image_is_said_to_be_none(server: Server, http_ws: epista.Workspace) -> None:
    server.api().put("EXP-1/<script>.csv", b"a\n1\n")

    answer = requests.get(http_ws.image.url("EXP-1/<script>.csv"), headers=HTML, timeout=60)

    assert answer.status_code == 422
    assert "This image cannot be shown" in answer.text
    assert "<script>" not in answer.text


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("viewer.js", "text/javascript; charset=utf-8"),
        ("page.css", "text/css; charset=utf-8"),
        ("vendor/openseadragon/openseadragon.min.js", "text/javascript; charset=utf-8"),
        ("vendor/openseadragon/LICENSE.txt", "text/plain; charset=utf-8"),
    ],
    ids=["script", "style", "openseadragon", "its-licence"],
)
def test_files_are_what_they_say_and_are_asked_for_again_only_if_they_changed(server: Server, name: str, media_type: str) -> None:
    answer = requests.get(f"{server.url}/web/{name}", timeout=60)
    again = requests.get(f"{server.url}/web/{name}", headers={"If-None-Match": answer.headers["etag"]}, timeout=60)

    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["", "none.js", "../pages.py", "..%2Fpages.py", "vendor", "%2Fetc%2Fpasswd"])
def test_there_is_nothing_else(server: Server, name: str) -> None:
    request = requests.Request("GET", server.url).prepare()
    request.url = f"{server.url}/web/{name}"

    assert requests.Session().send(request, timeout=60).status_code == 404


def test_files_of_others_are_as_they_were_published() -> None:
    vendor = WEB / "static" / "vendor"
    manifest = json.loads((vendor / "manifest.json").read_text(encoding="utf-8"))

    listed = {name: digest for package in manifest for name, digest in package["files"].items()}
    there = {
        path.relative_to(vendor).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in vendor.rglob("*.*")
        if path.name != "manifest.json"
    }
    assert listed == there
    for package in manifest:
        assert package["license_file"] in package["files"]
        assert package["source"].endswith(f"{package['name']}-{package['version']}.tgz")


def test_templates_have_no_script_or_style_of_their_own() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (WEB / "templates").glob("*.html"))

    assert "<style" not in text
    assert " style=" not in text
    assert " on" not in {part[:3] for part in text.split('"')}
    assert text.count("<script") == text.count("<script src=")
    assert "|safe" not in text


def test_the_wheel_has_all_of_it(tmp_path: Path) -> None:
    build = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    copy = tmp_path / "project"
    names = [name for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE") if (ROOT / name).exists()]
    copy.mkdir()
    for name in names:
        (copy / name).write_bytes((ROOT / name).read_bytes())
    (copy / "epista").symlink_to(ROOT / "epista")
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=copy, check=True, capture_output=True, timeout=120)

    [wheel] = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = [path for folder in ("static", "templates") for path in (WEB / folder).rglob("*.*")]
    assert {path.relative_to(ROOT).as_posix() for path in files} <= inside
