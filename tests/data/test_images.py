"""Image files: every format and depth to exact values, orientation, cropping, resizing and refusals."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from iga_nerfstudio.data import images as image_files
from iga_nerfstudio.data.images import read_image, write_image

HEIGHT, WIDTH = 5, 7
GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6
"""Colour types of PNG."""
PNG_CHANNELS = {GREY: 1, RGB: 3, GREY_ALPHA: 2, RGBA: 4}

# Where each EXIF orientation puts the pixels of the file, as the standard words it: row 0 of the file is shown at the
# top (1, 2), bottom (3, 4), left (5, 8) or right (6, 7), column 0 at the left (1, 4), right (2, 3), top (5, 6) or
# bottom (7, 8).
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


def noise(channels: int, dtype: type = np.uint8, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, top, (height, width, channels), dtype=dtype, endpoint=True)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(levels: np.ndarray, colour_type: int, extra: bytes = b"") -> bytes:
    """A PNG file byte by byte, so that no library of the reader takes part in it."""
    height, width, _ = levels.shape
    bits = 8 * levels.dtype.itemsize
    rows = b"".join(b"\0" + row.astype(levels.dtype.newbyteorder(">")).tobytes() for row in levels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(levels: np.ndarray, photometric: int, order: str = "<", **changes: tuple[str, int | list[int]]) -> bytes:
    """An uncompressed TIFF file byte by byte. ``changes``: tags as ``t339=("H", value)``."""
    height, width, channels = levels.shape
    pixels = levels.astype(levels.dtype.newbyteorder(order)).tobytes()
    tags: dict[int, tuple[str, int | list[int]]] = {
        256: ("I", width),
        257: ("I", height),
        258: ("H", [8 * levels.dtype.itemsize] * channels),
        259: ("H", 1),
        262: ("H", photometric),
        273: ("I", 8),
        277: ("H", channels),
        278: ("I", height),
        279: ("I", len(pixels)),
        **{int(name[1:]): value for name, value in changes.items()},
    }
    body, entries = pixels + b"\0" * (len(pixels) % 2), b""
    for tag, (kind, value) in sorted(tags.items()):
        numbers = value if isinstance(value, list) else [value]
        data = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        if len(data) > 4:
            place = 8 + len(body)
            body += data + b"\0" * (len(data) % 2)
            data = struct.pack(f"{order}I", place)
        entries += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(numbers)) + data.ljust(4, b"\0")
    magic = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8 + len(body))
    return magic + body + struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4


def save(path: Path, picture: Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def check(image: np.ndarray, levels: np.ndarray, top: int) -> None:
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    assert_array_equal(image, levels.astype(np.float32) / np.float32(top))


class TestEightBits:
    @pytest.mark.parametrize("ending", ["png", "tif", "bmp", "webp"])
    def test_colour(self, tmp_path: Path, ending: str) -> None:
        levels = noise(3)
        path = save(
            tmp_path / f"a.{ending}", Image.fromarray(levels), **({"lossless": True} if ending == "webp" else {})
        )
        check(read_image(path), levels, 255)

    @pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
    def test_grey(self, tmp_path: Path, ending: str) -> None:
        levels = noise(1)
        check(read_image(save(tmp_path / f"a.{ending}", Image.fromarray(levels[..., 0]))), levels, 255)

    @pytest.mark.parametrize("ending", ["png", "tif", "webp"])
    def test_alpha_is_straight_and_hidden_colours_stay(self, tmp_path: Path, ending: str) -> None:
        levels = noise(4)
        levels[0, :, 3] = 0
        options = {"lossless": True, "exact": True} if ending == "webp" else {}
        check(read_image(save(tmp_path / f"a.{ending}", Image.fromarray(levels), **options)), levels, 255)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_grey_with_alpha_becomes_rgba(self, tmp_path: Path, dtype: type) -> None:
        levels = noise(2, dtype)
        image = read_image(put(tmp_path / "a.png", png(levels, GREY_ALPHA)))
        check(image, levels[..., [0, 0, 0, 1]], np.iinfo(dtype).max)

    def test_jpeg(self, tmp_path: Path) -> None:
        levels = np.zeros((16, 32, 3), np.uint8)
        levels[:, :16], levels[:, 16:] = (200, 40, 90), (10, 220, 130)
        image = read_image(save(tmp_path / "a.jpg", Image.fromarray(levels), quality=95, subsampling=0))
        assert_allclose(image, levels / 255, atol=3 / 255)

    def test_grey_jpeg(self, tmp_path: Path) -> None:
        image = read_image(save(tmp_path / "a.jpg", Image.new("L", (8, 8), 77)))
        assert_array_equal(image, np.full((8, 8, 1), np.float32(77) / np.float32(255)))

    def test_one_bit(self, tmp_path: Path) -> None:
        bits = noise(1)[..., 0] > 127
        for ending in ("png", "bmp", "tif"):
            check(read_image(save(tmp_path / f"a.{ending}", Image.fromarray(bits))), bits[..., None], 1)

    def test_palette(self, tmp_path: Path) -> None:
        colours = np.array([(255, 0, 0), (0, 128, 255), (3, 2, 1)], np.uint8)
        indices = noise(1)[..., 0] % 3
        picture = Image.fromarray(indices).copy()
        picture.putpalette(colours.tobytes())
        for ending in ("png", "gif", "bmp", "tif"):
            check(read_image(save(tmp_path / f"a.{ending}", picture)), colours[indices], 255)

    @pytest.mark.parametrize("ending", ["png", "gif"])
    def test_palette_with_a_transparent_colour(self, tmp_path: Path, ending: str) -> None:
        colours = np.array([(255, 0, 0), (0, 128, 255), (3, 2, 1)], np.uint8)
        indices = noise(1)[..., 0] % 3
        picture = Image.fromarray(indices).copy()
        picture.putpalette(colours.tobytes())
        image = read_image(save(tmp_path / f"a.{ending}", picture, transparency=1))
        expected = np.concatenate([colours[indices], np.where(indices == 1, 0, 255)[..., None]], axis=2)
        check(image, expected, 255)

    @pytest.mark.parametrize(("ending", "tolerance"), [("tif", 0), ("jpg", 3)])
    def test_cmyk(self, tmp_path: Path, ending: str, tolerance: float) -> None:
        path = save(tmp_path / f"a.{ending}", Image.new("CMYK", (16, 16), (255, 0, 51, 0)))
        assert_allclose(read_image(path), np.broadcast_to((0, 1, 0.8), (16, 16, 3)), atol=tolerance / 255 + 1e-6)

    def test_black_may_be_the_highest_level(self, tmp_path: Path) -> None:
        for dtype in (np.uint8, np.uint16):
            levels = noise(1, dtype)
            top = np.iinfo(dtype).max
            image = read_image(put(tmp_path / "a.tif", tiff(levels, photometric=0)))
            assert_allclose(image, 1 - levels / top, atol=1e-7)

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_a_transparent_grey_of_few_bits(self, tmp_path: Path, bits: int) -> None:
        top = 2**bits - 1
        levels = (noise(1, width=8)[..., 0] % (top + 1)).astype(np.uint8)
        packed = np.packbits(np.unpackbits(levels[..., None], axis=2)[..., -bits:].reshape(HEIGHT, -1), axis=1)
        rows = b"".join(b"\0" + row.tobytes() for row in packed)
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, HEIGHT, bits, GREY, 0, 0, 0))
        for level in {0, 1, top}:
            key = chunk(b"tRNS", struct.pack(">H", level))
            content = b"\x89PNG\r\n\x1a\n" + header + key + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
            image = read_image(put(tmp_path / "a.png", content))
            check(image, np.dstack([levels, levels, levels, top * (levels != level)]), top)


class TestSixteenBits:
    @pytest.mark.parametrize("colour_type", [GREY, RGB, RGBA])
    def test_png(self, tmp_path: Path, colour_type: int) -> None:
        levels = noise(PNG_CHANNELS[colour_type], np.uint16)
        check(read_image(put(tmp_path / "a.png", png(levels, colour_type))), levels, 65535)

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_tiff(self, tmp_path: Path, order: str, channels: int) -> None:
        levels = noise(channels, np.uint16)
        path = put(tmp_path / "a.tif", tiff(levels, photometric=1 if channels == 1 else 2, order=order))
        check(read_image(path), levels, 65535)

    def test_tiff_with_straight_alpha(self, tmp_path: Path) -> None:
        levels = noise(4, np.uint16)
        check(read_image(put(tmp_path / "a.tif", tiff(levels, 2, t338=("H", 2)))), levels, 65535)

    def test_tiff_with_premultiplied_alpha(self, tmp_path: Path) -> None:
        levels = noise(4, np.uint16)
        levels[..., 3] = np.maximum(levels[..., 3], 300)
        levels[0, 0, 3] = 0
        levels[..., :3] = levels[..., :3] * (levels[..., 3:] / 65535.0)
        image = read_image(put(tmp_path / "a.tif", tiff(levels, 2, t338=("H", 1))))
        assert_array_equal(image[..., 3] * 65535, levels[..., 3])
        assert_allclose(image[..., :3] * image[..., 3:] * 65535, levels[..., :3], atol=0.05)
        assert image.max() == pytest.approx(1.0, abs=0.05)

    def test_fourth_channel_without_a_meaning_is_left_out(self, tmp_path: Path) -> None:
        levels = noise(4, np.uint16)
        check(read_image(put(tmp_path / "a.tif", tiff(levels, 2, t338=("H", 0)))), levels[..., :3], 65535)

    def test_levels_that_eight_bits_cannot_hold(self, tmp_path: Path) -> None:
        levels = np.arange(256, dtype=np.uint16).reshape(16, 16, 1) + 0x4200
        for colour_type in (GREY, RGB):
            content = png(levels.repeat(PNG_CHANNELS[colour_type], axis=2), colour_type)
            assert len(np.unique(read_image(put(tmp_path / "a.png", content)))) == 256

    def test_grey_of_12_bits_reaches_1(self, tmp_path: Path) -> None:
        packed = bytes([0xFF, 0xF0, 0x00, 0x12, 0x38, 0x00])
        content = tiff(np.frombuffer(packed, np.uint8).reshape(2, 3, 1), 1, t256=("I", 2), t258=("H", 12))
        expected = np.array([[0xFFF, 0], [0x123, 0x800]])[..., None]
        check(read_image(put(tmp_path / "a.tif", content)), expected, 4095)

    def test_a_transparent_colour_of_16_bits(self, tmp_path: Path) -> None:
        levels = noise(3, np.uint16)
        levels[3, 4] = levels[1, 2]
        key = chunk(b"tRNS", struct.pack(">3H", *levels[1, 2]))
        image = read_image(put(tmp_path / "a.png", png(levels, RGB, key)))
        alpha = np.full((HEIGHT, WIDTH, 1), 65535)
        alpha[1, 2] = alpha[3, 4] = 0
        check(image, np.concatenate([levels, alpha], axis=2), 65535)

    def test_a_transparent_grey_of_16_bits(self, tmp_path: Path) -> None:
        levels = noise(1, np.uint16)
        levels[0, 0] = levels[1, 2] ^ 1  # The same in 8 bits.
        key = chunk(b"tRNS", struct.pack(">H", levels[1, 2, 0]))
        image = read_image(put(tmp_path / "a.png", png(levels, GREY, key)))
        assert_array_equal(np.argwhere(image[..., 3] == 0), [(1, 2)])
        check(image[..., :3].copy(), levels.repeat(3, axis=2), 65535)


class TestStrips:
    """Pictures are converted some rows at a time; here two rows of three values each."""

    @pytest.fixture(autouse=True)
    def few_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(image_files, "_VALUES_AT_ONCE", 2 * 3 * WIDTH)

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_eight_bits(self, tmp_path: Path, channels: int) -> None:
        levels = noise(channels)
        path = save(tmp_path / "a.png", Image.fromarray(levels if channels > 1 else levels[..., 0]))
        check(read_image(path), levels, 255)

    def test_palette_with_a_transparent_colour_that_few_rows_have(self, tmp_path: Path) -> None:
        colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], dtype=np.uint8)
        indices = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        indices[3, 2] = 1
        indices[4] = 2
        picture = Image.fromarray(indices, "P")
        picture.putpalette(colours.tobytes())
        image = read_image(save(tmp_path / "a.png", picture, transparency=1))
        check(image, np.dstack([colours[indices], 255 * (indices != 1)]), 255)

    @pytest.mark.parametrize("bits", [8, 16])
    def test_round_trip(self, tmp_path: Path, bits: Any) -> None:
        levels = noise(3, np.uint8 if bits == 8 else np.uint16)
        write_image(levels.astype(np.float32) / np.float32(2**bits - 1), tmp_path / "a.png", bits)
        check(read_image(tmp_path / "a.png"), levels, 2**bits - 1)

    def test_decoders_that_disagree_in_the_last_row(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        levels = noise(3, np.uint16)
        path = put(tmp_path / "a.png", png(levels, RGB))
        wrong = levels[..., ::-1].copy()
        wrong[-1] = 0
        monkeypatch.setattr(image_files.cv2, "imdecode", lambda *_: wrong)
        with pytest.raises(ValueError, match="two decoders read differently"):
            read_image(path)


class TestOrientation:
    @pytest.mark.parametrize("orientation", UPRIGHT)
    @pytest.mark.parametrize("ending", ["png", "tif", "webp"])
    def test_eight_bits(self, tmp_path: Path, ending: str, orientation: int) -> None:
        levels = noise(3)
        options = {"lossless": True} if ending == "webp" else {}
        path = save(tmp_path / f"a.{ending}", Image.fromarray(levels), exif=exif(orientation), **options)
        check(read_image(path), UPRIGHT[orientation](levels), 255)

    @pytest.mark.parametrize("orientation", UPRIGHT)
    def test_jpeg(self, tmp_path: Path, orientation: int) -> None:
        levels = noise(1, height=2, width=3).repeat(8, axis=0).repeat(8, axis=1)
        path = save(tmp_path / "a.jpg", Image.fromarray(levels[..., 0]), exif=exif(orientation), quality=95)
        assert_allclose(read_image(path), UPRIGHT[orientation](levels) / 255, atol=2 / 255)

    @pytest.mark.parametrize("orientation", UPRIGHT)
    @pytest.mark.parametrize("channels", [1, 3])
    def test_sixteen_bits(self, tmp_path: Path, channels: int, orientation: int) -> None:
        levels = noise(channels, np.uint16)
        expected = UPRIGHT[orientation](levels)
        extra = chunk(b"eXIf", exif(orientation).tobytes()[6:])
        check(read_image(put(tmp_path / "a.png", png(levels, GREY if channels == 1 else RGB, extra))), expected, 65535)
        content = tiff(levels, 1 if channels == 1 else 2, t274=("H", orientation))
        check(read_image(put(tmp_path / "a.tif", content)), expected, 65535)

    def test_a_tiff_file_is_turned_once_although_it_says_so_twice(self, tmp_path: Path) -> None:
        levels = noise(3)
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
        options: dict[str, Any] = {"tiffinfo": {274: 6, 700: xmp}, "compression": "tiff_lzw"}
        check(read_image(save(tmp_path / "a.tif", Image.fromarray(levels), **options)), UPRIGHT[6](levels), 255)

    def test_crop_and_size_mean_the_upright_picture(self, tmp_path: Path) -> None:
        levels = noise(3)
        path = save(tmp_path / "a.png", Image.fromarray(levels), exif=exif(6))
        upright = UPRIGHT[6](levels)
        check(read_image(path, crop=(1, 0, 4, 7)), upright[0:7, 1:5], 255)
        assert read_image(path, size=(4, 9)).shape == (9, 4, 3)


class TestFrames:
    @pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
    def test_the_first_is_read_and_one_line_says_so(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str
    ) -> None:
        frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
        options = {"lossless": True} if ending == "webp" else {}
        path = save(tmp_path / f"a.{ending}", frames[0], save_all=True, append_images=frames[1:], **options)
        with caplog.at_level(logging.WARNING, logger="iga_nerfstudio"):
            image = read_image(path)
        assert_array_equal(image[..., :3], np.broadcast_to(np.float32((1, 0, 0)), (3, 4, 3)))
        assert f"{path} has 2 frames or pages; only the first is read." in caplog.text

    def test_a_single_frame_is_nothing_to_talk_about(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        read_image(save(tmp_path / "a.gif", Image.new("RGB", (4, 3))))
        assert not caplog.records


class TestCropAndResize:
    def test_crop(self, tmp_path: Path) -> None:
        levels = noise(3)
        path = save(tmp_path / "a.png", Image.fromarray(levels))
        check(read_image(path, crop=(2, 1, 5, 3)), levels[1:4, 2:7], 255)
        check(read_image(path, crop=(0, 0, WIDTH, HEIGHT)), levels, 255)

    def test_crop_comes_before_resizing(self, tmp_path: Path) -> None:
        levels = np.zeros((20, 20, 3), np.uint8)
        levels[:10, :10] = 255
        path = save(tmp_path / "a.png", Image.fromarray(levels))
        assert_allclose(read_image(path, crop=(0, 0, 10, 10), size=(4, 6)), np.ones((6, 4, 3)), atol=1e-6)

    @pytest.mark.parametrize("size", [(20, 15), (60, 15), (20, 70), (31, 17), (90, 90)])
    def test_size(self, tmp_path: Path, size: tuple[int, int]) -> None:
        levels = noise(3, height=45, width=60)
        image = read_image(save(tmp_path / "a.png", Image.fromarray(levels)), size=size)
        assert image.shape == (size[1], size[0], 3)
        assert image.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 1
        assert_allclose(image.mean(axis=(0, 1)), levels.mean(axis=(0, 1)) / 255, atol=0.02)

    def test_the_size_of_the_picture_changes_nothing(self, tmp_path: Path) -> None:
        levels = noise(4)
        check(read_image(save(tmp_path / "a.png", Image.fromarray(levels)), size=(WIDTH, HEIGHT)), levels, 255)

    def test_fine_stripes_become_grey(self, tmp_path: Path) -> None:
        levels = np.zeros((40, 60, 1), np.uint8)
        levels[:, ::2] = 255
        image = read_image(save(tmp_path / "a.png", Image.fromarray(levels[..., 0])), size=(13, 10))
        assert_allclose(image[:, 2:-2], 0.5, atol=0.02)

    def test_a_ramp_stays_in_place(self, tmp_path: Path) -> None:
        ramp = np.linspace(10000, 50000, 64).astype(np.uint16)
        levels = np.broadcast_to(ramp[None, :, None], (64, 64, 1))
        image = read_image(put(tmp_path / "a.png", png(levels, GREY)), size=(16, 32))
        assert_allclose(image[16, 3:-3, 0], ramp.reshape(16, 4).mean(axis=1)[3:-3] / 65535, atol=1e-4)

    def test_resizing_keeps_more_than_eight_bits(self, tmp_path: Path) -> None:
        levels = np.broadcast_to(np.linspace(20000, 20600, 64).astype(np.uint16)[None, :, None], (8, 64, 3))
        image = read_image(put(tmp_path / "a.png", png(np.ascontiguousarray(levels), RGB)), size=(32, 4))
        assert len(np.unique(image[0, :, 0])) == 32

    @pytest.mark.parametrize("hidden", [(0, 0, 0, 0), (0, 255, 200, 0)])
    def test_no_fringes_of_hidden_colours(self, tmp_path: Path, hidden: tuple[int, ...]) -> None:
        levels = np.full((32, 32, 4), hidden, np.uint8)
        levels[8:25, 5:20] = (255, 128, 64, 255)
        path = save(tmp_path / "a.png", Image.fromarray(levels))
        for size in ((13, 11), (50, 70)):
            image = read_image(path, size=size)
            edge = (image[..., 3] > 0.01) & (image[..., 3] < 0.99)
            assert edge.sum() > 10
            assert_allclose(image[edge][:, :3], np.broadcast_to((1, 128 / 255, 64 / 255), (edge.sum(), 3)), atol=1e-3)

    def test_invisible_colours_survive_resizing(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.png", Image.new("RGBA", (8, 8), (255, 0, 102, 0)))
        assert_allclose(read_image(path, size=(3, 3)), np.broadcast_to((1, 0, 0.4, 0), (3, 3, 4)), atol=1e-6)

    @pytest.mark.parametrize(
        ("shape", "max_side", "expected"),
        [((40, 60), 30, (20, 30)), ((60, 40), 30, (30, 20)), ((40, 60), 60, (40, 60)), ((40, 60), 500, (40, 60))],
    )
    def test_max_side(self, tmp_path: Path, shape: tuple[int, int], max_side: int, expected: tuple[int, int]) -> None:
        path = save(tmp_path / "a.png", Image.fromarray(noise(3, height=shape[0], width=shape[1])))
        assert read_image(path, max_side=max_side).shape[:2] == expected

    def test_max_side_applies_to_the_crop(self, tmp_path: Path) -> None:
        levels = noise(3, height=40, width=60)
        path = save(tmp_path / "a.png", Image.fromarray(levels))
        check(read_image(path, crop=(10, 10, 20, 15), max_side=20), levels[10:25, 10:30], 255)


class TestBadRequests:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return save(tmp_path / "a.png", Image.fromarray(noise(3)))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"size": (4, 4), "max_side": 4}, "exclude each other"),
            ({"size": (0, 4)}, "size: width must be at least 2, but it is 0"),
            ({"size": (4, 1)}, "size: height must be at least 2, but it is 1"),
            ({"size": (4.5, 4)}, "size: width must be a whole number, but it is 4.5"),
            ({"size": (4,)}, r"size must be \(width, height\)"),
            ({"max_side": -3}, "max_side must be at least 2, but it is -3"),
            ({"crop": (-1, 0, 4, 4)}, "crop: left must be at least 0, but it is -1"),
            ({"crop": (0, 0, 0, 4)}, "crop: width must be at least 1, but it is 0"),
            ({"crop": (0, 0, 4)}, r"crop must be \(left, top, width, height\)"),
            ({"crop": (4, 0, 4, 4)}, r"4x4 pixels at left=4, top=0 leaves .*a\.png, which has 7x5 pixels"),
            ({"crop": (0, 3, 4, 3)}, r"leaves .*a\.png, which has 7x5 pixels"),
            ({"crop": (0, 0, 4, 1)}, r"a\.png has 4x1 pixels after cropping, but .* at least 2 pixels"),
        ],
    )
    def test_refused(self, path: Path, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            read_image(path, **arguments)

    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
    def test_single_pixels(self, tmp_path: Path, size: tuple[int, int]) -> None:
        path = save(tmp_path / "a.png", Image.new("RGB", size))
        with pytest.raises(ValueError, match=rf"a\.png has {size[0]}x{size[1]} pixels, but .* at least 2 pixels"):
            read_image(path)

    def test_shrinking_to_a_line(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.png", Image.new("RGB", (100, 4)))
        with pytest.raises(ValueError, match="has 100x4 pixels, and 20x1 with max_side=20, but"):
            read_image(path, max_side=20)


class TestBadFiles:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"no\.png does not exist"):
            read_image(tmp_path / "no.png")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path))} is a folder"):
            read_image(tmp_path)

    def test_below_a_file(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a", b"a") / "b.png"
        with pytest.raises(ValueError, match=r"Cannot read .*b\.png: Not a directory"):
            read_image(path)

    def test_empty(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"a\.png is empty"):
            read_image(put(tmp_path / "a.png", b""))

    @pytest.mark.parametrize(
        "content", [b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x89PNG\r\n\x1a\n", b"P5 2 2 255 abcd"]
    )
    def test_no_picture(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(ValueError, match=r"a\.png is no picture in a format that can be read \(PNG, JPEG"):
            read_image(put(tmp_path / "a.png", content))

    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.gif", "a.tif"])
    @pytest.mark.parametrize("part", [0.5, 0.9])
    def test_truncated(self, tmp_path: Path, name: str, part: float) -> None:
        path = save(tmp_path / name, Image.fromarray(noise(3, height=60, width=60)))
        content = path.read_bytes()
        with pytest.raises(
            ValueError, match=rf"{name} is (damaged or truncated|no picture .* its beginning is damaged)"
        ):
            read_image(put(path, content[: int(part * len(content))]))

    @pytest.mark.parametrize("colour_type", PNG_CHANNELS)
    def test_truncated_png_of_16_bits(self, tmp_path: Path, colour_type: int) -> None:
        content = png(noise(PNG_CHANNELS[colour_type], np.uint16, 60, 60), colour_type)
        with pytest.raises(ValueError, match=r"a\.png is damaged or truncated"):
            read_image(put(tmp_path / "a.png", content[: len(content) * 9 // 10]))

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("colour_type", PNG_CHANNELS)
    def test_a_png_whose_rows_are_not_all_there(self, tmp_path: Path, colour_type: int, dtype: type) -> None:
        content = png(noise(PNG_CHANNELS[colour_type], dtype), colour_type)
        taller = chunk(b"IHDR", content[16:20] + struct.pack(">I", 2 * HEIGHT) + content[24:29])
        with pytest.raises(ValueError, match=r"a\.png is damaged"):
            read_image(put(tmp_path / "a.png", content[:8] + taller + content[33:]))

    @pytest.mark.parametrize(("ending", "options"), [("png", {}), ("tif", {"compression": "tiff_adobe_deflate"})])
    def test_no_damage_to_what_has_a_checksum_goes_unseen(
        self, tmp_path: Path, ending: str, options: dict[str, Any]
    ) -> None:
        levels = noise(3, height=40, width=40)
        path = save(tmp_path / f"a.{ending}", Image.fromarray(levels), **options)
        content, random = path.read_bytes(), np.random.default_rng(0)
        start = content.index(b"\x78")  # of the compressed rows
        num_refused = 0
        for _ in range(20):
            damaged = bytearray(content)
            place = int(random.integers(start, start + 4000))
            damaged[place] ^= 1 << int(random.integers(8))
            try:
                check(read_image(put(path, bytes(damaged))), levels, 255)
            except ValueError:
                num_refused += 1
        assert num_refused > 15

    @pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
    @pytest.mark.parametrize(("width", "height"), [(2, 3), (5, 4), (9, 17)])
    def test_interlaced_png(self, tmp_path: Path, bits: int, width: int, height: int) -> None:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        sizes = [(len(range(x, width, right)), len(range(y, height, down))) for x, y, right, down in passes]
        rows = bytes(sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns))
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, GREY, 0, 0, 1))
        whole, cut = (
            b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
            for data in (rows, rows[:-1])
        )
        assert_array_equal(read_image(put(tmp_path / "a.png", whole)), np.zeros((height, width, 1)))
        with pytest.raises(ValueError, match=r"a\.png is damaged"):
            read_image(put(tmp_path / "a.png", cut))

    def test_metadata_that_cannot_be_read(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        levels = noise(3)
        check(read_image(put(tmp_path / "a.png", png(levels, RGB, chunk(b"eXIf", b"garbage")))), levels, 255)
        assert "The EXIF data of" in caplog.text

    def test_truncated_tiff_of_16_bits(self, tmp_path: Path) -> None:
        content = tiff(noise(3, np.uint16), 2, t279=("I", 10**6), t273=("I", 200))
        with pytest.raises(ValueError, match=r"a\.tif is damaged or truncated"):
            read_image(put(tmp_path / "a.tif", content))

    def test_a_half_decoded_picture_is_noticed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        levels = noise(3, np.uint16)
        half = levels[..., ::-1].copy()
        half[HEIGHT // 2 :] = 0
        path = put(tmp_path / "a.png", png(levels, RGB))
        monkeypatch.setattr(image_files.cv2, "imdecode", lambda *_: half)
        with pytest.raises(ValueError, match=r"a\.png is a 16-bit PNG picture that two decoders read differently"):
            read_image(path)
        monkeypatch.setattr(image_files.cv2, "imdecode", lambda *_: None)
        with pytest.raises(ValueError, match=r"a\.png is a 16-bit PNG picture of an unusual kind"):
            read_image(path)

    def test_decompression_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = save(tmp_path / "a.png", Image.new("RGB", (40, 40)))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(
            ValueError, match=r"a\.png claims .*\(a decompression bomb\).*1600 pixels.*raise max_pixels"
        ):
            read_image(path)
        assert read_image(path, max_pixels=800).shape == (40, 40, 3)
        with pytest.raises(ValueError, match="decompression bomb"):
            read_image(path, max_pixels=799)
        assert Image.MAX_IMAGE_PIXELS == 100

    @pytest.mark.parametrize(
        ("channels", "options", "kind"),
        [
            (2, {"photometric": "minisblack", "extrasamples": ["unassalpha"]}, "grey and alpha with 16+16 bits"),
            (3, {"photometric": "cielab"}, "CIE Lab with 16+16+16 bits"),
        ],
    )
    def test_tiff_files_that_pillow_does_not_know_are_named(
        self, tmp_path: Path, channels: int, options: dict[str, Any], kind: str
    ) -> None:
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8, channels), np.uint16), planarconfig="contig", **options)
        with pytest.raises(ValueError, match=rf"a\.tif is a .*{re.escape(kind)} per pixel, which cannot be read"):
            read_image(tmp_path / "a.tif")

    @pytest.mark.parametrize("content", [b"\x76\x2f\x31\x01\x02", b"#?RADIANCE\n", b"#?RGBE\n"])
    def test_hdr_formats(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(ValueError, match=r"a\.hdr is .*HDR pictures have no upper bound.*Tone-map"):
            read_image(put(tmp_path / "a.hdr", content))

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize(
        ("dtype", "kind", "message"),
        [
            (np.float16, 3, "16-bit floating-point samples.*HDR"),
            (np.float32, 3, "32-bit floating-point samples.*HDR"),
            (np.float64, 3, "64-bit floating-point samples.*HDR"),
            (np.int8, 2, "8-bit signed samples, which cannot be read"),
            (np.int16, 2, "16-bit signed samples, which cannot be read"),
            (np.uint32, 1, "32-bit unsigned samples, which cannot be read"),
        ],
    )
    def test_samples_of_tiff(self, tmp_path: Path, channels: int, dtype: type, kind: int, message: str) -> None:
        levels = np.zeros((4, 4, channels), dtype)
        content = tiff(levels, 1 if channels == 1 else 2, t339=("H", [kind] * channels))
        with pytest.raises(ValueError, match=rf"a\.tif is a TIFF file with {message}"):
            read_image(put(tmp_path / "a.tif", content))

    def test_separate_planes_of_16_bits(self, tmp_path: Path) -> None:
        content = tiff(noise(3, np.uint16), 2, t284=("H", 2))
        with pytest.raises(ValueError, match="is a 16-bit TIFF file with a separate plane for each channel"):
            read_image(put(tmp_path / "a.tif", content))

    def test_cmyk_of_16_bits(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="is a 16-bit TIFF picture of mode CMYK, which cannot be read"):
            read_image(put(tmp_path / "a.tif", tiff(noise(4, np.uint16), 5)))

    def test_lab(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.tif", Image.new("LAB", (4, 4)))
        with pytest.raises(ValueError, match=r"a\.tif is a TIFF picture of mode LAB, which cannot be read"):
            read_image(path)

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        kind=st.sampled_from(["png", "tif", "jpg", "gif", "webp", "bmp", "png16", "tif16"]),
        damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=5),
    )
    @pytest.mark.filterwarnings("ignore")
    def test_damaged_files_raise_nothing_else(
        self, tmp_path: Path, kind: str, damage: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
        if kind == "png16":
            content = bytearray(png(noise(3, np.uint16), RGB))
        elif kind == "tif16":
            content = bytearray(tiff(noise(3, np.uint16), 2))
        else:
            content = bytearray(save(tmp_path / f"a.{kind}", Image.fromarray(noise(3))).read_bytes())
        for place, byte in damage:
            content[place % len(content)] = byte
        path = put(tmp_path / "damaged", bytes(content))
        with contextlib.suppress(ValueError):
            image = read_image(path)
            assert image.min() >= 0
            assert image.max() <= 1


@st.composite
def pictures(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Integer levels ``(H, W, C)`` and their number of bits."""
    bits = draw(st.sampled_from([8, 16]))
    shape = (draw(st.integers(2, 5)), draw(st.integers(2, 5)), draw(st.sampled_from([1, 3, 4])))
    return draw(arrays.arrays(np.uint8 if bits == 8 else np.uint16, shape)), bits


class TestWriting:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(picture=pictures())
    def test_round_trip(self, tmp_path: Path, picture: tuple[np.ndarray, int]) -> None:
        levels, bits = picture
        image = levels / (2**bits - 1)
        write_image(image, tmp_path / "a.png", bits)  # type: ignore[arg-type]
        check(read_image(tmp_path / "a.png"), levels, 2**bits - 1)

    @pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
    def test_another_reader_sees_the_same_channels(self, tmp_path: Path, channels: int, mode: str) -> None:
        levels = noise(channels)
        write_image(levels.astype(np.float32) / 255, tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as picture:
            assert picture.mode == mode
            assert_array_equal(np.asarray(picture).reshape(levels.shape), levels)

    @pytest.mark.parametrize(("channels", "colour_type"), [(1, GREY), (3, RGB), (4, RGBA)])
    def test_sixteen_bits_in_the_file(self, tmp_path: Path, channels: int, colour_type: int) -> None:
        write_image(noise(channels, np.uint16) / 65535, tmp_path / "a.png", 16)
        assert tuple((tmp_path / "a.png").read_bytes()[24:26]) == (16, colour_type)

    @pytest.mark.parametrize("bits", [8, 16])
    def test_clipped_and_rounded(self, tmp_path: Path, bits: Any) -> None:
        top = 2**bits - 1
        image = np.array([[-1.0, 2.0, np.inf], [0.4 / top, 0.6 / top, (top - 0.6) / top]])[..., None]
        write_image(image, tmp_path / "a.png", bits)
        check(read_image(tmp_path / "a.png"), np.array([[0, top, top], [0, 1, top - 1]])[..., None], top)

    def test_an_array_that_is_not_contiguous(self, tmp_path: Path) -> None:
        levels = noise(3)
        write_image((levels / 255)[::-1].transpose(1, 0, 2), tmp_path / "a.png")
        check(read_image(tmp_path / "a.png"), levels[::-1].transpose(1, 0, 2), 255)

    @pytest.mark.parametrize(
        ("image", "name", "bits", "message"),
        [
            (np.zeros((4, 4)), "a.png", 8, r"shape \(H, W, C\) with C = 1, 3 or 4, but it has \(4, 4\)"),
            (np.zeros((4, 4, 2)), "a.png", 8, r"but it has \(4, 4, 2\)"),
            (np.zeros((0, 4, 3)), "a.png", 8, r"but it has \(0, 4, 3\)"),
            (np.zeros((4, 4, 3), np.uint8), "a.png", 8, "floating-point numpy array in .*, but it is uint8"),
            ([[0.0]], "a.png", 8, "floating-point numpy array in .*, but it is list"),
            (np.full((2, 2, 3), np.nan), "a.png", 8, "12 of the 12 values of the image are NaN"),
            (np.zeros((4, 4, 3)), "a.png", 12, "bits must be 8 or 16, but it is 12"),
            (np.zeros((4, 4, 3)), "a.jpg", 8, r"written as PNG, but .*a\.jpg ends in '.jpg'"),
            (np.zeros((4, 4, 3)), "/dev/null/a.png", 8, r"Cannot write .*null/a\.png: "),
        ],
    )
    def test_refused(self, tmp_path: Path, image: Any, name: str, bits: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            write_image(image, tmp_path / name, bits)
        assert not list(tmp_path.iterdir())

    def test_a_failure_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        path = put(tmp_path / "a.png", b"old")
        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(ValueError, match=r"Cannot write .*a\.png: No space left on device"):
            write_image(np.zeros((4, 4, 3)), path)
        assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.png", b"old")]
