"""The viewer's page in a browser: what is seen, what the address says, and what is told when it ends."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

import epista
from tests.makers import Clock, Server

pytestmark = pytest.mark.chrome

DOWN, ACROSS = np.mgrid[0:600, 0:800]

SAMPLES = Path(__file__).parents[4] / "shared" / "data" / "images"

CELLS = np.stack([ACROSS * 5, DOWN * 6]).astype(np.uint16)
"""Two channels: one is brighter to the right, the other one downwards."""


def ome(pixels: Any = CELLS, **metadata: Any) -> bytes:
    out = io.BytesIO()
    told = {"axes": "CYX", "Channel": {"Name": ["DAPI", "<b>GFP"]}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5} | metadata
    tifffile.imwrite(out, pixels, ome=True, metadata=told, photometric="minisblack", tile=(128, 128), compression="zlib")
    return out.getvalue()


@pytest.fixture
def look(server: Server, http_ws: epista.Workspace, page: Page) -> Callable[..., Page]:
    """Put an image, and open it."""

    def open_page(data: bytes, *, view: str = "", key: str = "EXP-1/cells.tif") -> Page:
        server.api().put(key, data)
        page.goto(http_ws.image.url(key) + view)
        return seen(page)

    return open_page


def seen(page: Page) -> Page:
    """Wait until all that shall be seen is seen."""
    expect(page.locator("#stage[aria-busy=false]")).to_be_visible(timeout=20_000)
    return page


def pixels(page: Page) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(page.locator("#image").screenshot())) as picture:
        return np.asarray(picture.convert("RGB"))


def place(page: Page) -> tuple[float, ...]:
    """Return x, y and zoom, as the address says them, once it is at rest."""
    page.wait_for_timeout(400)
    found = re.search(r"#([^~]*)", page.url)
    assert found is not None, page.url
    return tuple(map(float, found[1].split(",")))


def rendering(page: Page) -> str:
    page.wait_for_timeout(400)
    return page.url.partition("#")[2].partition("~")[2]


class TestLooking:
    def test_tiles_come_and_show_the_image(self, look: Callable[..., Page], page: Page) -> None:
        answers: list[tuple[int, str]] = []
        page.on("response", lambda answer: answers.append((answer.status, answer.url)))

        look(ome())

        tiles = [status for status, url in answers if url.endswith("/default.jpg")]
        assert len(tiles) >= 2
        assert {status for status, _ in answers} == {200}
        drawn = pixels(page)[200:500, 100:-100]
        assert drawn[:, -50:].mean() > drawn[:, :50].mean() + 20
        assert page.title() == "cells.tif – Epista"
        expect(page.get_by_role("checkbox", name="<b>GFP")).to_be_checked()

    def test_keys_move_the_view_and_the_address_follows(self, look: Callable[..., Page], page: Page) -> None:
        look(ome())
        x, y, zoom = place(page)
        assert (x, y) == (400, 300)

        page.keyboard.press("+")
        page.keyboard.press("+")
        nearer = place(page)
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        moved = place(page)
        page.keyboard.press("-")
        assert nearer[2] == pytest.approx(2.25 * zoom, rel=0.01)
        assert (moved[0] > nearer[0], moved[1] > nearer[1]) == (True, True)
        assert place(page)[2] < moved[2]
        page.keyboard.press("0")
        assert place(page) == pytest.approx((x, y, zoom))

    def test_an_address_gives_back_its_view(self, look: Callable[..., Page], page: Page, http_ws: epista.Workspace) -> None:
        look(ome(), view="#300,200,2~1:00ff00:100:2000")

        assert place(page) == pytest.approx((300, 200, 2), rel=0.01)
        assert rendering(page) == "1:00ff00:100:2000"
        expect(page.get_by_role("checkbox", name="DAPI")).not_to_be_checked()
        expect(page.get_by_role("spinbutton", name="High limit of <b>GFP")).to_have_value("2000")
        red, green, blue = pixels(page)[150:-150].reshape(-1, 3).mean(axis=0)
        assert green > 50 > red + blue
        page.goto(http_ws.image.url("EXP-1/cells.tif", at=(100, 250, 3)))
        assert place(seen(page)) == pytest.approx((100, 250, 3), rel=0.01)
        # Typed by a person into the address that is open.
        page.evaluate("location.hash = '#500,250,1.5~0:ff0000:0:4000'")
        seen(page)
        assert place(page) == pytest.approx((500, 250, 1.5), rel=0.01)
        assert rendering(page) == "0:ff0000:0:4000"

    def test_channels_and_limits_change_what_is_seen(self, look: Callable[..., Page], page: Page) -> None:
        look(ome())
        both = pixels(page)[200:500, 100:-100].astype(int)

        page.get_by_role("checkbox", name="<b>GFP").uncheck()
        one = pixels(seen(page))[200:500, 100:-100].astype(int)
        page.get_by_role("spinbutton", name="High limit of DAPI").fill("1000")
        brighter = pixels(seen(page))[200:500, 100:-100].astype(int)
        said = rendering(page)
        page.get_by_label("Colour of DAPI").fill("#ff0000")
        red = pixels(seen(page))[200:500, 100:-100].astype(int)
        page.get_by_role("checkbox", name="DAPI").uncheck()
        seen(page)
        nothing = pixels(page)[200:500, 100:-100]
        page.get_by_role("button", name="Reset").click()
        again = pixels(seen(page))[200:500, 100:-100].astype(int)

        assert np.abs(one - both).mean() > 10
        assert brighter.mean() > one.mean() + 20
        assert re.fullmatch(r"0:0000ff:[\d.]+:1000", said)
        assert red[..., 0].mean() > 100 > red[..., 2].mean()
        assert np.ptp(nothing) < 30
        assert np.abs(again - both).mean() < 2

    def test_what_is_seen_stays_until_the_change_is_there(self, look: Callable[..., Page], page: Page) -> None:
        look(ome())
        page.evaluate(
            """() => {
                const canvas = document.querySelector("#image canvas");
                const copy = Object.assign(document.createElement("canvas"), {width: 100, height: 100});
                const brush = copy.getContext("2d", {willReadFrequently: true});
                window.least = 255;
                const watch = () => {
                    brush.drawImage(canvas, canvas.width / 2 - 50, canvas.height / 2 - 50, 100, 100, 0, 0, 100, 100);
                    const data = brush.getImageData(0, 0, 100, 100).data;
                    let sum = 0;
                    for (let at = 0; at < data.length; at += 4) sum += Math.max(data[at], data[at + 1], data[at + 2]);
                    window.least = Math.min(window.least, sum / (data.length / 4));
                    requestAnimationFrame(watch);
                };
                watch();
            }"""
        )
        before = page.evaluate("window.least")

        page.get_by_role("spinbutton", name="High limit of DAPI").fill("1500")
        seen(page)
        page.wait_for_timeout(100)

        assert before > 80
        assert page.evaluate("window.least") > 0.9 * before

    def test_planes_and_scenes_are_chosen(self, look: Callable[..., Page], page: Page) -> None:
        out = io.BytesIO()
        with tifffile.TiffWriter(out, ome=True) as writer:
            stack = np.stack([np.full((200, 200), 40 * number, np.uint8) for number in range(5)])
            writer.write(stack, metadata={"axes": "ZYX"}, photometric="minisblack")
            writer.write(np.tile(np.arange(240, dtype=np.uint8), (100, 1)), metadata={"axes": "YX"}, photometric="minisblack")
        look(out.getvalue())
        middle = pixels(page)[300:350, 300:350].mean()

        page.get_by_role("slider", name="Plane").press("End")
        last = pixels(seen(page))[300:350, 300:350].mean()
        said = rendering(page)
        page.get_by_role("combobox", name="Image").select_option(index=1)
        other = pixels(seen(page))[300:350, 200:500]

        assert (round(middle), round(last)) == (80, 160)
        assert said.endswith(";z4")
        expect(page.get_by_role("slider", name="Plane")).to_be_hidden()
        assert np.ptp(other) > 60
        assert rendering(page).endswith(";s1")

    def test_there_is_a_scale_bar_where_the_size_of_pixels_is_known(self, look: Callable[..., Page], page: Page) -> None:
        look(ome(), view="#400,300,2")
        bar = page.locator("#scale")
        expect(bar).to_have_text("20 µm")
        box = bar.bounding_box()
        # 20 µm are 40 pixels of the image, and each of them is two pixels of the screen wide.
        assert box is not None
        assert box["width"] == pytest.approx(80, abs=1)

        out = io.BytesIO()
        tifffile.imwrite(out, CELLS[0])
        look(out.getvalue(), key="EXP-1/b.tif")
        expect(page.locator("#scale")).to_be_hidden()

    def test_what_was_drawn_on_it_lies_over_it(
        self, look: Callable[..., Page], page: Page, server: Server, http_ws: epista.Workspace
    ) -> None:
        img = server.api().put("EXP-1/cells.tif", ome())
        square = [[[200, 100], [400, 100], [400, 300], [200, 300], [200, 100]]]
        drawn: list[dict[str, Any]] = [
            {"geometry": {"type": "Polygon", "coordinates": square}, "properties": {"name": "<b>A1", "color": [255, 0, 0]}},
            {"geometry": {"type": "MultiPoint", "coordinates": [[500, 500], [520, 500]]}, "properties": {}},
        ]
        rois = {"type": "FeatureCollection", "features": [{"type": "Feature"} | one for one in drawn]}
        http_ws.put("EXP-1/rois.geojson", rois, inputs=[img["id"]])
        page.goto(http_ws.image.url("EXP-1/cells.tif", at=(300, 200, 1)))
        seen(page)

        expect(page.get_by_text("2 annotations")).to_be_visible()
        box = page.locator(".shapes path.line").bounding_box()
        stage = page.locator("#image").bounding_box()
        assert box and stage
        middle = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
        assert (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) == pytest.approx(middle, abs=2)
        assert box["width"] == pytest.approx(200, abs=4)
        expect(page.locator(".shapes path.line title")).to_have_text("<b>A1")
        page.get_by_role("checkbox", name="2 annotations").uncheck()
        expect(page.locator(".shapes")).to_be_hidden()

    def test_a_link_is_copied(self, look: Callable[..., Page], page: Page) -> None:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        look(ome(), view="#300,200,2")

        page.get_by_role("button", name="Copy link").click()

        expect(page.get_by_role("status")).to_contain_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == page.url
        assert "#300" in page.url


@pytest.mark.real_data
class TestRealImages:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("CMU-1-Small-Region.svs", "2,220 × 2,967 pixels"),
            ("multi-channel.ome.tif", "Channel 0, Channel 1, Channel 2 (int8)"),
            ("nuclei3d.tif", "57 × 61 pixels, 31 planes"),
        ],
        ids=["slide", "channels", "planes"],
    )
    def test_they_are_shown(self, look: Callable[..., Page], page: Page, name: str, text: str) -> None:
        path = SAMPLES / name
        if not path.exists():
            return

        look(path.read_bytes(), key=f"EXP-1/{name}")

        expect(page.locator("aside")).to_contain_text(text)
        middle = pixels(page)[250:-150, 250:-250]
        assert middle.std() > 10


class TestSession:
    def test_it_is_renewed_while_somebody_looks(self, look: Callable[..., Page], page: Page, clock: Clock) -> None:
        page.clock.install()
        look(ome())
        before = page.url

        clock.ahead_seconds = 10 * 60
        with page.expect_response("**/renew") as renewed:
            page.clock.fast_forward(10 * 60_000)
        token = renewed.value.json()["token"]
        page.clock.run_for(2000)
        expect(page).to_have_url(re.compile(f"/tiles/{re.escape(token)}/view#"))
        clock.ahead_seconds = 20 * 60

        # The first session has ended. What is asked for now has the new token.
        assert token not in before
        with page.expect_response("**/default.jpg") as tile:
            page.get_by_role("checkbox", name="DAPI").uncheck()
            page.clock.run_for(2000)
        assert f"/{token}/" in tile.value.url
        assert tile.value.status == 200

    def test_after_its_last_renewal_the_end_is_told(self, look: Callable[..., Page], page: Page) -> None:
        def renew(route: Route) -> None:
            told = route.fetch().json()
            route.fulfill(json=told | {"renew_until": told["expires_at"]})

        page.route("**/renew", renew)
        page.clock.install()
        look(ome())
        with page.expect_response("**/renew"):
            page.clock.fast_forward(10 * 60_000)

        page.clock.run_for(1000)
        expect(page.get_by_role("alert")).to_be_hidden()
        page.clock.fast_forward(16 * 60_000)

        expect(page.get_by_role("alert")).to_contain_text("open for as long as one may be")

    def test_its_end_is_told(self, server: Server, http_ws: epista.Workspace, context: Any, clock: Clock) -> None:
        server.api().put("EXP-1/cells.tif", ome())
        page: Page = context.new_page()
        page.goto(http_ws.image.url("EXP-1/cells.tif"))
        seen(page)

        clock.ahead_seconds = 16 * 60
        page.get_by_role("checkbox", name="DAPI").uncheck()

        expect(page.get_by_role("alert")).to_contain_text("This view has ended")
        expect(page.get_by_role("alert")).to_contain_text("Open the image again")

    def test_a_damaged_tile_is_told(self, server: Server, http_ws: epista.Workspace, context: Any) -> None:
        data = bytearray(ome())
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            at, size = file.pages[0].dataoffsets[-1], file.pages[0].databytecounts[-1]
        data[at : at + size] = bytes(size)
        server.api().put("EXP-1/cells.tif", bytes(data))
        page: Page = context.new_page()

        page.goto(http_ws.image.url("EXP-1/cells.tif"))

        expect(page.get_by_role("alert")).to_contain_text("tile", timeout=20_000)


class TestForEveryone:
    def test_without_javascript_there_are_a_picture_and_facts(
        self, server: Server, http_ws: epista.Workspace, browser: Browser
    ) -> None:
        server.api().put("EXP-1/<i>cells.tif", ome())
        with browser.new_context(java_script_enabled=False) as context:
            page = context.new_page()

            page.goto(http_ws.image.url("EXP-1/<i>cells.tif"))

            expect(page.get_by_role("heading", level=1)).to_have_text("<i>cells.tif")
            still = page.get_by_role("img", name="The whole image, small")
            assert still.evaluate("image => image.naturalWidth") == 800
            for fact in ("OME-TIFF", "800 × 600 pixels", "0.5 × 0.5 µm", "DAPI, <b>GFP (uint16)"):
                expect(page.locator("aside")).to_contain_text(fact)
            expect(page.get_by_role("button")).to_have_count(0)

    @pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1440)], ids=["light-narrow", "dark-wide"])
    def test_axe_finds_nothing_serious(
        self, look: Callable[..., Page], page: Page, scheme: Any, width: int, http_ws: epista.Workspace
    ) -> None:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        look(ome())

        found = Axe().run(page).response["violations"]

        assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []
        # Nothing has to be scrolled sideways, and a finger hits everything.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        small = (
            "all => all.filter(one => one.checkVisibility() && one.getBoundingClientRect().height < 44).map(one => one.outerHTML)"
        )
        assert page.locator("button, select, input:not([type=checkbox]), label.check").evaluate_all(small) == []
