"""The measurements of images and shapes, at the smallest size."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import trimesh
from PIL import Image

from iga_nerfstudio.benchmark import images as images_module
from iga_nerfstudio.benchmark import shapes as shapes_module
from iga_nerfstudio.benchmark.image_pair import measure_image_pair
from iga_nerfstudio.benchmark.studies.images import ImagesSize, Setting, Variant, configure, measure_images
from iga_nerfstudio.benchmark.record import write_result
from iga_nerfstudio.benchmark.report import render_report
from iga_nerfstudio.benchmark.studies.shapes import ShapeSize, measure_shapes, shapes_at_hand
from iga_nerfstudio.benchmark.tables_page import images_table, render_images, render_shapes, shapes_table
from iga_nerfstudio.data.voxels import VoxelGrid
from iga_nerfstudio.tasks.config import TaskAdjustmentConfig
from iga_nerfstudio.tasks.config_files import read_preset
from iga_nerfstudio.tasks.image import ImageConfig, automatic_patch_size
from iga_nerfstudio.tasks.sdf import SDFConfig, ShapeTask

ALL: tuple[Variant, ...] = get_args(Variant)
SIZE = ImagesSize(("p1",), 48, 8, 3, ("relu",), ALL, ("adam",), seed=0)


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
        return [vars(s) | {"psnr": better[s.lr]} for s in settings]

    monkeypatch.setattr(images_module, "_train_all", train_all)
    figures = measure_images(photos, replace(SIZE, images=("p1", "p2")), tmp_path / "runs", 1)
    assert {s.lr for s in asked[0] if s.variant != "fr"} == {5e-3, 1e-2}
    assert {s.lr for s in asked[0] if s.variant == "fr"} == {1e-3, 5e-3, 1e-2}
    assert {s.image for s in asked[0]} == {"p1"}
    assert [(s.image, s.lr) for s in asked[1]] == [("p2", 1e-2)] * 4
    assert {mean["lr"] for mean in figures["means"]} == {1e-2}
    assert {mean["psnr"] for mean in figures["means"]} == {30.0}


def test_images_are_fitted_once(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    told: list[str] = []
    for _ in range(2):
        figures = measure_images(photos, replace(SIZE, networks=("finer",)), tmp_path / "runs", 1, told.append)
    assert os.environ["OMP_NUM_THREADS"] == "7"  # other processes of ours keep theirs
    assert len(told) == 4  # two variants at two rates
    assert len(figures["trainings"]) == 4
    assert {mean["variant"] for mean in figures["means"]} == {"plain", "iga"}
    write_result(tmp_path / "results" / "images.json", figures)
    page = render_images(tmp_path / "results")
    assert page is not None
    assert images_table(figures) in page
    assert "| finer | IGA |" in page


def test_only_the_variants_asked_for_are_trained(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Setting] = []

    def train_all(settings: list[Setting], *_: Any) -> list[dict[str, Any]]:
        asked.extend(settings)
        return [vars(s) | {"psnr": 20.0} for s in settings]

    monkeypatch.setattr(images_module, "_train_all", train_all)
    size = replace(SIZE, networks=("relu", "pe"), variants=("bn", "plain"), optimizers=("muon",))
    measure_images(photos, size, tmp_path / "runs", 1)
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
        measure_images(tmp_path, SIZE, tmp_path, 1)
    with pytest.raises(ValueError, match="at least one image"):
        measure_images(tmp_path, replace(SIZE, images=()), tmp_path, 1)


def test_shapes_are_fitted_once(tmp_path: Path) -> None:
    trimesh.creation.icosphere(2).export(tmp_path / "ball.ply")
    size = ShapeSize(("ball",), ("pe",), 24, hidden_dim=16, groups_per_batch=16, num_iterations=80, seed=0)
    told: list[str] = []
    for _ in range(2):
        figures = measure_shapes(tmp_path, size, tmp_path / "runs", 1, told.append)
    assert len(told) == 2
    assert [run["adjusted"] for run in figures["trainings"]] == [False, True]
    assert all(0 < run["iou"] <= run["best_iou"] <= 1 for run in figures["trainings"])
    write_result(tmp_path / "results" / "shapes.json", figures)
    page = render_shapes(tmp_path / "results")
    assert page is not None
    assert shapes_table(figures) in page
    assert "| ball | pe | IGA |" in page


def test_the_papers_rates_are_not_chosen_but_under_muon(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Setting] = []

    def train_all(settings: list[Setting], *_: Any) -> list[dict[str, Any]]:
        asked.extend(settings)
        return [vars(s) | {"psnr": 20.0} for s in settings]

    monkeypatch.setattr(images_module, "_train_all", train_all)
    full = images_module.SIZES["full"]
    size = replace(SIZE, networks=full.networks, variants=full.variants, optimizers=("adam", "muon"), paper_rates=True)
    measure_images(photos, size, tmp_path / "runs", 1)
    rates = {(s.network, s.variant): s.lr for s in asked if s.optimizer == "adam"}
    assert len(rates) == sum(s.optimizer == "adam" for s in asked) == 4 + 4 + 3 + 2 + 2 + 2
    others = {("relu", "iga"): 5e-3, ("pe", "iga"): 5e-3, ("pe", "bn"): 3e-3, ("relu", "fr"): 5e-3}
    assert rates == dict.fromkeys(rates, 1e-3) | others
    assert len({s.lr for s in asked if (s.optimizer, s.network, s.variant) == ("muon", "pe", "iga")}) == 2


def test_the_full_budget_of_images_is_the_papers() -> None:
    full = images_module.SIZES["full"]
    assert full.images == tuple(f"kodim0{i}" for i in range(1, 9))
    assert (full.variants, full.optimizers) == (("plain", "iga", "fr", "bn"), ("adam",))
    config = configure(Setting("kodim01", "relu", "iga", "adam", 5e-3), full)
    assert (config.max_side, config.network.hidden_dim, config.network.hidden_layers) == (768, 256, 3)
    assert (config.max_num_iterations, config.adjustment.end, config.adjustment.representative) == (
        10_000, 25, "largest_residual",
    )  # fmt: skip
    assert (config.schedule.kind, config.schedule.factor, config.schedule.drop_at) == ("step", 0.1, 0.3)
    assert config.patch_size is None
    assert automatic_patch_size(512, 768) == 32
    assert (config.optimizer.kind, config.patches_per_batch) == ("adam", None)
    ends = {
        network: configure(Setting("kodim01", network, "iga", "adam", 1e-3), full).adjustment.end
        for network in full.networks
    }
    assert ends == {"relu": 25, "pe": 20, "siren": 20, "gauss_finer": 20, "wire_finer": 20, "finer": 15}


def test_the_full_budget_of_shapes_is_the_papers(tmp_path: Path) -> None:
    full = shapes_module.SIZES["full"]
    assert full.shapes == ("thai", "armadillo", "dragon", "bunny", "lucy")
    assert full.networks == ("relu", "pe", "siren")
    for network, adjusted, rate in (
        ("relu", False, 2e-3), ("relu", True, 5e-3), ("pe", False, 2e-3), ("pe", True, 2e-3), ("siren", True, 5e-4),
    ):  # fmt: skip
        config = shapes_module.configure(network, adjusted, full, tmp_path)
        assert (config.optimizer.kind, config.optimizer.lr) == ("adam", rate)
        assert config.adjustment.enabled == adjusted
    # The last of them, SIREN's: where there is a preset, both are the same.
    preset = read_preset("shape_siren", SDFConfig)
    assert replace(config, cache_dir=preset.cache_dir, machine=preset.machine) == preset
    muon = shapes_module.configure("relu", True, replace(full, optimizer="muon"), tmp_path)
    assert (muon.optimizer.kind, muon.optimizer.lr) == ("muon", None)


def test_budgets_for_a_cpu(tmp_path: Path) -> None:
    images, shapes = images_module.SIZES["cpu"], shapes_module.SIZES["cpu"]
    assert (images.images, images.max_side, images.hidden_dim, images.num_iterations, images.seed) == (
        ("kodim01", "kodim02", "kodim03"), 192, 64, 1500, 42,
    )  # fmt: skip
    assert (images.variants, images.optimizers, images.paper_rates) == (ALL, ("adam", "muon"), False)
    config = shapes_module.configure("siren", True, shapes, tmp_path)
    assert (config.resolution, config.network.hidden_dim) == (128, 128)
    assert (config.groups_per_batch, config.group_size) == (512, 64)
    assert (config.max_num_iterations, config.num_epochs, config.steps_per_eval) == (400, None, 100)
    assert (config.optimizer.kind, config.optimizer.lr, config.machine.seed) == ("muon", None, 42)


def test_an_epoch_has_as_many_steps_as_batches_fit_into_the_grid(tmp_path: Path) -> None:
    grid = np.zeros((32, 32, 32), dtype=np.float32)
    grid[4:-4, 4:-4, 4:-4] = 1
    size = replace(shapes_module.SIZES["full"], resolution=32, hidden_dim=8, groups_per_batch=16)
    task = ShapeTask(shapes_module.configure("relu", True, size, tmp_path), VoxelGrid(grid, "occupancy", (0, 0, 0), 1))
    assert task.config.max_num_iterations == 200 * (32**3 // (16 * 256))


def test_shapes_that_are_not_at_hand_are_left_out_with_a_word_and_refused_by_name(tmp_path: Path) -> None:
    full = shapes_module.SIZES["full"]
    told: list[str] = []
    (tmp_path / "bunny.ply").touch()
    assert shapes_at_hand(tmp_path, full, told.append).shapes == ("bunny",)
    assert told[0] == f"not run: thai (no {tmp_path / 'thai.ply'})"
    assert len(told) == 4
    with pytest.raises(ValueError, match=r"There is no mesh .*thai\.ply"):
        measure_shapes(tmp_path, full, tmp_path, 1)
    assert shapes_at_hand(tmp_path / "nowhere", full) == full
    with pytest.raises(ValueError, match="at least one shape"):
        measure_shapes(tmp_path, replace(full, shapes=()), tmp_path, 1)


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
    assert "| adjusted |" in (render_report(tmp_path / "results") or "")
