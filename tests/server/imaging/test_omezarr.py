"""OME-Zarr in a zip: what zarr and ome-zarr write is read as it was given, by ranges; what is damaged or hostile is refused."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from epista.contract.errors import UnreadableImageError
from epista.server.imaging import omezarr
from epista.server.imaging.image import Image, open_image
from tests.server.imaging.makers import Memory, noise

PIXELS = noise(2, 3, 4, 130, 170)
AXES = "tczyx"
FORMATS = {"0.4": 2, "0.5": 3}


def zipped(folder: Path, *, root: str = "", compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, root + path.relative_to(folder).as_posix())
    return out.getvalue()


def written(
    folder: Path, format: str = "0.5", pixels: NDArray[Any] = PIXELS, axes: str = AXES, omero: dict[str, Any] | None = None
) -> bytes:
    """Write an image of two levels, with sizes of its pixels, as the standard says."""
    group = zarr.open_group(folder, mode="w", zarr_format=FORMATS[format])  # type: ignore[arg-type]
    scale = {"t": 1.0, "c": 1.0, "z": 2.0, "y": 0.25, "x": 0.5}
    kinds = {"t": "time", "c": "channel"}
    named: list[Any] = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    for axis in named:
        axis |= {"unit": "micrometer"} if axis["type"] == "space" else {}
    datasets: list[Any] = []
    for number, level in enumerate((pixels, pixels[..., ::2, ::2])):
        options: dict[str, Any] = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if format == "0.4" else {}
        array = group.create_array(
            str(number), shape=level.shape, chunks=(*(1,) * (len(axes) - 2), 64, 64), dtype=level.dtype, **options
        )
        array[:] = level
        found = [scale[axis] * (2**number if axis in "yx" else 1) for axis in axes]
        datasets.append({"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": found}]})
    told: dict[str, Any] = {"multiscales": [{"version": format, "axes": named, "datasets": datasets}]}
    told |= {"omero": omero} if omero else {}
    group.attrs.update(told if format == "0.4" else {"ome": {"version": format, **told}})
    return zipped(folder)


def opened(data: bytes) -> Image:
    return open_image(Memory(data))


def whole(image: Image, level: int = 0, **where: int) -> NDArray[Any]:
    size = image.index.scenes[where.get("scene", 0)].levels[level]
    found = image.read_region(0, 0, size.width, size.height, level=level, **where)  # type: ignore[arg-type]
    return np.moveaxis(found, -1, 0) if found.ndim == 3 else found[np.newaxis]


@pytest.mark.parametrize("format", FORMATS)
class TestWritten:
    def test_every_plane_of_every_level_is_as_it_was_written(self, tmp_path: Path, format: str) -> None:
        image = opened(written(tmp_path / "a", format))

        [scene] = image.index.scenes
        assert image.index.format == f"OME-Zarr {format}"
        assert (scene.size_t, scene.size_z, len(scene.channels)) == (2, 4, 3)
        assert (scene.pixel_size_um, scene.plane_distance_um) == ((0.5, 0.25), 2.0)
        assert [(one.width, one.height, one.tile_width) for one in scene.levels] == [(170, 130, 64), (85, 65, 64)]
        for t in range(2):
            for z in range(4):
                np.testing.assert_array_equal(whole(image, t=t, z=z), PIXELS[t, :, z])
                np.testing.assert_array_equal(whole(image, 1, t=t, z=z), PIXELS[t, :, z, ::2, ::2])
        np.testing.assert_array_equal(
            image.read_region(100, 60, 30, 20, channels=[2, 0])[..., 0], PIXELS[0, 2, 0, 60:80, 100:130]
        )

    def test_a_region_costs_its_chunks(self, tmp_path: Path, format: str) -> None:
        data = written(tmp_path / "a", format)
        source = Memory(data)
        image = open_image(source, index=opened(data).index)
        image.read_region(0, 0, 10, 10, channels=[0])

        assert sum(size for _, size in source.ranges) < 30_000 < len(data)

    @pytest.mark.parametrize("dtype", ["uint8", "int16", ">u2", "uint32", "float32", ">f8", "bool"])
    def test_every_type_of_number_is_read_in_native_order(self, tmp_path: Path, format: str, dtype: str) -> None:
        pixels = (noise(90, 70) % 2 if dtype == "bool" else noise(90, 70)).astype(np.dtype(dtype).newbyteorder("="))
        group = zarr.open_group(tmp_path / "a", mode="w", zarr_format=FORMATS[format])  # type: ignore[arg-type]
        made = group.create_array("0", shape=pixels.shape, chunks=(32, 32), dtype=dtype if format == "0.4" else pixels.dtype)
        made[:] = pixels
        multiscales: Any = [
            {"axes": [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}], "datasets": [{"path": "0"}]}
        ]
        group.attrs.update(
            {"multiscales": multiscales} if format == "0.4" else {"ome": {"multiscales": multiscales, "version": "0.5"}}
        )

        [found] = whole(opened(zipped(tmp_path / "a")))

        assert found.dtype.isnative
        np.testing.assert_array_equal(found, pixels)

    def test_an_archive_may_be_packed_or_have_a_folder_at_its_top(self, tmp_path: Path, format: str) -> None:
        written(tmp_path / "a", format)
        packed = zipped(tmp_path / "a", root="img.ome.zarr/", compression=zipfile.ZIP_DEFLATED)

        np.testing.assert_array_equal(whole(opened(packed)), PIXELS[0, :, 0])

    def test_axes_may_be_few(self, tmp_path: Path, format: str) -> None:
        image = opened(written(tmp_path / "a", format, PIXELS[0, :, 0], "cyx"))

        np.testing.assert_array_equal(whole(image, 1), PIXELS[0, :, 0, ::2, ::2])

    def test_names_colours_and_limits_are_those_of_omero(self, tmp_path: Path, format: str) -> None:
        channels = [
            {"label": "DAPI", "color": "0000FF", "window": {"start": 5, "end": 90, "min": 0, "max": 255}},
            {"label": "GFP", "color": "green", "window": {"start": "a", "end": None}},
            {},
        ]
        image = opened(written(tmp_path / "a", format, omero={"channels": channels}))
        found = image.index.scenes[0].channels

        assert [(one.name, one.color, one.limits) for one in found] == [
            ("DAPI", "0000ff", (5, 90)),
            ("GFP", None, None),
            ("Channel 2", None, None),
        ]

    def test_chunks_that_are_not_there_are_empty(self, tmp_path: Path, format: str) -> None:
        written(tmp_path / "a", format)
        gone = tmp_path / "a" / ("0/0/0/0/0/0" if format == "0.4" else "0/c/0/0/0/0/0")
        gone.unlink()
        [first, *others] = whole(opened(zipped(tmp_path / "a")))

        assert not first[:64, :64].any()
        np.testing.assert_array_equal(first[64:], PIXELS[0, 0, 0, 64:])
        np.testing.assert_array_equal(others, PIXELS[0, 1:, 0])

    def test_a_damaged_chunk_is_told_and_costs_no_other(self, tmp_path: Path, format: str) -> None:
        written(tmp_path / "a", format)
        damaged = tmp_path / "a" / ("0/0/0/0/0/0" if format == "0.4" else "0/c/0/0/0/0/0")
        damaged.write_bytes(damaged.read_bytes()[:20])
        image = opened(zipped(tmp_path / "a"))

        with pytest.raises(UnreadableImageError, match="the chunk in row 0, column 0 of channel 0, z 0, t 0, level 0"):
            image.read_region(0, 0, 9, 9, channels=[0])
        np.testing.assert_array_equal(image.read_region(64, 64, 50, 50, channels=[0]), PIXELS[0, 0, 0, 64:114, 64:114])


def test_shards_are_read_by_range(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 60_000, (700, 900), dtype=np.uint16)
    data = _plain(tmp_path / "a", pixels, chunks=(64, 64), shards=(512, 512))
    source = Memory(data)
    image = open_image(source, index=opened(data).index)

    np.testing.assert_array_equal(image.read_region(600, 600, 70, 70), pixels[600:670, 600:670])
    assert sum(size for _, size in source.ranges) < 100_000


def test_axes_may_stand_in_another_order(tmp_path: Path) -> None:
    pixels = noise(70, 90)
    data = _plain(tmp_path / "a", pixels.T.copy(), chunks=(32, 16), axes=("x", "y"))

    np.testing.assert_array_equal(whole(opened(data))[0], pixels)


def test_levels_may_be_smaller_along_z(tmp_path: Path) -> None:
    pixels = noise(8, 64, 64)
    group = zarr.open_group(tmp_path / "a", mode="w", zarr_format=3)
    for path, level in (("0", pixels), ("1", pixels[::2, ::2, ::2])):
        group.create_array(path, shape=level.shape, chunks=(1, 32, 32), dtype=level.dtype)[:] = level
    datasets: Any = [
        {"path": path, "coordinateTransformations": [{"type": "scale", "scale": [s, s, s]}]} for path, s in (("0", 1), ("1", 2))
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": [{"name": a} for a in "zyx"], "datasets": datasets}]}

    np.testing.assert_array_equal(whole(opened(zipped(tmp_path / "a")), 1, z=5)[0], pixels[4, ::2, ::2])


def test_each_series_of_bioformats2raw_is_a_scene(tmp_path: Path) -> None:
    written(tmp_path / "a" / "0", "0.4")
    written(tmp_path / "a" / "1", "0.4", PIXELS[..., ::-1])
    (tmp_path / "a" / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    (tmp_path / "a" / ".zgroup").write_text('{"zarr_format": 2}')
    image = opened(zipped(tmp_path / "a"))

    assert len(image.index.scenes) == 2
    np.testing.assert_array_equal(whole(image, scene=1), PIXELS[0, :, 0, :, ::-1])


def test_labels_beside_the_image_do_not_matter(tmp_path: Path) -> None:
    written(tmp_path / "a")
    written(tmp_path / "a" / "labels" / "cells")

    np.testing.assert_array_equal(whole(opened(zipped(tmp_path / "a"))), PIXELS[0, :, 0])


def _plain(folder: Path, pixels: NDArray[Any], axes: tuple[str, ...] = ("y", "x"), **options: Any) -> bytes:
    group = zarr.open_group(folder, mode="w", zarr_format=3)
    group.create_array("0", shape=pixels.shape, dtype=pixels.dtype, **options)[:] = pixels
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": [{"name": axis} for axis in axes], "datasets": [{"path": "0"}]}],
    }
    return zipped(folder)


def _changed(tmp_path: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> bytes:
    _plain(tmp_path / "a", noise(100, 100), chunks=(50, 50))
    path = tmp_path / "a" / name
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return zipped(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("zarr.json", lambda told: told.update(attributes={})),
        ("zarr.json", lambda told: told["attributes"]["ome"].update(multiscales=[])),
        ("zarr.json", lambda told: told["attributes"]["ome"].update(multiscales=7)),
        ("zarr.json", lambda told: told["attributes"]["ome"]["multiscales"][0].update(datasets=[])),
        ("zarr.json", lambda told: told["attributes"]["ome"]["multiscales"][0].update(datasets=[{"path": "../a"}])),
        ("zarr.json", lambda told: told["attributes"]["ome"]["multiscales"][0].update(axes=[{"name": "y"}, {"name": "y"}])),
        ("zarr.json", lambda told: told["attributes"]["ome"]["multiscales"][0].update(axes=[{"name": "q"}, {"name": "x"}])),
        ("zarr.json", lambda told: told["attributes"]["ome"]["multiscales"][0].update(axes=[[], {}])),
        ("zarr.json", lambda told: told["attributes"]["ome"].update(plate={})),
        ("0/zarr.json", lambda told: told.update(shape=[0, 100])),
        ("0/zarr.json", lambda told: told.update(shape=[100])),
        ("0/zarr.json", lambda told: told.update(shape=[2**40, 2**40])),
        ("0/zarr.json", lambda told: told.update(shape="big")),
        ("0/zarr.json", lambda told: told.update(data_type="string")),
        ("0/zarr.json", lambda told: told.update(data_type={"name": "numpy.datetime64"})),
        ("0/zarr.json", lambda told: told.update(codecs=[{"name": "numcodecs.pickle"}])),
        ("0/zarr.json", lambda told: told.update(codecs=[{"name": "my_own"}])),
        ("0/zarr.json", lambda told: told.update(storage_transformers=[{"name": "x"}])),
        ("0/zarr.json", lambda told: told["chunk_grid"]["configuration"].update(chunk_shape=[-1, 5])),
        ("0/zarr.json", lambda told: told.pop("chunk_grid")),
    ],
)
def test_documents_that_lie_are_refused(tmp_path: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(UnreadableImageError):
        opened(_changed(tmp_path, name, change))


def test_huge_chunks_are_never_unpacked(tmp_path: Path) -> None:
    data = _changed(
        tmp_path,
        "0/zarr.json",
        lambda told: (told.update(shape=[2**20, 2**20]), told["chunk_grid"]["configuration"].update(chunk_shape=[2**20, 2**20])),
    )

    with pytest.raises(UnreadableImageError, match="chunks are larger"):
        opened(data).read_region(0, 0, 9, 9)


def test_a_chunk_that_unpacks_to_more_than_it_may_is_refused(tmp_path: Path) -> None:
    _plain(tmp_path / "a", noise(100, 100), chunks=(50, 50))
    (tmp_path / "a/0/c/0/0").write_bytes(imagecodecs.zstd_encode(bytes(100 * 1024**2)))
    image = opened(zipped(tmp_path / "a"))

    with pytest.raises(UnreadableImageError, match="row 0, column 0"):
        image.read_region(0, 0, 9, 9)


def test_a_member_that_unpacks_to_more_than_the_archive_says_is_refused(tmp_path: Path) -> None:
    _plain(tmp_path / "a", noise(100, 100), chunks=(50, 50))
    (tmp_path / "a" / "zarr.json").write_bytes((tmp_path / "a" / "zarr.json").read_bytes() + b" " * 100_000)
    data = zipped(tmp_path / "a", compression=zipfile.ZIP_DEFLATED)
    size = len((tmp_path / "a" / "zarr.json").read_bytes())

    with pytest.raises(UnreadableImageError, match="another size"):
        opened(data.replace(size.to_bytes(4, "little"), (size - 50_000).to_bytes(4, "little")))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_an_archive_that_is_cut_is_refused(tmp_path: Path, share: float) -> None:
    data = written(tmp_path / "a")

    with pytest.raises(UnreadableImageError, match="cut or damaged"):
        opened(data[: int(share * len(data))])


def test_another_archive_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "word.xml").write_text("<a/>")

    with pytest.raises(UnreadableImageError, match="without a Zarr"):
        opened(zipped(tmp_path / "a"))


def test_an_archive_of_too_many_members_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(omezarr, "MAX_MEMBERS", 10)

    with pytest.raises(UnreadableImageError, match="more than 10 members"):
        opened(written(tmp_path / "a"))
