"""The study of rays: what is trained and how it is compared, on a tiny scene."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from iga_nerfstudio.benchmark.curves import mean_curve, steps_to_quality
from iga_nerfstudio.benchmark.studies.nerf_training import NerfTraining
from iga_nerfstudio.benchmark.studies.rays import RaysSize, Setting, _summary, configure, measure_rays
from iga_nerfstudio.benchmark.rays_page import rays_table
from iga_nerfstudio.benchmark.rays_variants import EXPLANATIONS, RATES, VARIANTS, VariantName
from iga_nerfstudio.benchmark.record import write_result
from iga_nerfstudio.benchmark.report import write_report
from tests.benchmark.test_cost import MUON

SIZE = RaysSize(
    downscale_factor=1, test_skip=2, num_rays=64, num_layers=3, hidden_dim=16, num_iterations=6, curve_points=2
)


def test_trainings_are_run_once_compared_and_reported(scene: Path, tmp_path: Path) -> None:
    told: list[str] = []

    def measure() -> dict[str, Any]:
        return measure_rays(scene, ("visible",), ("adam",), (1, 2), SIZE, 1, tmp_path / "runs", 1, told.append)

    figures = measure()
    # Two variants and two seeds at one rate; plain alone of what is trained at two others on the first seed.
    assert len(figures["trainings"]) == len(told) == 6
    assert {run["lr"] for run in figures["trainings"] if run["seed"] == 2} == {RATES["adam"][0]}
    plain, visible = figures["summaries"]
    assert (plain["variant"], plain["mean_gain"], plain["step_cost"]) == ("plain", 0.0, 1.0)
    assert visible["variant"] == "visible"
    assert visible["gains"][0] != visible["gains"][1]
    assert [point["step"] for point in figures["trainings"][0]["curve"]] == [3, 6]
    assert len(figures["trainings"][0]["psnr_of_views"]) == 2
    again = measure()
    assert len(told) == 6
    assert again["trainings"] == figures["trainings"]

    results = tmp_path / "results"
    write_result(results / "rays.json", figures)
    write_result(results / "muon_step.json", json.loads(MUON))
    write_report(results, tmp_path / "docs")
    page = (tmp_path / "docs" / "results" / "rays.md").read_text()
    assert rays_table(figures) in page
    assert f"- visible: {EXPLANATIONS['visible']}." in page
    assert "](rays_gains.png)" in page
    assert (tmp_path / "docs" / "results" / "rays_gains.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_trains_the_same(scene: Path) -> None:
    def views(variant: VariantName, seed: int) -> list[float]:
        training = NerfTraining(configure(scene, Setting(variant, "muon", 2e-2, seed), SIZE), "cpu", seed)
        for _ in range(3):
            training.step()
        return training.psnr_of_views()

    assert views("heaviest", 0) == views("heaviest", 0)
    assert views("heaviest", 0) != views("heaviest", 1)
    assert views("heaviest", 0) != views("plain", 0)


@pytest.mark.parametrize("variant", get_args(VariantName))
def test_every_variant_adjusts_as_it_says(variant: VariantName, scene: Path) -> None:
    size = replace(SIZE, num_rays=128)
    config: Any = configure(scene, Setting(variant, "adam", 3e-3, 0), size)
    for name, value in VARIANTS[variant].items():
        assert getattr(config.pipeline.model.adjustment, name) == value
    training = NerfTraining(config, "cpu", 0)
    training.step()
    diagnostics = training.pipeline.model.adjuster.diagnostics
    assert diagnostics.adjusted == (variant != "plain")
    assert diagnostics.steps_unadjusted == 0
    # The exact kernel of a ray is through as many samples as there are.
    if variant == "rays":
        model = training.pipeline.model
        assert VARIANTS["rays"]["num_representatives"] == model.adjuster.grouping.group_size


def test_quality_is_reached_between_two_points_of_the_curve() -> None:
    curve = [(100, 20.0), (200, 22.0), (300, 21.0), (400, 24.0)]
    assert steps_to_quality(curve, 19.0) == 100
    assert steps_to_quality(curve, 21.5) == 175
    assert steps_to_quality(curve, 23.0) == pytest.approx(366.667, abs=1e-3)
    assert steps_to_quality(curve, 25.0) is None


def test_summaries_pair_seeds_and_average_curves() -> None:
    def run(variant: str, seed: int, lr: float, first: float, last: float) -> dict[str, Any]:
        curve = [{"step": 50, "psnr": first}, {"step": 100, "psnr": last}]
        own = {"variant": variant, "optimizer": "adam", "lr": lr, "seed": seed, "psnr": last, "median_psnr": last + 1}
        return own | {"curve": curve}

    rate = RATES["adam"][0]
    outcomes = [
        run("plain", 0, rate, 10.0, 20.0),
        run("heaviest", 0, rate, 18.0, 21.0),
        run("plain", 1, rate, 12.0, 22.0),
        run("heaviest", 1, rate, 20.0, 25.0),
        run("plain", 0, 2 * rate, 0.0, 0.0),
    ]
    assert mean_curve([outcomes[0], outcomes[2]]) == [(50, 11.0), (100, 21.0)]
    summary = _summary("heaviest", "adam", outcomes, {"plain": 1.0, "heaviest": 1.5})
    assert summary["gains"] == [1.0, 3.0]
    assert (summary["mean_gain"], summary["psnr"], summary["mean_gain_of_median_view"]) == (2.0, 23.0, 2.0)
    # The mean curve goes from 19 to 23 and passes plain's 21 in the middle.
    assert summary["steps_to_quality"] == pytest.approx(0.75)
    assert summary["seconds_to_quality"] == pytest.approx(0.75 * 1.5)


@pytest.mark.parametrize(("seeds", "optimizers"), [((), ("adam",)), ((1,), ())])
def test_nothing_to_train_is_refused(seeds: Any, optimizers: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one seed and one optimizer"):
        measure_rays(tmp_path, ("heaviest",), optimizers, seeds, SIZE, 1, tmp_path, 1)
