"""Reads and writes image files as arrays in [0, 1], without losing bits on the way."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from iga_nerfstudio.arguments import whole_number
from iga_nerfstudio.data.files import read_file, told_in_one_line
from iga_nerfstudio.files import write_bytes

logger = logging.getLogger("iga_nerfstudio")

FloatImage = NDArray[np.float32]

MIN_SIDE = 2
"""Fewest pixels along a side: with fewer, a pixel of a coordinate network has no neighbour there."""

# By name, so that Pillow starts no outside program (EPS) and reads nothing that this module is not tested with.
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
_FORMAT_NAMES = "PNG, JPEG, TIFF, WebP, BMP or GIF"
# Modes of Pillow that turn into RGB or RGBA without a colour profile.
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_UNBOUNDED_FILES = {
    b"\x76\x2f\x31\x01": "an OpenEXR file",
    b"#?RADIANCE": "a Radiance HDR file",
    b"#?RGBE": "a Radiance HDR file",
}
_TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_TIFF_SAMPLES = {1: "unsigned", 2: "signed", 3: "floating-point"}
_TIFF_COLOURS = {
    0: "grey",
    1: "grey",
    2: "RGB",
    3: "a palette",
    5: "CMYK",
    6: "YCbCr",
    8: "CIE Lab",
    32803: "raw colours",
}
_WHITE_IS_ZERO = 0
_SEPARATE_PLANES = 2
_ASSOCIATED_ALPHA = 1
# Pillow cuts off the lower 8 bits, which may add up where it also divides by alpha.
_DECODER_TOLERANCE = 4.0 / 255.0
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column and row, and steps to the next ones, of the seven pictures that an interlaced PNG file consists of.
_PNG_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_TIFF_DEFLATE = (8, 32946)
# Values of a picture that are converted at once.
_VALUES_AT_ONCE = 1 << 20
# Below this opacity the colour of a resized pixel is a quotient of two rounding errors.
_INVISIBLE = 1e-3


def read_image(
    path: Path,
    *,
    crop: tuple[int, int, int, int] | None = None,
    size: tuple[int, int] | None = None,
    max_side: int | None = None,
    max_pixels: int | None = None,
) -> FloatImage:
    """Read a PNG, JPEG, TIFF, WebP, BMP or GIF file; of several frames or pages the first.

    The picture is turned upright as its EXIF data says. 16-bit pictures keep their 16 bits. Palettes are expanded,
    grey with transparency becomes RGBA, CMYK becomes RGB by the plain formula; colour profiles are not applied.

    Args:
        path: The file.
        crop: ``(left, top, width, height)`` in pixels of the upright picture, cut out first.
        size: ``(width, height)`` in pixels to resize to, with antialiasing; the aspect ratio is not kept.
        max_side: Shrink so that the longer side has at most this many pixels, and keep the aspect ratio.
        max_pixels: Decode files of up to twice that many pixels; Pillow's limit of 89,478,485 if not given. A small
            file can claim to be huge.

    Returns:
        float32 ``(H, W, C)`` in [0, 1], C = 1 for grey, 3 for RGB, 4 for RGBA. Alpha is straight, that is colours
        are not multiplied by it; where it is 0 the colours are those of the file.

    Raises:
        ValueError: If the file is missing, empty, damaged, no picture or one without an upper bound of its values
            (HDR); if the crop leaves the picture or an argument is out of range; if fewer than 2 pixels remain
            along a side; if both ``size`` and ``max_side`` are given.
    """
    path = Path(path)
    size, max_side = _checked_request(size, max_side)
    with _pixel_limit(max_pixels):
        image = _decode(read_file(path), path)
    if crop is not None:
        image = _crop(image, crop, path)
    height, width = image.shape[:2]
    _check_sides(width, height, f"{path} has {width}x{height} pixels{' after cropping' if crop else ''}")
    if max_side is not None:
        size = _shrunk(width, height, max_side)
        _check_sides(*size, f"{path} has {width}x{height} pixels, and {size[0]}x{size[1]} with max_side={max_side}")
    return image if size is None or size == (width, height) else _resize(image, *size)


def write_image(image: NDArray[np.floating[Any]], path: Path, bits: Literal[8, 16] = 8) -> None:
    """Write a PNG file. Values outside [0, 1] are clipped, the others rounded to the nearest step.

    The file appears complete or not at all.

    Args:
        image: Floating point ``(H, W, C)``, C = 1 for grey, 3 for RGB, 4 for RGBA with straight alpha.
        path: The file, ending in ``.png``; its folder is made if missing.
        bits: Bits per channel.

    Raises:
        ValueError: If the array has another shape or type or holds NaN, if ``bits`` is neither 8 nor 16, or if the
            file cannot be written.
    """
    path = Path(path)
    _check_image(image)
    if bits not in (8, 16):
        raise ValueError(f"bits must be 8 or 16, but it is {bits!r}.")
    if path.suffix.lower() != ".png":
        raise ValueError(
            f"Images are written as PNG, but {path} ends in {path.suffix!r}. Choose a name ending in .png."
        )
    _, encoded = cv2.imencode(".png", _swap_red_and_blue(to_levels(image, bits)))
    with told_in_one_line(path):
        write_bytes(path, encoded.tobytes())


def to_levels(image: NDArray[np.floating[Any]], bits: Literal[8, 16] = 8) -> NDArray[Any]:
    """The nearest integers to a picture's values.

    Args:
        image: Floating point ``(H, W, C)``; values outside [0, 1] are clipped.
        bits: Bits per channel; white is the largest number of so many.

    Returns:
        uint8 or uint16 ``(H, W, C)``.
    """
    levels = np.empty(image.shape, np.uint8 if bits == 8 else np.uint16)
    for rows in _strips(image):
        levels[rows] = np.rint(np.clip(image[rows].astype(np.float64), 0.0, 1.0) * (2**bits - 1))
    return levels


def _checked_request(size: tuple[int, int] | None, max_side: int | None) -> tuple[tuple[int, int] | None, int | None]:
    """Refuse bad sizes before the file is read."""
    if size is not None and max_side is not None:
        raise ValueError(f"size={size} and max_side={max_side} exclude each other. Pass only one of them.")
    if max_side is not None:
        max_side = whole_number("max_side", max_side, MIN_SIDE)
    if size is not None:
        if len(size) != 2:
            raise ValueError(f"size must be (width, height), but it is {size!r}.")
        size = whole_number("size: width", size[0], MIN_SIDE), whole_number("size: height", size[1], MIN_SIDE)
    return size, max_side


def _check_sides(width: int, height: int, found: str) -> None:
    if min(width, height) < MIN_SIDE:
        raise ValueError(
            f"{found}, but a coordinate network needs at least {MIN_SIDE} pixels along each side. "
            "Choose a larger picture, crop or size."
        )


def _check_image(image: NDArray[np.floating[Any]]) -> None:
    if not isinstance(image, np.ndarray) or not np.issubdtype(image.dtype, np.floating):
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(
            f"An image must be a floating-point numpy array in [0, 1], but it is {kind}. Convert it first."
        )
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.size == 0:
        raise ValueError(f"An image must have the shape (H, W, C) with C = 1, 3 or 4, but it has {image.shape}.")
    bad = int(np.isnan(image).sum())
    if bad:
        raise ValueError(f"{bad} of the {image.size} values of the image are NaN, which no file can hold.")


def _decode(content: bytes, path: Path) -> FloatImage:
    """The upright picture in a file's content, float32 ``(H, W, C)``."""
    _refuse_unbounded(content, path)
    tags = _tiff_tags(content)
    _refuse_tiff_samples(tags, path)
    picture, orientation = _open(content, path, tags)
    _refuse_damaged_data(content, picture, tags, path)
    bits = _bits_per_sample(picture, content, tags)
    if picture.format == "PNG" and picture.mode == "L" and picture.info.get("transparency", 256) < 2**bits:
        # Pillow stretches grey of 2 and 4 bits to 8, but not the level that is transparent.
        picture.info["transparency"] *= 255 // (2**bits - 1)
    if bits > 8 and picture.mode.startswith("I"):
        image = _wide_grey(picture, bits, tags)
    elif bits > 8:
        image = _wide_colour(picture, content, tags, path)
    elif picture.mode in _EIGHT_BIT_MODES:
        image = _eight_bit(picture)
    else:
        raise ValueError(_refusal(path, f"is a {picture.format} picture of mode {picture.mode}"))
    return np.ascontiguousarray(_upright(image, orientation), dtype=np.float32)


def _refusal(path: Path, found: str) -> str:
    return (
        f"{path} {found}, which cannot be read. Only grey, RGB and RGBA pictures of 8 or 16 bits, palettes and "
        "8-bit CMYK can. Convert it with an image program, for example to a 16-bit PNG."
    )


def _refuse_unbounded(content: bytes, path: Path) -> None:
    for magic, name in _UNBOUNDED_FILES.items():
        if content.startswith(magic):
            raise ValueError(
                f"{path} is {name}. HDR pictures have no upper bound, but values in [0, 1] are needed. "
                "Tone-map it with an image program and save it as a 16-bit PNG."
            )


def _tiff_tags(content: bytes) -> Mapping[int, Any]:
    """Tags of the first page if this is a TIFF file, which Pillow can list even where it cannot read the pixels."""
    if not content.startswith(_TIFF_MAGIC):
        return {}
    stream = io.BytesIO(content)
    is_big = content[2] == 43 or content[3] == 43
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if is_big else 8))
        stream.seek(tags.next or 0)
        tags.load(stream)
        return dict(tags)
    except Exception:  # Broken files raise all sorts; opening the picture says what is wrong.
        return {}


def _refuse_tiff_samples(tags: Mapping[int, Any], path: Path) -> None:
    bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    kind = max(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)))
    if kind == 3:
        raise ValueError(
            f"{path} is a TIFF file with {bits}-bit floating-point samples. They have no upper bound (HDR), but values "
            "in [0, 1] are needed. Scale or tone-map it with an image program and save it as a 16-bit PNG."
        )
    if kind not in (1, 4) or bits > 16:  # 4 says that the format is undefined.
        raise ValueError(_refusal(path, f"is a TIFF file with {bits}-bit {_TIFF_SAMPLES.get(kind, 'complex')} samples"))
    if bits == 16 and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == _SEPARATE_PLANES:
        raise ValueError(_refusal(path, "is a 16-bit TIFF file with a separate plane for each channel"))


def _tiff_kind(tags: Mapping[int, Any]) -> str:
    """What a TIFF file's tags say of its pixels, in words."""
    bits = "+".join(map(str, tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))))
    colours = _TIFF_COLOURS.get(tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, -1), "unknown colours")
    return f"{colours}{' and alpha' if tags.get(TiffImagePlugin.EXTRASAMPLES) else ''} with {bits} bits per pixel"


@contextmanager
def _pixel_limit(max_pixels: int | None) -> Iterator[None]:
    """Pillow's limit is a variable of the whole process: its own is back afterwards."""
    before = Image.MAX_IMAGE_PIXELS
    if max_pixels is not None:
        Image.MAX_IMAGE_PIXELS = whole_number("max_pixels", max_pixels, 1)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _open(content: bytes, path: Path, tags: Mapping[int, Any]) -> tuple[Image.Image, int]:
    """The fully decoded picture and the EXIF orientation that is still to be applied to it."""
    try:
        picture = Image.open(io.BytesIO(content), formats=_FORMATS)
        frames = getattr(picture, "n_frames", 1)
        picture.load()
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path} claims to be so large that it may be made to exhaust the memory (a decompression bomb): {error} "
            "If you trust it, raise max_pixels (--max-pixels), or shrink it with an image program."
        ) from error
    except UnidentifiedImageError:
        if tags:
            raise ValueError(_refusal(path, f"is a TIFF file of {_tiff_kind(tags)}")) from None
        raise ValueError(
            f"{path} is no picture in a format that can be read ({_FORMAT_NAMES}), or its beginning is damaged. "
            "Convert it, or copy or download it again."
        ) from None
    except Exception as error:  # Pillow's decoders raise all sorts on broken files.
        raise ValueError(
            f"{path} is damaged or truncated: {error or type(error).__name__}. Copy or download it again."
        ) from error
    if frames > 1 and picture.format != "MPO":  # Further frames of MPO, a kind of JPEG, are previews.
        logger.warning("%s has %d frames or pages; only the first is read.", path, frames)
    return picture, _orientation(picture, path)


def _orientation(picture: Image.Image, path: Path) -> int:
    """The EXIF orientation of a loaded picture that Pillow has not applied."""
    if picture.format == "TIFF":  # turned while it was loaded; what its metadata go on saying must not turn it again
        return 1
    try:
        orientation: int = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises all sorts on broken metadata, and the pixels are sound.
        logger.warning("The EXIF data of %s cannot be read; should it be turned upright, they do not say so.", path)
        return 1
    return orientation


def _refuse_damaged_data(content: bytes, picture: Image.Image, tags: Mapping[int, Any], path: Path) -> None:
    """Decompress once more what has a checksum: decoders stop before it, and leave rows that are not there black."""
    try:
        if picture.format == "PNG":
            found, size = _inflated_size(_png_data(content)), _png_size(content)
            if found < size:
                raise zlib.error(f"it holds {found} of {size} bytes")
        elif tags.get(TiffImagePlugin.COMPRESSION) in _TIFF_DEFLATE:
            for strip in _tiff_data(content, tags):
                _inflated_size([strip])
    except zlib.error as error:
        raise ValueError(
            f"{path} is damaged: its pixels are not complete ({error}). Copy or download it again."
        ) from error


def _inflated_size(parts: Iterable[bytes]) -> int:
    """How many bytes the parts of a compressed stream stand for."""
    inflater, size = zlib.decompressobj(), 0
    for part in parts:
        while part:
            size += len(inflater.decompress(part, _VALUES_AT_ONCE))
            part = inflater.unconsumed_tail
    return size + len(inflater.flush())


def _png_data(content: bytes) -> Iterator[bytes]:
    place = 8  # behind the signature
    while place + 8 <= len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        if name == b"IDAT":
            yield content[place + 8 : place + 8 + size]
        place += 12 + size


def _png_size(content: bytes) -> int:
    """Bytes of a PNG file's rows, with the one in front of each that says how it is filtered."""
    width, height, bits, colour_type, _, _, is_interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    size = 0
    for left, top, right, down in _PNG_PASSES if is_interlaced else [(0, 0, 1, 1)]:
        columns, rows = -(-max(width - left, 0) // right), -(-max(height - top, 0) // down)
        size += rows * (1 + -(-columns * bits * _PNG_CHANNELS[colour_type] // 8)) if columns else 0
    return size


def _tiff_data(content: bytes, tags: Mapping[int, Any]) -> Iterator[bytes]:
    """Strips or tiles of the first page."""
    is_tiled = TiffImagePlugin.TILEOFFSETS in tags
    offsets = tags.get(TiffImagePlugin.TILEOFFSETS if is_tiled else TiffImagePlugin.STRIPOFFSETS, ())
    sizes = tags.get(TiffImagePlugin.TILEBYTECOUNTS if is_tiled else TiffImagePlugin.STRIPBYTECOUNTS, ())
    for offset, size in zip(offsets, sizes, strict=False):
        yield content[offset : offset + size]


def _bits_per_sample(picture: Image.Image, content: bytes, tags: Mapping[int, Any]) -> int:
    """What Pillow does not tell: it opens 16-bit colour as 8-bit colour."""
    if picture.format == "PNG":
        return content[24]  # Signature, length and name of the header chunk, width and height come before.
    return max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (8,)))


def _eight_bit(picture: Image.Image) -> FloatImage:
    opaque_mode = "L" if picture.mode in ("1", "L") else "RGB"
    mode = "RGBA" if picture.has_transparency_data else opaque_mode
    image = np.empty((picture.height, picture.width, len(mode)), dtype=np.float32)
    for rows in _strips(image):
        # Pillow's bytes and their copies are larger than the picture: never those of all of a large one.
        part = picture.crop((0, rows.start, picture.width, min(rows.stop, picture.height)))
        image[rows] = _unit_range(np.asarray(part.convert(mode)), 8)
    return image


def _wide_grey(picture: Image.Image, bits: int, tags: Mapping[int, Any]) -> FloatImage:
    """Grey of 9 to 16 bits, RGBA if the file names a transparent grey level."""
    levels = np.asarray(picture)
    grey = _unit_range(levels, bits)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
        grey = 1.0 - grey
    if "transparency" not in picture.info:
        return grey
    alpha = (levels != picture.info["transparency"])[..., None].astype(np.float32)
    return np.concatenate([grey, grey, grey, alpha], axis=2)


def _wide_colour(picture: Image.Image, content: bytes, tags: Mapping[int, Any], path: Path) -> FloatImage:
    """16-bit colour, which Pillow decodes to 8 bits and OpenCV in full."""
    if picture.mode not in ("RGB", "RGBA"):
        raise ValueError(_refusal(path, f"is a 16-bit {picture.format} picture of mode {picture.mode}"))
    levels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    channels = 4 if picture.has_transparency_data else 3
    if levels is None or levels.dtype != np.uint16 or levels.ndim != 3 or levels.shape[2] < channels:
        raise ValueError(_refusal(path, f"is a 16-bit {picture.format} picture of an unusual kind"))
    image = _unit_range(_swap_red_and_blue(levels)[..., :channels], 16)
    if _ASSOCIATED_ALPHA in tags.get(TiffImagePlugin.EXTRASAMPLES, ()):
        image = np.clip(_straight(image, image[..., :3], 0.0), 0.0, 1.0)
    _check_agreement(image, picture, path)
    return image


def _check_agreement(image: FloatImage, picture: Image.Image, path: Path) -> None:
    """OpenCV returns half-decoded or turned pictures without a word: what is visible must be what Pillow sees."""
    levels = np.asarray(picture)
    difference = np.inf
    if levels.shape[:2] == image.shape[:2]:
        difference = max(_visible_difference(image[rows], _unit_range(levels[rows], 8)) for rows in _strips(image))
    if difference > _DECODER_TOLERANCE:
        raise ValueError(_refusal(path, f"is a 16-bit {picture.format} picture that two decoders read differently"))


def _visible_difference(image: FloatImage, coarse: FloatImage) -> float:
    """Largest difference of two pictures' colours, as far as the second one's opacity lets them show."""
    opacity = coarse[..., 3:] if coarse.shape[2] == 4 else 1.0
    return float(np.abs((image[..., :3] - coarse[..., :3]) * opacity).max())


def _unit_range(levels: NDArray[Any], bits: int) -> FloatImage:
    """Integer ``(H, W)`` or ``(H, W, C)`` to float32 ``(H, W, C)`` in [0, 1]."""
    image = levels.astype(np.float32)
    image /= np.float32(2**bits - 1)
    return image[..., None] if image.ndim == 2 else image


def _strips(image: NDArray[Any]) -> Iterator[slice]:
    """Rows that are converted at once, so that a large picture is never held in float64 as a whole."""
    rows = max(_VALUES_AT_ONCE // max(image[0].size, 1), 1)
    for start in range(0, len(image), rows):
        yield slice(start, start + rows)


def _swap_red_and_blue(image: NDArray[Any]) -> NDArray[Any]:
    """RGB(A) to OpenCV's BGR(A) and back; grey stays."""
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[image.shape[2]]
    return np.ascontiguousarray(image[..., order])


def _upright(image: FloatImage, orientation: int) -> FloatImage:
    """Apply an EXIF orientation, 1 to 8; other numbers mean nothing and change nothing."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def _crop(image: FloatImage, crop: tuple[int, int, int, int], path: Path) -> FloatImage:
    if len(crop) != 4:
        raise ValueError(f"crop must be (left, top, width, height), but it is {crop!r}.")
    left, top = whole_number("crop: left", crop[0], 0), whole_number("crop: top", crop[1], 0)
    width, height = whole_number("crop: width", crop[2], 1), whole_number("crop: height", crop[3], 1)
    if left + width > image.shape[1] or top + height > image.shape[0]:
        raise ValueError(
            f"The crop of {width}x{height} pixels at left={left}, top={top} leaves {path}, "
            f"which has {image.shape[1]}x{image.shape[0]} pixels. Move it or make it smaller."
        )
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _shrunk(width: int, height: int, max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(width, height))
    return round(width * scale), round(height * scale)


def _resize(image: FloatImage, width: int, height: int) -> FloatImage:
    if image.shape[2] < 4:
        return np.clip(_filtered(image, width, height), 0.0, 1.0)
    # Filtered with their opacity, or else invisible colours would bleed into the edges.
    alpha = image[..., 3:]
    premultiplied = _filtered(np.concatenate([image[..., :3] * alpha, alpha], axis=2), width, height)
    return np.clip(_straight(premultiplied, _filtered(image[..., :3], width, height), _INVISIBLE), 0.0, 1.0)


def _straight(premultiplied: FloatImage, hidden_colours: FloatImage, hidden_alpha: float) -> FloatImage:
    """Divide the colours ``(H, W, 4)`` by alpha, or take other ones ``(H, W, 3)`` up to an alpha."""
    colours, alpha = premultiplied[..., :3], premultiplied[..., 3:]
    visible = alpha > hidden_alpha
    straight = np.where(visible, colours / np.where(visible, alpha, 1.0), hidden_colours)
    return np.concatenate([straight, alpha], axis=2).astype(np.float32)


def _filtered(image: FloatImage, width: int, height: int) -> FloatImage:
    """Resize with Pillow's antialiasing Lanczos filter, which may leave [0, 1] beside sharp edges."""
    channels = [
        np.asarray(Image.fromarray(np.ascontiguousarray(channel)).resize((width, height), Image.Resampling.LANCZOS))
        for channel in np.moveaxis(image, 2, 0)
    ]
    return np.stack(channels, axis=2)
