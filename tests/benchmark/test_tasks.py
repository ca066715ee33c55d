"""The measurements of images and shapes, at the smallest size."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import trimesh
from PIL import Image

from iga_nerfstudio.benchmark import images as images_module
from iga_nerfstudio.benchmark.image_pair import measure_image_pair
from iga_nerfstudio.benchmark.images import Setting, Size, Variant, configure, measure_images
from iga_nerfstudio.benchmark.muon_step import measure_muon_step
from iga_nerfstudio.benchmark.record import write_result
from iga_nerfstudio.benchmark.report import render_report
from iga_nerfstudio.benchmark.shapes import ShapeSize, measure_shapes
from iga_nerfstudio.tasks.config import TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig

ALL: tuple[Variant, ...] = get_args(Variant)
SIZE = Size(max_side=48, hidden_dim=8, num_iterations=3, seed=0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in (1, 2):
        noise = np.random.default_rng(i).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"p{i}.png")
    return tmp_path


def test_each_rate_is_tried_on_the_first_image_and_the_better_one_used_on_the_others(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = {1e-3: 10.0, 5e-3: 20.0, 1e-2: 30.0}
    asked: list[list[Setting]] = []

    def train_all(settings: list[Setting], *_: Any) -> list[dict[str, Any]]:
        asked.append(settings)
        return [vars(s) | {"psnr": better[s.lr], "diverged": False} for s in settings]

    monkeypatch.setattr(images_module, "_train_all", train_all)
    figures = measure_images(photos, ("p1", "p2"), SIZE, ("relu",), ALL, ("adam",), tmp_path / "runs", 1)
    assert {s.lr for s in asked[0] if s.variant != "fr"} == {5e-3, 1e-2}
    assert {s.lr for s in asked[0] if s.variant == "fr"} == {1e-3, 5e-3, 1e-2}
    assert {s.image for s in asked[0]} == {"p1"}
    assert [(s.image, s.lr) for s in asked[1]] == [("p2", 1e-2)] * 4
    assert {mean["lr"] for mean in figures["means"]} == {1e-2}
    assert {mean["psnr"] for mean in figures["means"]} == {30.0}


def test_a_diverged_training_loses_against_any_other() -> None:
    runs = [
        {"image": "p", "network": "pe", "variant": "iga", "optimizer": "adam", "lr": lr, "psnr": psnr, "diverged": bad}
        for lr, psnr, bad in ((1.0, float("nan"), True), (2.0, 10.0, False), (3.0, float("nan"), True))
    ]
    assert [setting.lr for setting in images_module._better_rates(runs)] == [2.0]


def test_images_are_fitted_once(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    told: list[str] = []
    for _ in range(2):
        figures = measure_images(photos, ("p1",), SIZE, ("finer",), ALL, ("adam",), tmp_path / "runs", 1, told.append)
    assert os.environ["OMP_NUM_THREADS"] == "7"  # other processes of ours keep theirs
    assert len(told) == 4  # two variants at two rates
    assert len(figures["trainings"]) == 4
    assert {mean["variant"] for mean in figures["means"]} == {"plain", "iga"}
    write_result(tmp_path / "results" / "images.json", figures)
    assert "| finer |" in render_report(tmp_path / "results")


def test_only_the_variants_asked_for_are_trained(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Setting] = []

    def train_all(settings: list[Setting], *_: Any) -> list[dict[str, Any]]:
        asked.extend(settings)
        return [vars(s) | {"psnr": 20.0, "diverged": False} for s in settings]

    monkeypatch.setattr(images_module, "_train_all", train_all)
    measure_images(photos, ("p1",), SIZE, ("relu", "pe"), ("bn", "plain"), ("muon",), tmp_path / "runs", 1)
    assert {s.variant for s in asked} == {"bn", "plain"}


def test_variants_differ_in_what_they_are_named_for() -> None:
    configs = {
        variant: configure(Setting("p", "pe", variant, "muon", 0.1), SIZE)
        for variant in ("plain", "iga", "iga_mean", "fr", "bn")
    }
    adjusted = {name for name, config in configs.items() if config.adjustment.enabled}
    assert adjusted == {"iga", "iga_mean"}
    assert {n for n, c in configs.items() if c.network.fourier_reparameterisation.enabled} == {"fr"}
    assert {n for n, c in configs.items() if c.network.batch_norm} == {"bn"}
    assert configs["iga_mean"].adjustment.num_representatives == 4


def test_missing_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no image"):
        measure_images(tmp_path, ("p",), SIZE, ("pe",), ALL, ("adam",), tmp_path, 1)
    with pytest.raises(ValueError, match="at least one image"):
        measure_images(tmp_path, (), SIZE, ("pe",), ALL, ("adam",), tmp_path, 1)


def test_shapes_are_fitted_once_and_their_meshes_kept(tmp_path: Path) -> None:
    trimesh.creation.icosphere(2).export(tmp_path / "ball.ply")
    size = ShapeSize(24, hidden_dim=16, groups_per_batch=16, num_iterations=80, optimizer="muon", seed=0)
    told: list[str] = []
    for _ in range(2):
        figures = measure_shapes(tmp_path, ("ball",), ("pe",), size, tmp_path / "runs", told.append)
    assert len(told) == 2
    assert [run["adjusted"] for run in figures["trainings"]] == [False, True]
    assert all(0 < run["iou"] <= run["best_iou"] <= 1 for run in figures["trainings"])
    write_result(tmp_path / "results" / "shapes.json", figures)
    assert "| ball | pe | IGA |" in render_report(tmp_path / "results")


def test_a_pair_of_runs_in_processes_of_their_own(photos: Path, tmp_path: Path) -> None:
    config = ImageConfig(
        data=photos / "p1.png",
        output_dir=tmp_path / "out",
        max_num_iterations=3,
        patch_size=8,
        adjustment=TaskAdjustmentConfig(end=5),
    )
    figures = measure_image_pair(config)
    plain, adjusted = (figures["runs"][name] for name in ("plain", "adjusted"))
    assert plain["metrics"]["psnr"] != adjusted["metrics"]["psnr"]
    assert plain["peak_memory_mb"] > 100
    record = json.loads((tmp_path / "out" / "p1" / "iga-image" / "plain" / "metrics.json").read_text())
    assert not record["adjusted"]
    assert measure_image_pair(config) == figures
    write_result(tmp_path / "results" / "image_pair.json", figures)
    assert "| adjusted |" in render_report(tmp_path / "results")


def test_steps_of_muon_are_timed(tmp_path: Path) -> None:
    muon = measure_muon_step(32, rounds=3, device="cpu", seed=0)
    assert min(muon["median_seconds"].values()) > 0
    write_result(tmp_path / "muon_step.json", muon)
    assert "32 x 32 matrix" in render_report(tmp_path)
