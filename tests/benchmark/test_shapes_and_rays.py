"""The studies of shapes and of the kernel of rays: what is trained, and what the pages say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from iga_nerfstudio.adjustment import SpectralTransform
from iga_nerfstudio.benchmark.studies import rays, shapes
from iga_nerfstudio.benchmark.studies.nerf_training import NerfTraining
from iga_nerfstudio.benchmark.studies.photographs import OptimizerKind
from iga_nerfstudio.benchmark.studies.rays import METHOD, VARIANTS, Rays, meaning_of
from iga_nerfstudio.benchmark.studies.shapes import Shapes, train_shape
from iga_nerfstudio.data.voxels import VoxelGrid
from iga_nerfstudio.nerf.method_configs import iga_nerf_muon, iga_nerf_tiny
from iga_nerfstudio.tasks.config_files import read_preset
from iga_nerfstudio.tasks.sdf import SDFConfig, ShapeTask
from tests.benchmark.studies import Pretended


class TestShapes:
    def test_a_shape_is_fitted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # where its voxels are kept
        trimesh.creation.icosphere(2).export(tmp_path / "ball.ply")
        study = replace(shapes.PRESETS["smoke"], data=tmp_path, shapes=("ball",))
        outcome = train_shape(study.training("ball", "muon", "pe", "iga", 0).configuration)
        assert 0.5 < outcome["iou"] <= outcome["best_iou"] <= 1
        assert outcome["steps"] == 80
        assert outcome["chamfer"] > 0

    def test_tables_have_their_mean_and_the_papers(self, tmp_path: Path) -> None:
        for name in ("bunny", "lucy"):
            (tmp_path / f"{name}.ply").touch()
        study = Shapes(tmp_path, ("bunny", "lucy"), ("pe",), max_num_iterations=7, seeds=(1, 2))

        def outcome(run: dict[str, Any]) -> dict[str, Any]:
            if run["variant"] == "iga" and run["shape"] == "lucy" and run["seed"] == 2:
                return {"diverged": "NaN"}
            surface = {} if run["shape"] == "lucy" else {"chamfer": 0.01, "chamfer_squared": 0.001}
            iou = 0.9 + 0.01 * (run["variant"] == "iga") - 0.1 * (run["shape"] == "lucy")
            return {"iou": iou, "best_iou": iou + 0.05} | surface

        train = Pretended(outcome)
        figures = study.settings() | study.measure(train)
        assert len(train.asked) == 2 * 2 * 2 * 2  # shapes, optimisers, variants, seeds
        text = Shapes.section(figures, "shapes")
        assert "| bunny | pe | plain | 0.9000 ± 0.0000 |  | 0.9500 ± 0.0000 | 1.00e-02 ± 0.00e+00 |" in text
        assert "| 0.9985 | 7.74e-06 |" in text
        assert "| mean | pe | plain | 0.8500 ± 0.0000 |  | 0.9000 ± 0.0000 |  |  | 0.9952 | 5.37e-06 |" in text
        assert "| lucy | pe | IGA | 0.8100, 1 diverged | +0.0100 (1 of 1) |" in text
        assert text.count("IGA has the higher iou: pe in 3 of 3 cases (with their seeds).") == 2
        assert "128^3, 7 steps, groups near each other" in text
        assert "0.9985" not in text.split("### Muon")[1]
        full = Shapes.section(figures | shapes.FULL, "shapes")
        assert "200 epochs" in full
        assert "The sizes are the paper's." in full
        assert Shapes.gains(figures)[0][:2] == ["shapes, pe: IoU", "0.8500"]
        # Results from before groups were near each other, and the paper's, are not what users train.
        del figures["grouping"]
        assert "7 steps, groups in rows" in Shapes.section(figures, "shapes")
        assert Shapes.gains(figures) == Shapes.gains(figures | shapes.FULL) == []

    def test_the_full_size_is_the_papers(self) -> None:
        full = shapes.PRESETS["full"]
        assert {name: getattr(full, name) for name in shapes.FULL} == shapes.FULL
        assert (full.shapes, full.optimizers) == (("thai", "armadillo", "dragon", "bunny", "lucy"), ("adam",))
        for network, adjusted, rate in (
            ("relu", False, 2e-3), ("relu", True, 5e-3), ("pe", False, 2e-3), ("pe", True, 2e-3), ("siren", True, 5e-4),
        ):  # fmt: skip
            config = full.config(network, "adam", adjusted)  # type: ignore[arg-type]
            assert (config.optimizer.kind, config.optimizer.lr) == ("adam", rate)
            assert config.adjustment.enabled == adjusted
        # The last of them, SIREN's: the preset.
        preset = read_preset("shape_siren", SDFConfig)
        assert (config.optimizer.kind, config.optimizer.lr) == (preset.optimizer.kind, preset.optimizer.lr)
        same = {"machine": preset.machine, "optimizer": preset.optimizer, "steps_per_log": None, "adjust_from": None}
        assert replace(config, **same) == preset
        muon = full.config("relu", "muon", True)
        assert (muon.optimizer.kind, muon.optimizer.lr, muon.schedule.kind) == ("muon", None, "cosine")

    def test_an_epoch_has_as_many_steps_as_batches_fit_into_the_grid(self) -> None:
        grid = np.zeros((32, 32, 32), dtype=np.float32)
        grid[4:-4, 4:-4, 4:-4] = 1
        study = replace(shapes.PRESETS["full"], resolution=32, hidden_dim=8, groups_per_batch=16)
        task = ShapeTask(study.config("relu", "adam", True), VoxelGrid(grid, "occupancy", (0, 0, 0), 1))
        assert task.config.max_num_iterations == 200 * (32**3 // (16 * 256))

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        train = Pretended(lambda run: {})
        with pytest.raises(ValueError, match=r"There is no mesh .*thai\.ply"):
            replace(shapes.PRESETS["full"], data=tmp_path).measure(train)
        with pytest.raises(ValueError, match="at least one shape"):
            replace(shapes.PRESETS["full"], data=tmp_path, shapes=()).measure(train)


class TestRays:
    @pytest.fixture
    def study(self, scene: Path) -> Rays:
        return replace(rays.PRESETS["smoke"], data=(scene,), seeds=(1, 2))

    def test_variants_are_compared_seed_by_seed(self, study: Rays, scene: Path, tmp_path: Path) -> None:
        values = {("plain", 1): 20.0, ("heaviest", 1): 21.0, ("plain", 2): 22.0, ("heaviest", 2): 25.0}

        def outcome(run: dict[str, Any]) -> dict[str, Any]:
            value = values[run["variant"], run["seed"]]
            first = value - (3 if run["variant"] == "heaviest" else 10)
            empty = [[50, 0.5, 0.9, 0.1, 0.8], [100, 0.5, 0.8, 0.2, 0.9]]
            return {"psnr": value, "median_psnr": value + 1, "curve": [[50, first], [100, value]], "empty": empty}

        train = Pretended(outcome)
        figures = study.settings() | study.measure(train)
        assert len(train.asked) == 4
        assert figures["step_costs"]["plain"] == 1.0
        figures["step_costs"]["heaviest"] = 1.5
        text = Rays.section(figures, "rays")
        # The mean curve goes from 20 to 23 and passes plain's 21 after a third.
        gains = "+2.00 ± 1.41 (2 of 2) | +2.00 ± 1.41 (2 of 2)"
        assert f"| heaviest | 23.00 ± 2.83 | {gains} | 1.50 | 0.67 | 1.00 | 0.50 |" in text
        assert "| Adam | heaviest | 100 | 0.50 | 0.80 | 0.20 | 0.90 |" in text
        assert f"- heaviest: {VARIANTS['heaviest'].meaning}." in text
        made = "iga-scene --scene lighthouse --resolution 24 --num-train 16 --num-val 2 --num-test 3"
        assert f"- {scene.name}: `{made}`." in text
        assert "rays a step, under Adam of all images" in text
        del figures["built_in"], figures["one_image"]  # of earlier versions
        assert "iga-scene" not in Rays.section(figures, "rays")
        assert "rays a step, of one image" in Rays.section(figures, "rays")
        assert "gain over plain on all scenes and seeds: heaviest +2.00 ± 1.41 (2 of 2) dB." in text
        Rays.draw(figures, tmp_path / "rays")
        assert (tmp_path / f"rays_{scene.name}_gains.png").read_bytes().startswith(b"\x89PNG")

    def test_the_same_seed_trains_the_same(self, study: Rays) -> None:
        study = replace(study, optimizers=("muon",), rates=(2e-2,))

        def views(variant: str, seed: int) -> list[float]:
            config = study.config(study.data[0], 1, "muon", variant)
            training = NerfTraining(config, "cpu", seed)
            for _ in range(3):
                training.step()
            return training.psnr_of_views()

        assert views("heaviest", 0) == views("heaviest", 0)
        assert views("heaviest", 0) != views("heaviest", 1)
        assert views("heaviest", 0) != views("plain", 0)

    def test_the_method_is_what_users_train(self, study: Rays) -> None:
        study = replace(study, optimizers=("adam", "muon"), rates=(3e-3, 2e-2))
        for optimizer, method in (("adam", iga_nerf_tiny), ("muon", iga_nerf_muon)):
            ours: Any = study.config(study.data[0], 1, optimizer, METHOD)  # type: ignore[arg-type]
            theirs: Any = method.config
            assert ours.pipeline.model.adjustment == theirs.pipeline.model.adjustment
            assert type(ours.pipeline.datamanager.pixel_sampler) is type(theirs.pipeline.datamanager.pixel_sampler)
        text = meaning_of(METHOD)
        assert VARIANTS["visible"].meaning in text
        assert "no direction slowed" in text

    def test_what_the_methods_gain_is_in_the_readme(self, study: Rays) -> None:
        study = replace(study, optimizers=("adam", "muon"), rates=(3e-3, 2e-2), variants=(METHOD,), rounds=1)
        gains = {"plain": 20.0, METHOD: 21.0}
        train = Pretended(lambda run: {"psnr": gains[run["variant"]], "median_psnr": 20.0, "curve": [], "empty": []})
        figures = study.settings() | study.measure(train)
        (row,) = Rays.gains(figures)
        assert row[1:] == ["20.00", "21.00: +1.00 ± 0.00 (2 of 2)"] * 2
        assert Rays.gains(figures | {"optimizers": ["adam"]}) == []
        assert Rays.gains(figures | {"one_image": True}) == []
        del figures["one_image"]  # of results from before steps took rays of all images
        assert Rays.gains(figures) == []

    @pytest.mark.parametrize(
        ("optimizer", "one_image", "expected"), [("adam", False, False), ("adam", True, True), ("muon", False, True)]
    )
    def test_rays_of_one_image_or_all(
        self, study: Rays, optimizer: OptimizerKind, one_image: bool, expected: bool
    ) -> None:
        study = replace(study, optimizers=(optimizer,), rates=(1e-3,), one_image=one_image)
        training = NerfTraining(study.config(study.data[0], 1, optimizer, "plain"), "cpu", 0)
        rays, _ = training.pipeline.datamanager.next_train(0)
        assert (len(rays.camera_indices.unique()) == 1) == expected

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_every_variant_adjusts_as_it_says(self, variant: str, study: Rays) -> None:
        config: Any = replace(study, num_rays=128).config(study.data[0], 1, "adam", variant)
        for name, value in VARIANTS[variant].changes.items():
            assert getattr(config.pipeline.model.adjustment, name) == value
        training = NerfTraining(config, "cpu", 0)
        training.step()
        diagnostics = training.pipeline.model.adjuster.diagnostics
        assert diagnostics.adjusted == (variant != "plain")
        assert diagnostics.steps_unadjusted == 0
        # The exact kernel of a ray is through as many samples as there are.
        if variant == "rays":
            model = training.pipeline.model
            assert VARIANTS["rays"].changes["num_representatives"] == model.adjuster.grouping.group_size

    def test_a_training_has_a_curve_and_every_view(self, study: Rays) -> None:
        training = study.training(study.data[0], 1, "adam", "visible", 1)
        outcome = rays.train_nerf(training.configuration)
        assert [step for step, _ in outcome["curve"]] == [3, 6]
        assert len(outcome["psnr_of_views"]) == 2
        assert [point[0] for point in outcome["empty"]] == [3, 6]

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"seeds": ()}, "at least one seed"),
            ({"optimizers": ()}, "one optimizer"),
            ({"variants": ("nothing",)}, "variants of method, throughout, plain"),
            ({"downscale_factors": (1, 2)}, "Give every scene its factor"),
        ],
    )
    def test_nothing_to_train_is_refused(self, changes: Any, words: str, study: Rays) -> None:
        with pytest.raises(ValueError, match=words):
            replace(study, **changes).measure(Pretended(lambda run: {}))


@pytest.mark.parametrize(("empty", "expected"), [([0, 1], (0.5, 1.0, 0.25, 1.0)), ([2], (0.25, 0.0, 1.0, 0.5))])
def test_what_empty_rays_own_of_the_eigenvectors(empty: list[int], expected: tuple[float, ...]) -> None:
    """Two balanced eigenvectors on the first two of four rays, of which a quarter is kept."""
    opacity = torch.ones(4, 1)
    opacity[empty] = 0.05
    transform = SpectralTransform(torch.eye(4)[:, :2], torch.full((2,), -0.75), torch.tensor(1.0))
    adjuster = SimpleNamespace(_transform=transform, enabled=True)
    model = SimpleNamespace(adjuster=adjuster)
    training: Any = SimpleNamespace(outputs={"accumulation": opacity}, pipeline=SimpleNamespace(model=model))
    assert rays.empty_rays(training) == pytest.approx(expected)
    # The last transform is of other rays by then.
    adjuster.enabled = False
    assert rays.empty_rays(training) == pytest.approx((expected[0], expected[0], 1.0, 1.0))


def test_what_is_plain_by_then_says_nothing_of_empty_rays() -> None:
    points = [[20, 0.5, 0.9, 0.1, 0.8], [100, 0.5, 0.8, 0.2, 0.9]]
    labels = {"scene": "mic", "optimizer": "muon", "empty": points}
    figures = {"trainings": [labels | {"variant": name} for name in rays.UNTIL]}
    text = rays._empty(figures)
    assert [line.split(" | ")[2:4] for line in text.splitlines() if line.startswith("| mic")] == [
        ["method", "20"],
        ["throughout", "20"],
        ["throughout", "100"],
    ]
    figures["trainings"] = [labels | {"variant": rays.METHOD, "empty": points[1:]}]
    assert rays._empty(figures) == ""
