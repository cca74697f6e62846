"""Images that are damaged, or made to harm: an error that says what, never zeros, and no memory for what they claim."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from epista.contract.errors import EpistaError, UnreadableImageError
from epista.server.imaging import tiff
from epista.server.imaging.image import Image, open_image
from tests.server.imaging.makers import HEIGHT, WIDTH, Memory, noise, planes, pyramid

Entry = tuple[int, int, list[int]]


def made(*pages: list[Entry], data: bytes = b"", circle: bool = False) -> bytes:
    """Return a little-endian TIFF of these tags (code, type 3 or 4, values), after *data* at offset 8."""
    out = bytearray(b"II*\0" + struct.pack("<I", 8 + len(data)) + data)
    for number, entries in enumerate(pages):
        last = number == len(pages) - 1
        at = len(out)
        extra = bytearray()
        out += struct.pack("<H", len(entries))
        end = at + 2 + 12 * len(entries) + 4
        for code, kind, values in sorted(entries):
            packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
            if len(packed) > 4:
                packed, extra = struct.pack("<I", end + len(extra)), extra + packed
            out += struct.pack("<HHI", code, kind, len(values)) + packed.ljust(4, b"\0")
        following = 8 + len(data) if circle else 0
        out += struct.pack("<I", following if last else end + len(extra)) + extra
    return bytes(out)


def tags(width: int, height: int, *, offsets: list[int], sizes: list[int], **more: int) -> list[Entry]:
    """Return the tags of a page of 8-bit grey in strips, or in tiles of the size that *more* gives."""
    tile = more.get("tile", 0)
    layout: list[Entry] = [(273, 4, offsets), (278, 4, [more.get("rows", height)]), (279, 4, sizes)]
    if tile:
        layout = [(322, 4, [tile]), (323, 4, [tile]), (324, 4, offsets), (325, 4, sizes)]
    return [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [more.get("bits", 8)]),
        (259, 3, [more.get("compression", 1)]),
        (262, 3, [1]),
        *layout,
    ]


def opened(data: bytes) -> Image:
    return open_image(Memory(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image at all",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II+\0\x08\0\0\0" + b"\xff" * 8,
        b"MM\0*\0\0\0\x08\0\0\0\0\0\0",
        made([]),
        made(tags(0, 0, offsets=[8], sizes=[1])),
        made(tags(10, 0, offsets=[8], sizes=[1])),
        made(tags(10, 10, offsets=[8], sizes=[100], rows=0)),
    ],
    ids=["nothing", "text", "head", "nowhere", "big-nowhere", "no-tags", "no-page", "no-size", "no-height", "no-rows"],
)
def test_what_has_no_pixels_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableImageError):
        opened(data)


def test_pages_in_a_circle_are_refused() -> None:
    page = tags(4, 4, offsets=[8], sizes=[16])

    with pytest.raises(UnreadableImageError, match="the pages of the image form a circle"):
        opened(made(page, page, data=bytes(16), circle=True))


def test_too_many_pages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "MAX_PAGES", 3)
    page = tags(4, 4, offsets=[8], sizes=[16])

    opened(made(page, page, page, data=bytes(16)))
    with pytest.raises(UnreadableImageError, match="more than 3 pages"):
        opened(made(page, page, page, page, data=bytes(16)))
    with pytest.raises(UnreadableImageError, match="more than 3 pages"):
        opened(made([*page, (330, 4, [8] * 50_000)], data=bytes(16)))


def test_headers_may_not_be_the_whole_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tiff, "MAX_HEADER_BYTES", 2000)

    with pytest.raises(UnreadableImageError, match="more headers than may be read"):
        opened(pyramid(tmp_path / "a.ome.tif").read_bytes())


@pytest.mark.parametrize(("offset", "size"), [(2**32 - 1, 16), (8, 2**32 - 1), (30, 10_000)], ids=["offset", "size", "both"])
def test_a_tile_that_lies_about_its_place_is_named(offset: int, size: int) -> None:
    data = made(tags(4, 8, offsets=[8, offset], sizes=[16, size], rows=4, compression=8), data=zlib.compress(bytes(16)))

    image = opened(data)

    assert image.index.warnings == ("the file is cut: 1 of 2 tiles are not in it",)
    with pytest.raises(UnreadableImageError, match="the tile in row 1, column 0 of plane 0, level 0 lies beyond") as caught:
        image.read_region(0, 0, 4, 8)
    assert caught.value.details == {"scene": 0, "level": 0, "plane": 0, "tile": [1, 0]}


def test_a_strip_that_is_shorter_than_its_rows_is_not_filled_up() -> None:
    image = opened(made(tags(1000, 1000, offsets=[8], sizes=[500_000]), data=b"\7" * 500_000))

    assert image.read_region(0, 100, 1000, 50).min() == 7
    with pytest.raises(UnreadableImageError, match="beyond the end"):
        image.read_region(0, 900, 10, 10)


def test_fewer_offsets_than_tiles() -> None:
    image = opened(made(tags(64, 128, offsets=[8], sizes=[4096], tile=64), data=b"\7" * 4096))

    assert image.index.warnings == ("the file is cut: 1 of 2 tiles are not in it",)
    assert image.read_region(0, 0, 64, 64).min() == 7
    with pytest.raises(UnreadableImageError, match="row 1, column 0 of plane 0, level 0 is not in the file"):
        image.read_region(0, 64, 64, 64)


@pytest.mark.parametrize(
    ("compression", "bomb"),
    [
        (8, zlib.compress(bytes(50_000_000))),
        (50000, imagecodecs.zstd_encode(bytes(50_000_000))),
        (32773, b"\x81\0" * 400_000),
    ],
    ids=["zlib", "zstd", "packbits"],
)
def test_a_tile_that_unpacks_to_more_than_it_declares_is_refused_in_little_memory(compression: int, bomb: bytes) -> None:
    data = made(tags(64, 64, offsets=[8], sizes=[len(bomb)], tile=64, compression=compression), data=bytes(bomb))
    image = opened(data)

    tracemalloc.start()
    with pytest.raises(UnreadableImageError, match="cannot be decoded"):
        image.read_region(0, 0, 64, 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 3_000_000


@pytest.mark.parametrize("compression", [1, 8, 5])
def test_a_tile_that_declares_more_than_it_may_is_refused_before_it_is_read(compression: int) -> None:
    data = made(tags(2**16, 2**16, offsets=[8], sizes=[100], tile=2**16, compression=compression), data=bytes(100))
    source = Memory(data)
    image = open_image(source)
    source.ranges.clear()

    assert "pixels cannot be read: its tiles have 4,294,967,296 bytes; 67,108,864 are the most" in image.index.warnings
    with pytest.raises(UnreadableImageError, match="its tiles have 4,294,967,296 bytes"):
        image.read_region(0, 0, 10, 10)
    assert source.ranges == []


@pytest.mark.parametrize("shape", [(64, 65), (32, 64), (2000, 2000)], ids=["wider", "lower", "huge"])
def test_a_jpeg_of_another_size_than_its_tile_is_refused(shape: tuple[int, int]) -> None:
    jpeg = imagecodecs.jpeg_encode(noise(*shape, dtype="uint8"))
    data = made(tags(64, 64, offsets=[8], sizes=[len(jpeg)], tile=64, compression=7), data=bytes(jpeg))

    with pytest.raises(UnreadableImageError, match=f"says itself that it is {shape[1]} x {shape[0]} x 1"):
        opened(data).read_region(0, 0, 64, 64)


def test_a_jpeg_2000_of_another_size_than_its_tile_is_refused() -> None:
    picture = imagecodecs.jpeg2k_encode(noise(300, 300, dtype="uint8"))
    data = made(tags(64, 64, offsets=[8], sizes=[len(picture)], tile=64, compression=34712), data=bytes(picture))

    with pytest.raises(UnreadableImageError, match="is of another size"):
        opened(data).read_region(0, 0, 64, 64)


@pytest.mark.parametrize("compression", ["none", "zlib", "lzw", "zstd", "jpeg"])
def test_a_damaged_tile_is_an_error_and_its_neighbours_read(tmp_path: Path, compression: str) -> None:
    path = pyramid(tmp_path / "a.ome.tif", compression=compression, dtype="uint8", levels=1)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        offset, size = page.dataoffsets[1], page.databytecounts[1]
        tag = page.tags[325]
    # Half as long, as if the rest had never been written.
    struct.pack_into("<2H" if tag.dtype == 3 else "<2I", data, tag.valueoffset, page.databytecounts[0], size // 2)
    if compression == "jpeg":
        data[offset + size // 2 : offset + size] = bytes(size - size // 2)

    image = opened(bytes(data))

    expected = planes(path)[0, 0]
    np.testing.assert_array_equal(image.read_region(0, 0, 64, 200, channels=[0]), expected[:, :64, 0])
    with pytest.raises(UnreadableImageError, match="row 0, column 1 of plane 0"):
        image.read_region(70, 10, 10, 10, channels=[0])


def test_of_a_file_that_was_cut_the_tiles_that_are_there_still_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(HEIGHT, WIDTH), tile=(64, 64), compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as file:
        cut = file.pages.first.dataoffsets[10]

    image = opened(path.read_bytes()[:cut])

    assert image.index.warnings == ("the file is cut: 10 of 20 tiles are not in it",)
    np.testing.assert_array_equal(image.read_region(0, 0, WIDTH, 128), planes(path)[0, 0, :128, :, 0])
    with pytest.raises(UnreadableImageError, match="row 2, column 0"):
        image.read_region(0, 128, 10, 10)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"compression": 34676}, "the compression SGILOG is not supported"),
        ({"compression": 4711}, "the compression 4711 is not supported"),
        ({"bits": 128}, "pixels of 128 bits"),
    ],
    ids=["known", "unknown", "bits"],
)
def test_what_nobody_can_decode_is_named(more: dict[str, int], problem: str) -> None:
    image = opened(made(tags(4, 4, offsets=[8], sizes=[16], **more), data=bytes(16)))

    assert any(problem in warning for warning in image.index.warnings)
    with pytest.raises(UnreadableImageError, match=problem):
        image.read_region(0, 0, 1, 1)


def test_an_empty_tile_is_empty_wherever_the_file_says_that_it_lies() -> None:
    source = Memory(made(tags(4, 4, offsets=[2**31], sizes=[0], tile=16)))
    image = open_image(source)

    assert image.read_region(0, 0, 4, 4).tolist() == [[0] * 4] * 4
    assert source.ranges[-1] == (0, 0)


@pytest.mark.parametrize("code", [256, 257, 322, 323])
def test_a_size_that_is_no_whole_number_is_refused(code: int) -> None:
    whole = made(tags(16, 16, offsets=[8], sizes=[256], tile=16), data=bytes(256))
    # Of type float.
    data = whole.replace(struct.pack("<HHII", code, 4, 1, 16), struct.pack("<HHIf", code, 11, 1, 16.0))

    with pytest.raises(UnreadableImageError):
        opened(data).read_region(0, 0, 4, 4)


def test_a_height_that_the_file_has_not_takes_no_memory() -> None:
    data = made(tags(262_176, 1_879_048_416, offsets=[8], sizes=[1]), data=b"a")

    tracemalloc.start()
    image = opened(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 10_000_000
    with pytest.raises(UnreadableImageError, match="its tiles have"):
        image.read_region(0, 0, 1, 1)


def ome(body: str, *, head: str = "", sizes: str = 'SizeX="4" SizeY="4" SizeZ="1" SizeC="1" SizeT="1"') -> bytes:
    """Return an OME-TIFF of 4 x 4 pixels with this XML."""
    text = (
        f'<?xml version="1.0"?>{head}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{body or ""}'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" {sizes}>{{data}}</Pixels></Image></OME>'
    )
    return text.encode()


def ome_tiff(data: str = '<TiffData IFD="0"/>', body: str = "", **more: str) -> bytes:
    xml = ome(body, **more).replace(b"{data}", data.encode())
    pixels = b"\7" * 16
    page: list[Any] = tags(4, 4, offsets=[8], sizes=[16])
    made_with = made([*page, (270, 4, [0, 0])], data=pixels + xml)
    # The description is ASCII (type 2): its entry is written over.
    at = made_with.index(struct.pack("<HHI", 270, 4, 2))
    return made_with[:at] + struct.pack("<HHII", 270, 2, len(xml), 24) + made_with[at + 12 :]


def test_a_plain_ome_tiff_reads() -> None:
    image = opened(ome_tiff())

    assert image.index.format == "OME-TIFF"
    assert image.read_region(0, 0, 4, 4).tolist() == [[7] * 4] * 4


def test_an_ome_tiff_of_several_files_is_refused_with_their_names() -> None:
    data = "".join(
        f'<TiffData IFD="0" FirstC="0"><UUID FileName="{name}">urn:uuid:{name}</UUID></TiffData>'
        for name in ("b.ome.tif", "../../etc/passwd")
    )

    with pytest.raises(UnreadableImageError, match=r"in 2 files: '../../etc/passwd', 'b.ome.tif'") as caught:
        opened(ome_tiff(data))
    assert caught.value.details == {"files": ["../../etc/passwd", "b.ome.tif"]}


def test_an_ome_tiff_whose_xml_is_in_another_file_is_refused_with_its_name() -> None:
    with pytest.raises(UnreadableImageError, match=r"in 1 file: 'whole\.companion\.ome'"):
        opened(ome_tiff(body='<BinaryOnly MetadataFile="whole.companion.ome" UUID="urn:uuid:1"/>'))


def test_one_name_throughout_is_the_file_itself() -> None:
    image = opened(ome_tiff('<TiffData IFD="0"><UUID FileName="as-it-was-called.ome.tif">urn:uuid:1</UUID></TiffData>'))

    assert image.read_region(0, 0, 1, 1).tolist() == [[7]]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (ome_tiff(head='<!DOCTYPE OME [<!ENTITY a "aaaa">]>'), "has a document type"),
        (ome_tiff(body="<Broken>"), "the OME-XML is damaged"),
        (ome_tiff(sizes='SizeX="4" SizeY="4" SizeZ="100000" SizeC="9" SizeT="9"'), "more than 65,536 planes"),
        (ome_tiff(sizes='SizeX="4" SizeY="4" SizeZ="-1" SizeC="1" SizeT="1"'), "does not say how large"),
        (ome_tiff().replace(b'"XYZCT"', b'"XYZZZ"'), "order of dimensions"),
    ],
    ids=["doctype", "cut", "planes", "negative", "order"],
)
def test_xml_that_lies_is_refused(image: bytes, message: str) -> None:
    with pytest.raises(UnreadableImageError, match=message):
        opened(image)


def test_planes_that_are_not_in_the_file_are_no_zeros() -> None:
    image = opened(ome_tiff(sizes='SizeX="4" SizeY="4" SizeZ="3" SizeC="1" SizeT="1"'))

    assert image.index.warnings == ("2 of 3 planes are not in the file",)
    assert image.read_region(0, 0, 4, 4, z=0).min() == 7
    with pytest.raises(UnreadableImageError, match="of plane 2, level 0 is not in the file"):
        image.read_region(0, 0, 4, 4, z=2)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_damaged_is_an_error_of_ours(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    kinds: list[dict[str, Any]] = [{"compression": "zlib"}, {"compression": "jpeg", "dtype": "uint8"}, {}]
    whole = pyramid(tmp_path / "a.ome.tif", levels=2, **kinds[seed % 3]).read_bytes()
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        places = [page.offset for page in file.pages] + [8, 16, len(whole) - 400]
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            at = chance.choice(places) + chance.randrange(300)
            data[at : at + chance.choice((1, 2, 4))] = chance.randbytes(chance.choice((1, 2, 4)))
        try:
            image = opened(bytes(data))
            for level in range(len(image.index.scenes[0].levels)):
                image.read_region(0, 0, 200, 200, level=level)
        except EpistaError:
            continue
