"""What iga-nerfacto says before it trains on a scene that nerfacto's settings do not fit."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image

from iga_nerfstudio.nerf.dataparser import IGABlenderDataParserConfig
from iga_nerfstudio.nerf.method_configs import iga_nerfacto
from iga_nerfstudio.nerf.nerfacto_advice import advise, set_for_object
from tests.nerf.scene_files import edit_all, moved

OPTIONS = "--pipeline.model.object-on-white True"


def advice(data: Path, caplog: pytest.LogCaptureFixture, other_parser: Any = None, **settings: Any) -> str:
    """What is said of a scene."""
    config: Any = copy.deepcopy(iga_nerfacto.config.pipeline.model)
    for name, value in settings.items():
        setattr(config, name, value)
    parser = IGABlenderDataParserConfig(data=data).setup()
    caplog.clear()
    advise(config, InputDataset(parser.get_dataparser_outputs("train")), other_parser or parser)
    return caplog.text


def test_transparent_images_want_planes_and_a_background(scene: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert f"Add {OPTIONS}." in advice(scene, caplog)
    assert not advice(scene, caplog, near_plane=2.0, far_plane=6.0, background_color="white")
    assert f"Add {OPTIONS}." in advice(scene, caplog, near_plane=1.0, background_color="black")


def test_other_distances_want_a_scale(scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = Path(shutil.copytree(scene, tmp_path / "scene"))
    edit_all(data, lambda frame, i: moved(frame, 350 / 4.0311))
    assert f"Add {OPTIONS} iga-blender --scale-factor 0.0114." in advice(data, caplog)
    # Parsers that cannot be told a scale get the planes of their cameras.
    planes = "--pipeline.model.near-plane 175 --pipeline.model.far-plane 525"
    assert f"Add {OPTIONS} {planes}." in advice(data, caplog, object())
    for path in (data / "train").iterdir():
        Image.open(path).convert("RGB").save(path)
    assert "Add iga-blender --scale-factor 0.0114." in advice(data, caplog)


def test_photographs_want_nothing(scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = Path(shutil.copytree(scene, tmp_path / "scene"))
    for path in (data / "train").iterdir():
        Image.open(path).convert("RGB").save(path)
    assert not advice(data, caplog)


def test_one_option_sets_what_is_not_set() -> None:
    config: Any = copy.deepcopy(iga_nerfacto.config.pipeline.model)
    config.far_plane = 9.0
    set_for_object(config)
    assert (config.near_plane, config.far_plane, config.background_color) == (2.0, 9.0, "white")
    assert (config.camera_optimizer.mode, config.disable_scene_contraction) == ("off", True)
