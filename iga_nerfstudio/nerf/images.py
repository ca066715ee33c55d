"""A scene's images: found where the transforms file names them, checked, and copied to what nerfstudio reads."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from iga_nerfstudio.data.files import require_file
from iga_nerfstudio.files import write_whole

_T = TypeVar("_T")

# What a name without its ending may stand for; Blender scenes mean PNGs.
_PLAIN_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif")
_ENDINGS = tuple(spelling for ending in _PLAIN_ENDINGS for spelling in (ending, ending.upper(), ending.title()))
# The modes of Pillow that nerfstudio's InputDataset turns into the right colours.
_READ_BY_NERFSTUDIO = ("L", "RGB", "RGBA")
# The last bytes of a whole file.
_LAST_BYTES = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
# As many of the first bytes tell a PNG's size, bits and colour type.
_START = 26
_RGBA_8_BIT = (8, 6)


class ImageHeader(NamedTuple):
    """What a file says of its image before its pixels are decoded."""

    size: tuple[int, int]
    """Width and height in pixels."""
    read_by_nerfstudio: bool
    """Whether nerfstudio gets its colours right; not those of palettes, 1 or 16 bits, grey with alpha, CMYK."""


def find_image(folder: Path, file_path: str) -> Path | None:
    """The file that a frame's ``file_path`` means.

    Args:
        folder: The scene's folder.
        file_path: Relative to it or absolute, with slashes or backslashes, with or without its ending, in small letters
            or capitals. An absolute path of another machine is looked for in the folder, by as many of its last parts
            as can be found. What is not there by that name may be there by one that Windows, macOS or a browser take
            for the same: in other capitals, accents put together otherwise, or ``%20`` for a space.

    Returns:
        The file, or None if there is none.
    """
    places = list(_places(folder, file_path.replace("\\", "/")))
    for place in places:
        bare, own = os.path.splitext(place)
        respelled = (bare + ending for ending in _ENDINGS if ending.lower() == own.lower())
        for candidate in chain([place], respelled, (place + ending for ending in _ENDINGS)):
            if os.path.isfile(candidate):
                return Path(candidate)
    return next((Path(found) for found in map(_spelled_otherwise, places) if found is not None), None)


def _spelled_otherwise(place: str) -> str | None:
    """The image that a path means, spelled as it is on the disk; None if there is none, or several."""
    folder, name = os.path.split(place)
    parent = _as_spelled(folder)
    if parent is None:
        return None
    for ending in ("", *_PLAIN_ENDINGS):
        found = _only_one(parent, name + ending)
        if found is not None and os.path.isfile(found):
            return found
    return None


def _as_spelled(folder: str) -> str | None:
    """A folder's path with its parts spelled as they are on the disk; None if there is no such one, or several."""
    if os.path.isdir(folder):
        return folder
    above, name = os.path.split(folder)
    parent = _as_spelled(above) if name else None
    return None if parent is None else _only_one(parent, name)


def _only_one(folder: str, name: str) -> str | None:
    """What is in a folder by a name, however it is spelled; None if there is nothing, or several."""
    if not os.path.isdir(folder):
        return None
    alike = _names(folder, os.stat(folder).st_mtime_ns).get(_plain(name), [])
    return os.path.join(folder, alike[0]) if len(alike) == 1 else None


@lru_cache(maxsize=8)
def _names(folder: str, _changed: int) -> dict[str, list[str]]:
    """What is in a folder, as it was when it was changed last, by plain names."""
    names: dict[str, list[str]] = {}
    try:
        for name in os.listdir(folder):
            names.setdefault(_plain(name), []).append(name)
    except PermissionError:  # somebody's on another path than the scene's
        pass
    return names


def _plain(name: str) -> str:
    """What all spellings of a name have in common."""
    return unicodedata.normalize("NFC", unquote(name).casefold())


def is_absolute(file_path: str) -> bool:
    """Whether a path begins at a root, of this kind of system or of Windows."""
    return file_path.startswith(("/", "\\")) or file_path[1:2] == ":"


def _places(folder: Path, name: str) -> Iterator[str]:
    # As text: ten thousand frames would be noticed otherwise.
    yield os.path.join(folder, name)
    if is_absolute(name):
        parts = name.split("/")
        for first in range(1, len(parts)):
            yield os.path.join(folder, *parts[first:])


def read_headers(paths: list[Path]) -> dict[Path, ImageHeader]:
    """Check that images are whole, without decoding those whose end proves it.

    Args:
        paths: Image files; one may come several times.

    Returns:
        Their headers.

    Raises:
        ValueError: If one is empty, truncated or no image.
    """
    return _of_each(_read_header, list(dict.fromkeys(paths)))


def _of_each(function: Callable[[Path], _T], paths: list[Path]) -> dict[Path, _T]:
    """A function's values, by threads that take many paths at once: a task for each would cost more than its work."""
    parts = [paths[start : start + 8] for start in range(0, len(paths), 8)]
    with ThreadPoolExecutor() as pool:
        values = chain.from_iterable(pool.map(lambda part: [function(path) for path in part], parts))
        return dict(zip(paths, values, strict=True))


def _read_header(path: Path) -> ImageHeader:
    require_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(_START)
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16))
            end = file.read()
            if _png_kind(start) == _RGBA_8_BIT and end.endswith(_LAST_BYTES["PNG"]):
                # What Blender writes: of ten thousand views, opening each with Pillow would take longer than all else.
                return ImageHeader(struct.unpack(">II", start[16:24]), True)
            file.seek(0)
            with Image.open(file) as image:
                last = _LAST_BYTES.get(image.format or "")
                if last is None or not end.endswith(last):
                    image.load()
                return ImageHeader(image.size, _is_plain(image) and _png_kind(start)[0] != 16)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"The image {path} cannot be read, it is truncated or no image: {error}") from error


def _png_kind(start: bytes) -> tuple[int, int]:
    """Bits per channel, which Pillow does not say of colours, and colour type of a PNG; zeros for other files."""
    return (start[24], start[25]) if start.startswith(b"\x89PNG") and len(start) >= _START else (0, 0)


def _is_plain(image: Image.Image) -> bool:
    return image.mode in _READ_BY_NERFSTUDIO and "transparency" not in image.info


def copy_images(folder: Path, headers: dict[Path, ImageHeader], factor: int) -> dict[Path, Path]:
    """8-bit PNGs of images, smaller by a factor, made where they are missing or not of their source as it is.

    Args:
        folder: The scene's folder; the copies go to ``folder/downscaled_{factor}/``, or to the temporary folder if
            that cannot be written.
        headers: Image files and their headers.
        factor: Whole number that divides their sizes. With 1, images that nerfstudio reads right stay as they are.

    Returns:
        What to read in the place of each image.

    Raises:
        ValueError: If one cannot be read, or its copy cannot be written.
    """
    wanted = [path for path, header in headers.items() if factor > 1 or not header.read_by_nerfstudio]
    if not wanted:
        return {path: path for path in headers}
    place = _writable_folder(folder, factor)

    def copy(path: Path) -> Path:
        target = place / _name_of_copy(folder, path)
        width, height = headers[path].size
        if not _is_copy(target, path, (width // factor, height // factor)):
            _write_copy(target, path, factor)
        return target

    copies = _of_each(copy, wanted)
    return {path: copies.get(path, path) for path in headers}


def _writable_folder(folder: Path, factor: int) -> Path:
    beside = folder / f"downscaled_{factor}"
    try:
        beside.mkdir(exist_ok=True)
        writable = os.access(beside, os.W_OK)
    except OSError:
        writable = False
    if writable:
        return beside
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"iga_nerfstudio-{key}" / beside.name


def _name_of_copy(folder: Path, path: Path) -> Path:
    """Relative to the copies' folder; images that lie elsewhere than the scene get a folder named by a hash."""
    name = Path(os.path.relpath(path, folder))
    if ".." in name.parts:
        name = Path(hashlib.sha256(str(path.parent.resolve()).encode()).hexdigest()[:16], path.name)
    return name if name.suffix == ".png" else name.with_name(f"{name.name}.png")


def _is_copy(target: Path, source: Path, size: tuple[int, int]) -> bool:
    """Whether a copy has the time stamp, the size and the note of the number of bytes that its source asks for."""
    stat = source.stat()
    try:
        if target.stat().st_mtime_ns != stat.st_mtime_ns:
            return False
        with target.open("rb") as file:
            start = file.read(128)
    except OSError:
        return False
    return start[16:24] == struct.pack(">II", *size) and _note(stat.st_size).encode() in start


def _note(num_bytes: int) -> str:
    """What a copy says of its source: as a text of a PNG it stands among the first of its bytes."""
    return f"of {num_bytes} bytes"


def _write_copy(target: Path, source: Path, factor: int) -> None:
    stat, info = source.stat(), PngInfo()
    info.add_text("Source", _note(stat.st_size))
    small = Image.fromarray(box_average(read_pixels(source), factor))

    def write(staged: Path) -> None:
        small.save(staged, format="PNG", pnginfo=info)
        os.utime(staged, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    # Two runs may prepare the same scene at once.
    try:
        write_whole(target, write)
    except OSError as error:
        raise ValueError(
            f"The small copy {target} of {source} cannot be written: {error.strerror or error}. Make room there."
        ) from error


def read_pixels(path: Path) -> np.ndarray:
    """An image's pixels, whatever its kind.

    Args:
        path: An image file.

    Returns:
        Values from 0 to 255, uint8 or, of more bits, float64: ``(H, W)`` grey, ``(H, W, 3)`` or ``(H, W, 4)`` with
        straight alpha.

    Raises:
        ValueError: If it cannot be decoded, or has values of no known range.
    """
    try:
        content = path.read_bytes()
        if _png_kind(content[:_START])[0] == 16:
            return _read_16_bit_png(content)
        with Image.open(path) as image:
            if image.mode == "F" or (image.mode == "I" and max(map(abs, image.getextrema())) > 65535):
                raise ValueError("its values have no range of their own. Save it with 8 or 16 bits")
            if image.mode.startswith("I"):
                return np.asarray(image, dtype=np.float64) / 257
            if image.mode == "1" or _is_plain(image):
                return np.asarray(image.convert("L") if image.mode == "1" else image)
            transparent = image.mode[-1] in "Aa" or "transparency" in image.info
            return np.asarray(image.convert("RGBA" if transparent else "RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"The image {path} cannot be read: {error}.") from error


def _read_16_bit_png(content: bytes) -> np.ndarray:
    """By OpenCV: Pillow cuts off the lower bits of colours."""
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("OpenCV cannot decode it")
    if values.ndim == 3:
        values = values[..., [2, 1, 0, 3][: values.shape[2]]]
    return values / 257


def box_average(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of pixels, weighting colours by their opacity.

    Args:
        pixels: From 0 to 255, ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)`` with straight alpha.
        factor: Block side; divides H and W.

    Returns:
        uint8, H and W divided by factor. Transparent pixels lend no colour to their neighbours. Values of more than 8
        bits are dithered: rounded, a flat area would be off by the same fraction everywhere.
    """
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    blocks = pixels.reshape(height, factor, width, factor, -1).astype(np.float64)
    if blocks.shape[-1] == 4:
        alpha = blocks[..., 3:]
        colour = (blocks[..., :3] * alpha).sum((1, 3)) / np.maximum(alpha.sum((1, 3)), 1e-9)
        average = np.concatenate([colour, alpha.mean((1, 3))], axis=-1)
    else:
        average = blocks.mean((1, 3))
    if pixels.dtype == np.uint8:
        average = average.round()
    else:
        average += np.random.default_rng(0).random(average.shape)
    return average.astype(np.uint8).reshape(height, width, *pixels.shape[2:])
