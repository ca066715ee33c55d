"""nerfstudio's Blender parser with the paper's protocol: half resolution, every 8th test view."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.blender_dataparser import Blender, BlenderDataParserConfig
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from PIL import Image

from iga_nerfstudio.files import write_whole


@dataclass
class IGABlenderDataParserConfig(BlenderDataParserConfig):
    """Blender scenes (transforms_{train,val,test}.json and RGBA PNGs), optionally smaller and with fewer test views."""

    _target: type = field(default_factory=lambda: IGABlender)
    """Target class to instantiate."""
    downscale_factor: int = 1
    """Shrink images by this whole number, averaging blocks of pixels; 2 is the paper's half resolution. The small
    images are kept in a folder beside the data (or, where that cannot be written, in the temporary folder)."""
    test_skip: int = 1
    """Keep every that many views of the validation and test splits, starting from the first; the paper keeps every
    8th."""


class IGABlender(Blender):
    """Blender scenes, checked before training starts."""

    config: IGABlenderDataParserConfig

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        for name in ("downscale_factor", "test_skip"):
            if getattr(self.config, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self.config, name)}.")
        check_scene(self.data, split)
        outputs = super()._generate_dataparser_outputs(split)
        if split != "train" and self.config.test_skip > 1:
            outputs.image_filenames = outputs.image_filenames[:: self.config.test_skip]
            outputs.cameras = outputs.cameras[:: self.config.test_skip]
        width, height = check_images(outputs.image_filenames)
        factor = self.config.downscale_factor
        if factor > 1:
            if width % factor or height % factor:
                raise ValueError(
                    f"Images of {width}x{height} pixels cannot be shrunk by a factor of {factor}: it must divide both."
                )
            outputs.image_filenames = shrink_images(self.data, outputs.image_filenames, factor)
            outputs.cameras.rescale_output_resolution(1 / factor)
        return outputs


def check_scene(data: Path, split: str) -> dict[str, Any]:
    """Check that a folder is a Blender scene and that its split can be read.

    Args:
        data: The scene's folder.
        split: ``train``, ``val`` or ``test``.

    Returns:
        The content of ``transforms_{split}.json``.

    Raises:
        ValueError: If the folder or the transforms file is missing, broken or empty.
    """
    layout = f"A Blender scene holds transforms_{split}.json and the PNGs it names."
    if not data.is_dir():
        raise ValueError(f"The data folder {data} does not exist. Give a scene's folder with --data.")
    path = data / f"transforms_{split}.json"
    if not path.is_file():
        content = sorted(entry.name for entry in data.iterdir())
        listing = f"has {', '.join(content[:8])}" if content else "is empty"
        raise ValueError(f"{path.name} is missing from {data}, which {listing}. {layout}")
    try:
        meta = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON: {error}. {layout}") from error
    if not isinstance(meta, dict) or "camera_angle_x" not in meta or not meta.get("frames"):
        raise ValueError(f"{path} lacks camera_angle_x or frames. {layout}")
    for i, frame in enumerate(meta["frames"]):
        if "file_path" not in frame or np.shape(frame.get("transform_matrix")) != (4, 4):
            raise ValueError(f"Frame {i} of {path} lacks a file_path or a 4x4 transform_matrix.")
    return meta


def check_images(paths: list[Path]) -> tuple[int, int]:
    """Check that images exist, are whole, and share one size.

    Args:
        paths: Image files.

    Returns:
        Their width and height in pixels.

    Raises:
        ValueError: If one is missing, truncated, no image, or of another size than the first.
    """
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(_image_size, paths))
    for path, size in zip(paths, sizes, strict=True):
        if size != sizes[0]:
            raise ValueError(
                f"{path} has {size[0]}x{size[1]} pixels where {paths[0]} has {sizes[0][0]}x{sizes[0][1]}: all views of "
                "a split need one size."
            )
    return sizes[0]


def _image_size(path: Path) -> tuple[int, int]:
    if not path.is_file():
        raise ValueError(f"The image {path}, named by the transforms file, is missing.")
    try:
        with Image.open(path) as image:
            image.load()
            return image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"The image {path} cannot be read, it is truncated or no image: {error}") from error


def shrink_images(data: Path, paths: list[Path], factor: int) -> list[Path]:
    """Shrunken copies of images, made where they are missing or older than their source.

    Args:
        data: The scene's folder; the copies go to ``data/downscaled_{factor}/``, or to the temporary folder if that
            cannot be written.
        paths: Image files inside ``data``.
        factor: Whole number that divides their sizes.

    Returns:
        The copies' paths, in order.
    """
    folder = data / f"downscaled_{factor}"
    try:
        folder.mkdir(exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        key = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"iga_nerfstudio-{key}" / f"downscaled_{factor}"

    def shrink(path: Path) -> Path:
        copy = folder / path.relative_to(data)
        if not copy.exists() or copy.stat().st_mtime < path.stat().st_mtime:
            small = Image.fromarray(box_average(_pixels(path), factor))
            # Two runs may prepare the same scene at once.
            write_whole(copy, lambda staged: small.save(staged, format="PNG"))
        return copy

    with ThreadPoolExecutor() as pool:
        return list(pool.map(shrink, paths))


def _pixels(path: Path) -> np.ndarray:
    """An image's 8-bit pixels, palettes resolved."""
    with Image.open(path) as image:
        if image.mode[0] in "IF":
            raise ValueError(f"The image {path} has more than 8 bits per channel, which nerfstudio does not read.")
        return np.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGBA"))


def box_average(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of pixels, weighting colours by their opacity.

    Args:
        pixels: uint8 ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)`` with straight alpha.
        factor: Block side; divides H and W.

    Returns:
        uint8, H and W divided by factor. Transparent pixels lend no colour to their neighbours.
    """
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    blocks = pixels.reshape(height, factor, width, factor, -1).astype(np.float64)
    if blocks.shape[-1] == 4:
        alpha = blocks[..., 3:]
        colour = (blocks[..., :3] * alpha).sum((1, 3)) / np.maximum(alpha.sum((1, 3)), 1e-9)
        average = np.concatenate([colour, alpha.mean((1, 3))], axis=-1)
    else:
        average = blocks.mean((1, 3))
    return average.round().astype(np.uint8).reshape(height, width, *pixels.shape[2:])


iga_blender = DataParserSpecification(
    config=IGABlenderDataParserConfig(),
    description="Blender scenes with the downscaling and test skip of the IGA paper's protocol.",
)
