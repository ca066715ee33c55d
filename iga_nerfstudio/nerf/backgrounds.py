"""The colour behind the scene is said twice: to the parser, which puts the views before it, and to the model."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.model_components.renderers import BackgroundColor
from nerfstudio.utils.colors import COLORS_DICT
from PIL import Image

logger = logging.getLogger("iga_nerfstudio")


def is_transparent(views: InputDataset) -> bool:
    """Whether views have transparent pixels, by the first of them; not known of views that are in no file."""
    path = Path(views.image_filenames[0])  # text, where nerfbaselines gives it
    if not path.is_file():
        return False
    with Image.open(path) as image:
        return image.mode == "RGBA" and image.getchannel("A").getextrema()[0] < 255


def advise_background(background: BackgroundColor, views: InputDataset) -> None:
    """Say so where views stand before another colour than the model renders behind the scene.

    The model learns a wall of the views' colour then, and renders it.

    Args:
        background: The model's, by its name; "random"; or "last_sample", which goes with any.
        views: Training views.
    """
    blended = views._dataparser_outputs.alpha_color
    name = background if isinstance(background, str) else None
    if blended is None or name is None or name == "last_sample" or not is_transparent(views):
        return
    if name in COLORS_DICT and torch.equal(blended, COLORS_DICT[name]):
        return
    named = (known for known, colour in COLORS_DICT.items() if torch.equal(blended, colour))
    logger.warning(
        "Transparent views are put before %s, but --pipeline.model.background-color is %s: the model has to learn a "
        "wall of that colour. End the command with iga-blender --alpha-color %s, or another parser and that option.",
        next(named, blended.tolist()),
        name,
        name if name in COLORS_DICT else None,
    )
