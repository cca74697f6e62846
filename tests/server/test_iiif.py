"""IIIF Image API 3.0 over a real socket: what its own validator asks, and what viewers and other sites need."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import requests
import tifffile
from iiif_validator.validator import ValidationInfo
from PIL import Image

from epista.server.config import Config
from tests.makers import Api, Clock, Server
from tests.server.test_images import KEY, ask, ome, refused

CONTEXT = "http://iiif.io/api/image/3/context.json"


def sitting(api: Api, ref: str = KEY) -> tuple[str, str]:
    """Open a session and return its token and the version."""
    made = api.ok(api.post("~/tiles", ref=ref))
    return made["token"], made["version"]


@pytest.fixture
def base(server: Server) -> str:
    server.api().put(KEY, ome())
    token, version = sitting(server.api())
    return f"{server.url}/tiles/{token}/iiif/{version}"


def drawn(address: str) -> Image.Image:
    response = ask(address)
    assert response.status_code == 200, response.text
    return Image.open(io.BytesIO(response.content))


def test_the_validator_finds_no_fault_at_level_2(server: Server) -> None:
    # Its reference image: ten by ten squares, in the colours of its own table.
    colors = np.array(ValidationInfo().colorInfo, np.uint8).transpose(1, 0, 2)
    into = io.BytesIO()
    Image.fromarray(np.kron(colors, np.ones((100, 100, 1), np.uint8))).save(into, "PNG")
    server.api().put("squares.png", into.getvalue())
    token, version = sitting(server.api(), "squares.png")
    script = Path(sysconfig.get_path("scripts")) / "iiif-validate.py"
    options = [
        "-s",
        server.url.removeprefix("http://"),
        "-p",
        f"tiles/{token}/iiif",
        "-i",
        version,
        "--version",
        "3.0",
        "--level",
        "2",
    ]

    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, timeout=120)

    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert re.search(r"Done \((\d+) tests, 0 failures\)", told), told
    assert len(re.findall(r"^\[\d+\] test \w+ PASS$", told, re.MULTILINE)) == 33, told


def test_the_base_leads_to_what_is_said_of_the_image(base: str) -> None:
    response = requests.get(base, allow_redirects=False, timeout=60)

    assert response.status_code == 303
    assert response.headers["Location"] == base.partition("/tiles")[1] + base.partition("/tiles")[2] + "/info.json"
    assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("shown", ["", "~1:00ff00:0:3000", "~0:0000ff:200.5:4e3,1:ff0000:-1:3000"])
def test_the_document_names_the_address_that_it_was_asked_at(base: str, shown: str) -> None:
    plain, linked = ask(f"{base}{shown}/info.json"), ask(f"{base}{shown}/info.json", Accept="application/ld+json")

    assert plain.json() == linked.json()
    assert plain.json()["id"] == base + shown
    assert (plain.json()["width"], plain.json()["height"], plain.json()["@context"]) == (400, 300, CONTEXT)
    assert plain.headers["Content-Type"] == "application/json"
    assert linked.headers["Content-Type"] == f'application/ld+json;profile="{CONTEXT}"'
    assert plain.headers["ETag"] != linked.headers["ETag"]
    assert plain.headers["Vary"] == "Accept"


def test_a_picture_is_drawn_as_its_address_says(base: str) -> None:
    red = np.asarray(drawn(f"{base}~0:ff0000:0:4000/0,0,64,64/max/0/default.png"))
    both = np.asarray(drawn(f"{base}~0:ff0000:0:4000,1:00ff00:0:4000/0,0,64,64/max/0/default.png"))

    assert red[..., 0].any()
    assert not red[..., 1:].any()
    assert np.array_equal(both[..., 0], red[..., 0])
    assert both[..., 1].any()
    assert drawn(f"{base}/full/!100,100/0/default.webp").format == "WEBP"
    assert drawn(f"{base}/full/100,/90/gray.jpg").size == (75, 100)


def test_all_tiles_are_stretched_alike(server: Server) -> None:
    ramp = np.tile(np.arange(400, dtype=np.uint16) * 9, (2, 300, 1))
    server.api().put(KEY, ome(ramp))
    token, version = sitting(server.api())
    address = f"{server.url}/tiles/{token}/iiif/{version}"
    usual = ask(f"{server.url}/tiles/{token}/rendering").json()

    whole = np.asarray(drawn(f"{address}/full/max/0/default.png"))
    right = np.asarray(drawn(f"{address}/300,100,100,100/max/0/default.png"))
    spelt = np.asarray(drawn(f"{address}~{usual['text']}/full/max/0/default.png"))

    assert np.array_equal(whole[100:200, 300:], right)
    assert np.array_equal(whole, spelt)


def test_the_usual_rendering_is_told_of_every_channel(server: Server, base: str) -> None:
    found = ask(base.partition("/iiif")[0] + "/rendering").json()

    assert [(one["channel"], one["name"], one["color"], one["is_shown"]) for one in found["channels"]] == [
        (0, "DAPI", "0000ff", True),
        (1, "GFP", "e69f00", True),
    ]
    assert all(one["lowest"] <= one["low"] < one["high"] <= one["highest"] < 4000 for one in found["channels"])
    assert found["text"].startswith("0:0000ff:")
    for scene in (1, -1):
        assert refused(ask(base.partition("/iiif")[0] + f"/rendering?scene={scene}")) == (400, "invalid_request")


@pytest.mark.parametrize(
    "path",
    [
        "/full/max/0/default",
        "/full/max/0/default.tif",
        "/full/full/0/default.jpg",
        "/400,0,1,1/max/0/default.jpg",
        "/full/401,/0/default.jpg",
        "/full/max/12.5/default.jpg",
        "~/full/max/0/default.jpg",
        "~2:ff0000:0:9/full/max/0/default.jpg",
        "~0:ff0000:0:9;z1/full/max/0/default.jpg",
        "~0:ff0000:0:9;s1/info.json",
        "~nonsense/info.json",
        "/full/max/0/default.jpg?quality=default",
        "/full/max/0/default.jpg?x=1",
    ],
)
def test_nonsense_is_refused(base: str, path: str) -> None:
    response = ask(base + path)

    assert refused(response) == (400, "invalid_request")
    assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    "path", ["x/info.json", "%2Fx/info.json", "/x/info.json", "x/full/max/0/default.jpg", "x", "/full/max/0"]
)
def test_another_image_is_not_there(base: str, path: str) -> None:
    assert ask(base + path).status_code == 404


def test_a_session_shows_no_other_version(server: Server, base: str) -> None:
    other = server.api().put("EXP-2/other.ome.tif", ome())["version"]

    for path in ("", "/info.json", "/full/max/0/default.jpg"):
        assert ask(f"{base.rpartition('/')[0]}/{other}{path}").status_code == 404


def test_nothing_is_shown_after_the_end(base: str, clock: Clock) -> None:
    clock.ahead_seconds = 16 * 60

    for path in ("", "/info.json", "/full/max/0/default.jpg"):
        assert refused(ask(base + path)) == (403, "forbidden")


def test_caches_keep_pictures_for_their_own_person_only(base: str) -> None:
    first = ask(f"{base}/full/max/0/default.jpg")
    again = ask(f"{base}/full/max/0/default.jpg", **{"If-None-Match": first.headers["ETag"]})

    assert first.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert first.headers["Referrer-Policy"] == "no-referrer"
    assert (again.status_code, again.content) == (304, b"")
    assert ask(f"{base}/full/max/0/default.jpg", "HEAD").headers["Content-Length"] == str(len(first.content))


def test_what_was_drawn_for_one_is_not_drawn_again_for_the_next(server: Server, base: str) -> None:
    first = ask(f"{base}/0,0,64,64/max/0/default.jpg")
    token, version = sitting(server.api())
    for path in (server.folder / "blobs").rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(bytes(path.stat().st_size))

    second = f"{server.url}/tiles/{token}/iiif/{version}"

    assert ask(f"{second}/0,0,64,64/max/0/default.jpg").content == first.content
    # The bytes are not there any more: everything else would have to be read.
    assert refused(ask(f"{second}/64,64,64,64/max/0/default.jpg")) == (422, "unreadable_image")


def test_a_damaged_tile_is_an_error_and_no_picture(server: Server) -> None:
    data = bytearray(ome())
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        at, size = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    data[at : at + size] = bytes(size)
    server.api().put(KEY, bytes(data))
    token, version = sitting(server.api())
    address = f"{server.url}/tiles/{token}/iiif/{version}"

    assert refused(ask(f"{address}/0,0,64,64/max/0/default.jpg")) == (422, "unreadable_image")
    assert drawn(f"{address}/64,64,64,64/max/0/default.jpg").size == (64, 64)


class TestBehindAProxy:
    @pytest.fixture
    def config(self, tmp_path: Path) -> Config:
        return Config(lab=str(tmp_path / "lab-of-the-server"), public_url="https://lab.example/")

    def test_the_public_address_stands_before_that_of_the_machine(self, base: str) -> None:
        assert ask(f"{base}/info.json").json()["id"] == "https://lab.example/tiles" + base.partition("/tiles")[2]
