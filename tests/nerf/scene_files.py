"""Scenes as other programs write them, made of the tiny one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from iga_nerfstudio.nerf.dataparser import IGABlenderDataParserConfig

Frame = dict[str, Any]


def parse(data: Path, split: str = "train", **settings: Any) -> DataparserOutputs:
    """What ``iga-blender`` makes of a scene."""
    return IGABlenderDataParserConfig(data=data, **settings).setup().get_dataparser_outputs(split=split)


def edit(path: Path, frame: Callable[[Frame, int], Frame] | None = None, **shared: Any) -> None:
    """Change every frame of a transforms file, and what it says of all; None takes a thing out."""
    meta = json.loads(path.read_text()) | shared
    if frame is not None:
        meta["frames"] = [frame(one, i) for i, one in enumerate(meta["frames"])]
    path.write_text(json.dumps({key: value for key, value in meta.items() if value is not None}))


def edit_all(scene: Path, frame: Callable[[Frame, int], Frame] | None = None, **shared: Any) -> None:
    """Change all splits of a scene."""
    for path in scene.glob("transforms_*.json"):
        edit(path, frame, **shared)


def moved(frame: Frame, scale: float, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Frame:
    """The frame in a world scaled, then shifted."""
    matrix = np.array(frame["transform_matrix"])
    matrix[:3, 3] = matrix[:3, 3] * scale + shift
    return frame | {"transform_matrix": matrix.tolist()}


def single_file(scene: Path, **shared: Any) -> Path:
    """Make the scene's training split its only file, ``transforms.json``."""
    for name in ("val", "test"):
        (scene / f"transforms_{name}.json").unlink()
    edit(scene / "transforms_train.json", **shared)
    return (scene / "transforms_train.json").rename(scene / "transforms.json")
