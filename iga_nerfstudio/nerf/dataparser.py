"""Blender scenes and other ``transforms*.json``, with the paper's protocol: half resolution, every 8th test view."""

from __future__ import annotations

import glob
import logging
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.blender_dataparser import Blender, BlenderDataParserConfig
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from nerfstudio.utils.colors import COLORS_DICT

from iga_nerfstudio.arguments import expand_homes
from iga_nerfstudio.nerf.images import ImageHeader, copy_images, find_image, is_absolute, read_headers
from iga_nerfstudio.nerf.scene_cameras import camera_poses, cameras_of
from iga_nerfstudio.nerf.transforms import Transforms, read_transforms

logger = logging.getLogger("iga_nerfstudio")

# Views whose mean says little.
_FEW = 5


@dataclass
class IGABlenderDataParserConfig(BlenderDataParserConfig):
    """Scenes (transforms_{train,val,test}.json or transforms.json, and images), smaller and with fewer test views."""

    _target: type = field(default_factory=lambda: IGABlender)
    """Target class to instantiate."""
    downscale_factor: int = 1
    """Shrink images by this whole number, averaging blocks of pixels; 2 is the paper's half resolution. The small
    images are kept in a folder beside the data (or, where that cannot be written, in the temporary folder)."""
    test_skip: int = 1
    """Keep every that many views of the validation and test splits, starting from the first; the paper keeps every
    8th."""

    def __post_init__(self) -> None:
        expand_homes(self)


class IGABlender(Blender):
    """Scenes read as their files mean them, and checked before training starts."""

    config: IGABlenderDataParserConfig

    def __init__(self, config: IGABlenderDataParserConfig) -> None:
        if config.alpha_color is not None and config.alpha_color.lower() not in COLORS_DICT:
            raise ValueError(
                f"iga-blender --alpha-color must be None or one of {', '.join(COLORS_DICT)}, got {config.alpha_color}."
            )
        if not 0 < config.scale_factor < math.inf:
            raise ValueError(f"iga-blender --scale-factor must be positive and finite, got {config.scale_factor}.")
        super().__init__(config)

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        for name in ("downscale_factor", "test_skip"):
            if getattr(self.config, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self.config, name)}.")
        transforms = read_transforms(self.data, split)
        if split != "train":
            transforms = skip_views(transforms, self.config.test_skip)
        poses = camera_poses(transforms)
        poses[..., 3] *= self.scale_factor
        folder = transforms.path.parent
        images = find_images(transforms, folder, split)
        headers = read_headers(images)
        cameras = cameras_of(transforms, poses, images, [headers[image].size for image in images])
        if split == "train" and any(transforms.value(i, "mask_path") for i in range(len(images))):
            logger.warning(
                "%s names masks, which iga-blender does not use: all pixels are trained on. nerfstudio-data uses them.",
                transforms.path,
            )
        factor = self.config.downscale_factor
        require_divisible(headers, factor)
        copies = copy_images(folder, headers, factor)
        if factor > 1:
            cameras.rescale_output_resolution(1 / factor)
        return DataparserOutputs(
            image_filenames=[copies[image] for image in images],
            cameras=cameras,
            alpha_color=self.alpha_color_tensor,
            scene_box=SceneBox(aabb=torch.tensor([[-1.5] * 3, [1.5] * 3])),
            dataparser_scale=self.scale_factor,
            metadata=self._load_3D_points(folder / self.config.ply_path) if self.config.ply_path is not None else {},
        )


def skip_views(transforms: Transforms, skip: int) -> Transforms:
    """Every ``skip``-th view of a split for evaluation; told where that leaves next to none."""
    count = len(transforms.frames)
    kept = list(range(0, count, skip))
    if len(kept) < min(_FEW, count):
        logger.warning(
            "%d of the %d views of %s are kept for evaluation (iga-blender --test-skip %d). End the command with "
            "iga-blender --test-skip 1 to keep all.",
            len(kept),
            count,
            transforms.path,
            skip,
        )
    return transforms.keep(kept)


def find_images(transforms: Transforms, folder: Path, split: str) -> list[Path]:
    """The frames' images.

    Args:
        transforms: Frames.
        folder: The scene's folder.
        split: The frames' name.

    Returns:
        A file for each.

    Raises:
        ValueError: If one is missing; names the frame.
    """
    found = [find_image(folder, frame["file_path"]) for frame in transforms.frames]
    missing = [i for i, image in enumerate(found) if image is None]
    if missing:
        others = f" So it is with {len(missing)} frames of {len(found)}." if len(missing) > 1 else ""
        if len(missing) == len(found) and transforms.path.name == f"transforms_{split}.json" and split != "train":
            others += (
                f" Render them, or put {transforms.path.name} elsewhere, whose poses are of no use alone: another "
                "split, or every 8th frame, is kept for evaluation then."
            )
        raise ValueError(f"{transforms.name(missing[0])}: {_what_is_missing(transforms, missing[0], folder)}{others}")
    images = [image for image in found if image is not None]
    named = transforms.frames[0]["file_path"]
    if is_absolute(named) and images[0] != Path(named):
        logger.warning("%s names images as of another machine (%s); %s is read.", transforms.path, named, images[0])
    return images


def _what_is_missing(transforms: Transforms, i: int, folder: Path) -> str:
    """A frame's image that is not there, and what is in its place."""
    named = folder / transforms.frames[i]["file_path"].replace("\\", "/")
    shown = named if named.suffix else named.with_suffix(".png")
    if shown.is_symlink():
        return f"the image {shown} is a link to {os.readlink(shown)}, which is missing."
    if shown.is_dir():
        return f"the image {shown}, named by the transforms file, is a folder."
    others = ", ".join(sorted(path.name for path in named.parent.glob(f"{glob.escape(named.stem)}.*")))
    return f"the image {shown}, named by the transforms file, is missing.{f' There is {others}.' if others else ''}"


def require_divisible(headers: dict[Path, ImageHeader], factor: int) -> None:
    """Refuse images that cannot be shrunk by a factor.

    Raises:
        ValueError: If it does not divide the width and height of all.
    """
    for path, header in headers.items():
        width, height = header.size
        if width % factor or height % factor:
            raise ValueError(
                f"Images of {width}x{height} pixels cannot be shrunk by a factor of {factor}: it must divide both "
                f"({path}). Add iga-blender --downscale-factor with another one, or 1, at the end of the command."
            )


iga_blender = DataParserSpecification(
    config=IGABlenderDataParserConfig(),
    description="Blender scenes with the downscaling and test skip of the IGA paper's protocol.",
)
