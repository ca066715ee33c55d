"""Images of every kind: their colours at every factor, small copies that follow their sources, and what is refused."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image, ImageFile

from iga_nerfstudio.nerf import images
from tests.nerf.scene_files import edit, edit_all, parse

SIZE = 24
NAMES = ("rgb", "palette", "clear_palette", "clear_rgb", "1_bit", "grey", "grey_alpha", "16_grey", "16_grey_alpha")
NAMES += ("16_rgb", "16_rgba", "16_tiff", "cmyk")


@pytest.fixture
def copy_of_scene(scene: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scene, tmp_path / "scene"))


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Half white, half coloured, ``(24, 24, 3)`` uint8."""
    pixels = np.full((SIZE, SIZE, 3), 255, np.uint8)
    pixels[:, ::2] = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE // 2, 3))
    return pixels


def png_16(values: np.ndarray, path: Path) -> None:
    """A PNG of 16 bits per channel, by its definition: no filter, one chunk."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def write(kind: str, picture: np.ndarray, path: Path) -> np.ndarray:
    """Write a picture as a kind of image; the colours it has before white, ``(24, 24, 3)`` in [0, 1]."""
    image, grey = Image.fromarray(picture), np.asarray(Image.fromarray(picture).convert("L"), dtype=float)
    alpha = np.where(np.arange(SIZE)[:, None] < 9, 0, 180) + np.zeros((SIZE, SIZE))
    fine = np.round(picture * 200.0)  # multiples that 8 bits cannot hold
    fine_grey, fine_alpha = np.round(grey * 200.0), np.round(alpha * 257.0)

    def before_white(colours: np.ndarray, opacity: np.ndarray) -> np.ndarray:
        return colours * opacity[..., None] + 1 - opacity[..., None]

    if kind == "rgb":
        image.save(path)
        return picture / 255
    if kind == "palette":
        image.quantize(64).save(path)
        return np.asarray(image.quantize(64).convert("RGB")) / 255
    if kind == "clear_palette":
        small = image.quantize(4)
        small.save(path, transparency=2)
        return before_white(np.asarray(small.convert("RGB")) / 255, np.asarray(small) != 2)
    if kind == "clear_rgb":
        image.save(path, transparency=tuple(int(value) for value in picture[3, 4]))
        return before_white(picture / 255, (picture != picture[3, 4]).any(-1))
    if kind == "1_bit":
        image.convert("1").save(path)
        return np.asarray(image.convert("1"), dtype=float)[..., None].repeat(3, -1)
    if kind == "grey":
        image.convert("L").save(path)
        return grey[..., None].repeat(3, -1) / 255
    if kind == "grey_alpha":
        Image.merge("LA", [image.convert("L"), Image.fromarray(alpha.astype(np.uint8))]).save(path)
        return before_white(grey[..., None].repeat(3, -1) / 255, alpha / 255)
    if kind == "16_grey":
        Image.fromarray(fine_grey.astype(np.uint16)).save(path)
        return fine_grey[..., None].repeat(3, -1) / 65535
    if kind == "16_grey_alpha":
        png_16(np.stack([fine_grey, fine_alpha], -1), path)
        return before_white(fine_grey[..., None].repeat(3, -1) / 65535, fine_alpha / 65535)
    if kind == "16_rgb":
        png_16(fine, path)
        return fine / 65535
    if kind == "16_rgba":
        png_16(np.concatenate([fine, fine_alpha[..., None]], -1), path)
        return before_white(fine / 65535, fine_alpha / 65535)
    if kind == "16_tiff":
        Image.fromarray(fine_grey.astype(np.uint16)).save(path, format="TIFF")
        return fine_grey[..., None].repeat(3, -1) / 65535
    image.convert("CMYK").save(path, format="TIFF")
    return picture / 255


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_colours_are_those_of_the_picture(copy_of_scene: Path, picture: np.ndarray, kind: str, factor: int) -> None:
    """As nerfstudio's own data set reads them, at every factor."""
    truth = write(kind, picture, copy_of_scene / "train" / "r_0.png")
    outputs = parse(copy_of_scene, downscale_factor=factor)
    got = InputDataset(outputs)[0]["image"].numpy()
    small = truth.reshape(SIZE // factor, factor, SIZE // factor, factor, 3).mean((1, 3))
    # A step of 8 bits; twice that before a background, for the opacity is rounded too.
    assert np.abs(got - small).max() < (2.1 if "alpha" in kind or "rgba" in kind else 1.01) / 255
    assert got.mean() == pytest.approx(truth.mean(), abs=5e-4)
    assert got.shape == small.shape


def test_images_that_nerfstudio_reads_right_are_not_copied(copy_of_scene: Path) -> None:
    assert parse(copy_of_scene).image_filenames[0] == copy_of_scene / "train" / "r_0.png"
    assert not (copy_of_scene / "downscaled_1").exists()


def test_values_without_a_range_are_refused(copy_of_scene: Path) -> None:
    Image.fromarray(np.ones((SIZE, SIZE), np.float32)).save(copy_of_scene / "train" / "r_0.png", format="TIFF")
    with pytest.raises(ValueError, match=r"r_0.png cannot be read: its values have no range .* 8 or 16 bits"):
        parse(copy_of_scene)


class TestSmallCopies:
    def first(self, scene: Path) -> tuple[Path, Image.Image]:
        path = parse(scene, downscale_factor=2).image_filenames[0]
        return path, Image.open(path).convert("RGBA")

    def test_have_the_time_stamp_of_their_source(self, copy_of_scene: Path) -> None:
        source = copy_of_scene / "train" / "r_0.png"
        os.utime(source, ns=(10**18, 10**18 + 123_456_789))
        copy, _ = self.first(copy_of_scene)
        assert copy.stat().st_mtime_ns == source.stat().st_mtime_ns
        made = copy.stat().st_ino
        assert self.first(copy_of_scene)[0].stat().st_ino == made

    @pytest.mark.parametrize("size", [SIZE, 2 * SIZE])
    @pytest.mark.parametrize("same_time", [False, True])
    def test_follow_an_older_source(self, copy_of_scene: Path, size: int, same_time: bool) -> None:
        """As unzip, rsync -a and cp -p leave it; one of the same time as well, if its size or its bytes differ."""
        source, times = copy_of_scene / "train" / "r_0.png", (1_600_000_000, 1_600_000_000)
        if same_time:
            os.utime(source, times)
        self.first(copy_of_scene)
        for path in (copy_of_scene / "train").iterdir():
            Image.new("RGBA", (size, size), (255, 0, 0, 255)).save(path)
            os.utime(path, times)
        _, image = self.first(copy_of_scene)
        assert image.size == (size // 2, size // 2)
        assert image.getpixel((3, 3)) == (255, 0, 0, 255)
        assert int(parse(copy_of_scene, downscale_factor=2).cameras.width[0]) == size // 2

    def test_are_made_again_where_they_are_damaged(self, copy_of_scene: Path) -> None:
        copy, image = self.first(copy_of_scene)
        stamp = copy.stat().st_mtime_ns
        copy.write_bytes(b"nothing")
        os.utime(copy, ns=(stamp, stamp))
        assert np.array_equal(self.first(copy_of_scene)[1], image)

    def test_of_images_elsewhere_stay_in_their_folder(self, copy_of_scene: Path, tmp_path: Path) -> None:
        shutil.move(copy_of_scene / "train", tmp_path / "train")
        edit(copy_of_scene / "transforms_train.json", lambda frame, i: frame | {"file_path": f"../train/r_{i}.png"})
        before = {path: path.read_bytes() for path in (tmp_path / "train").iterdir()}
        copy, image = self.first(copy_of_scene)
        assert (copy_of_scene / "downscaled_2") in copy.parents
        assert image.size == (SIZE // 2, SIZE // 2)
        assert {path: path.read_bytes() for path in (tmp_path / "train").iterdir()} == before

    def test_of_a_jpeg_and_a_png_of_one_name_are_two(self, copy_of_scene: Path) -> None:
        Image.new("RGB", (SIZE, SIZE), (255, 0, 0)).save(copy_of_scene / "train" / "r_0.jpg")
        names = ("train/r_0.png", "train/r_0.jpg")
        edit_all(copy_of_scene, lambda frame, i: frame | {"file_path": names[i % 2]})
        assert len(set(parse(copy_of_scene, downscale_factor=2).image_filenames)) == 2


class TestWholeFiles:
    def check(self, path: Path) -> images.ImageHeader:
        return images.read_headers([path])[path]

    @pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif", ".bmp"])
    def test_truncated_ones_are_refused(self, picture: np.ndarray, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"view{ending}"
        Image.fromarray(picture).save(path)
        assert self.check(path) == ((SIZE, SIZE), True)
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(ValueError, match=rf"view{ending} cannot be read, it is truncated or no image"):
            self.check(path)

    @pytest.mark.parametrize("ending", [".png", ".jpg"])
    def test_are_known_by_their_end(
        self, picture: np.ndarray, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Decoding all views twice is what would take long."""
        path = tmp_path / f"view{ending}"
        Image.fromarray(picture).save(path)
        monkeypatch.setattr(ImageFile.ImageFile, "load", forbidden)
        assert self.check(path).size == (SIZE, SIZE)

    def test_something_may_follow(self, picture: np.ndarray, tmp_path: Path) -> None:
        """As some telephones append it."""
        path = tmp_path / "view.jpg"
        Image.fromarray(picture).save(path)
        path.write_bytes(path.read_bytes() + b"trailer" * 9)
        assert self.check(path).size == (SIZE, SIZE)


def forbidden(*arguments: object) -> None:
    raise AssertionError("Nothing should be decoded.")
