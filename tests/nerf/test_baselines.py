"""nerfbaselines finds the methods, and trains, saves, loads and renders them in its own way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nerfbaselines
import numpy as np
import pytest
from nerfbaselines.datasets import load_dataset
from nerfbaselines.training import get_presets_and_config_overrides

SMALL = {
    "machine.device_type": "cpu",
    "pipeline.datamanager.train_num_rays_per_batch": 64,
    "pipeline.model.num_coarse_samples": 8,
    "pipeline.model.num_importance_samples": 8,
    "pipeline.model.hidden_dim": 16,
    "pipeline.model.view_dim": 16,
    "pipeline.model.adjustment.end": "8",  # as from the command line
}


@pytest.fixture
def blender(scene: Path, tmp_path: Path) -> Path:
    """The tiny scene with its size written down, which nerfbaselines assumes to be 800 x 800 otherwise."""
    copy = shutil.copytree(scene, tmp_path / "lego")
    for split in ("train", "test"):
        path = copy / f"transforms_{split}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"w": 24, "h": 24}))
    (copy / "nb-info.json").write_text(
        json.dumps(
            {
                "loader": "nerfbaselines.datasets.blender:load_blender_dataset",
                "id": "blender",
                "scene": "lego",
                "evaluation_protocol": "nerf",
                "type": "object-centric",
            }
        )
    )
    return copy


@pytest.mark.parametrize("name", ["iga-nerf", "iga-nerf-muon"])
def test_a_method_trains_saves_loads_and_renders(name: str, blender: Path, tmp_path: Path) -> None:
    assert name in nerfbaselines.get_supported_methods()
    spec = nerfbaselines.get_method_spec(name)
    with nerfbaselines.build_method_class(spec, backend="python") as method_class:
        info = method_class.get_method_info()
        features, cameras = info["required_features"], info["supported_camera_models"]
        train = load_dataset(blender, "train", features, cameras)
        test = load_dataset(blender, "test", features, cameras)
        _, overrides = get_presets_and_config_overrides(spec, train["metadata"], config_overrides=SMALL)
        method = method_class(train_dataset=train, config_overrides=overrides)
        figures = [method.train_iteration(step) for step in range(4)]
        assert all(np.isfinite(figure["loss"]) for figure in figures)
        assert figures[-1]["iga/steps_unadjusted"] == 0
        method.save(str(tmp_path / "saved"))
        camera = test["cameras"][0]
        before = method.render(camera)
        after = method_class(checkpoint=str(tmp_path / "saved")).render(camera)
        assert before["color"].shape == (24, 24, 4) or before["color"].shape == (24, 24, 3)
        assert np.array_equal(before["color"], after["color"])


@pytest.mark.parametrize(("scene", "end"), [("lego", None), ("ficus", 30)])
def test_presets_apply_to_their_scenes(scene: str, end: int | None) -> None:
    spec = nerfbaselines.get_method_spec("iga-nerf")
    presets, overrides = get_presets_and_config_overrides(spec, {"id": "blender", "scene": scene})
    assert presets == {"blender"} | ({"blender-ficus"} if end else set())
    assert overrides["pipeline.datamanager.dataparser"] == "blender-data"
    assert overrides["pipeline.model.adjustment.kernel_of"] == "samples"
    assert overrides["pipeline.model.adjustment.floor"] == 0.0
    assert overrides["pipeline.model.adjustment.until"] == 1.0
    assert overrides.get("pipeline.model.adjustment.end") == end
