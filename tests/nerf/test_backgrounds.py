"""What stands behind the scene, in its views and in what is rendered of it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image

from iga_nerfstudio.nerf.backgrounds import advise_background
from tests.nerf.scene_files import parse


@pytest.mark.parametrize(
    ("views", "model", "advice"),
    [
        ("white", "white", None),
        ("black", "black", None),
        ("white", "last_sample", None),
        (None, "random", None),
        (None, "black", None),
        ("white", "black", "put before white, but .*-color is black: .* iga-blender --alpha-color black,"),
        ("green", "white", "put before green, but .*-color is white: .* iga-blender --alpha-color white,"),
        ("white", "random", "put before white, but .*-color is random: .* iga-blender --alpha-color None,"),
    ],
)
def test_two_colours_are_told(
    scene: Path, views: str | None, model: str, advice: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    advise_background(model, InputDataset(parse(scene, alpha_color=views)))
    if advice is None:
        assert not caplog.text
    else:
        assert re.search(advice, caplog.text)


def test_views_without_transparent_pixels_have_their_own(
    scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = Path(shutil.copytree(scene, tmp_path / "scene"))
    for path in (data / "train").iterdir():
        Image.open(path).convert("RGB").save(path)
    advise_background("black", InputDataset(parse(data)))
    assert not caplog.text
