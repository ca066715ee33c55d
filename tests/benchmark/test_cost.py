"""The cost measurements: what they time, what they count, and their page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from iga_nerfstudio.benchmark.cost_page import options_table, render_cost, scaling_table
from iga_nerfstudio.benchmark.cost.floor import activation_bytes, measure_floor, training_flops
from iga_nerfstudio.benchmark.cost.memory import peak_memory
from iga_nerfstudio.benchmark.cost.options import OptionsSize, measure_options
from iga_nerfstudio.benchmark.record import write_result
from iga_nerfstudio.benchmark.report import write_report
from iga_nerfstudio.benchmark.cost.scaling import measure_scaling
from iga_nerfstudio.benchmark.cost.step import measure_steps
from iga_nerfstudio.benchmark.cost.workloads import BUILDERS, Workload

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def steps() -> dict[str, Any]:
    """One small workload, measured whole."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other measure what else the machine does
    told: list[str] = []
    figures = measure_steps(("signal-p8",), 2, "cpu", 0, reference=True, tell=told.append)
    torch.set_num_threads(before)
    assert len(told) == 1
    return figures


@pytest.fixture(scope="module")
def scaling() -> dict[str, Any]:
    return measure_scaling((64, 128), end=5, rounds=2, device="cpu", seed=0)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("options") / "stripes.png"
    stripes = np.indices((40, 40)).sum(0) % 7 * 40
    Image.fromarray(stripes.astype(np.uint8)).save(path)
    names = ("rounding", "layerwise", "subspace", "chunks", "bfloat16", "refresh_5")
    return measure_options(
        path, ("pe",), names, OptionsSize(40, 16, 30, "adam", (1, 2), "cpu"), tell=lambda _line: None
    )


def test_fast_options_have_the_slow_ones_gradient(options: dict[str, Any]) -> None:
    rows = {row["option"]: row for row in options["options"]}
    assert set(rows) == {"slow", "rounding", "layerwise", "subspace", "chunks", "bfloat16", "refresh_5"}
    for name in ("slow", "layerwise", "subspace", "chunks"):
        assert max(rows[name]["gradient_errors"]) < 1e-3
        assert abs(rows[name]["mean_psnr_difference"]) < 0.1
    assert min(rows["bfloat16"]["gradient_errors"]) > 1e-3  # so a difference is seen where there is one
    assert rows["refresh_5"]["gradient_errors"] is None
    assert max(map(abs, rows["refresh_5"]["psnr_differences"])) > max(map(abs, rows["layerwise"]["psnr_differences"]))
    assert rows["slow"]["psnr_differences"] == [0.0, 0.0]
    assert len(set(rows["slow"]["psnr"])) == 2


def test_options_of_no_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one network"):
        measure_options(tmp_path / "a.png", (), ("layerwise",), OptionsSize(40, 16, 1, "adam", (1,), "cpu"))


def test_steps_are_timed_with_their_parts_and_against_the_jacobian_route(steps: dict[str, Any]) -> None:
    (figures,) = steps["workloads"]
    assert (figures["num_groups"], figures["num_points"], figures["end"]) == (256, [2048], 7)
    assert figures["steps_unadjusted"] == 0
    assert figures["rounds"] > 2  # steps of milliseconds are repeated
    assert set(figures["part_seconds"]) == {"representatives", "kernel", "eigenpairs", "apply"}
    assert 0 < figures["adjustment_seconds"] < figures["median_seconds"]["adjusted"]
    assert figures["ratio"] > 1
    assert figures["reference_over_adjustment"] > 3
    assert figures["floor"]["plain_over_products"] > 0.5  # 1 and more where nothing disturbs


def test_peak_memory_is_what_is_held_at_once() -> None:
    def function() -> None:
        first = torch.zeros(1000, 250)  # a million bytes
        second = first + 1
        del first
        third = second * 2
        del second, third

    assert 2e6 <= peak_memory(function, "cpu") < 2.1e6


def test_floor_counts_products_and_activations() -> None:
    network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    assert training_flops(network, 10) == 3 * 2 * 10 * (2 * 8 + 8 * 3)
    assert activation_bytes(network, 10) == 10 * (8 + 3) * 4 * 4
    floor = measure_floor(16, "cpu")
    assert floor.flops_per_second > 1e8
    assert floor.bytes_per_second > 1e8


def test_scaling_grows_with_n(scaling: dict[str, Any]) -> None:
    small, large = scaling["sizes"]
    assert (small["num_groups"], large["num_groups"]) == (64, 128)
    assert large["peak_memory_bytes"] > small["peak_memory_bytes"] >= 64 * 64 * 4
    assert 0 < large["share_of_plain_step"] < 1
    with pytest.raises(ValueError, match="at least 6 for end=5"):
        measure_scaling((5,), end=5, rounds=1, device="cpu", seed=0)


def test_no_workload_is_refused() -> None:
    with pytest.raises(ValueError, match="Name at least one workload"):
        measure_steps((), 1, "cpu", 0, reference=False)


@pytest.mark.parametrize("workload", ["signal-p4", "shape-n512"])
def test_workloads_differ_in_the_adjustment_alone(workload: Workload) -> None:
    plain, adjusted = (BUILDERS[workload](enabled, "cpu", 3) for enabled in (False, True))
    assert not plain.adjuster.active
    assert adjusted.adjuster.active
    assert plain.sizes[0][1] == adjusted.sizes[0][1]
    for ours, theirs in zip(plain.network.parameters(), adjusted.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_page_says_what_the_files_say(
    steps: dict[str, Any], scaling: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    assert render_cost(tmp_path) is None
    write_result(tmp_path / "results" / "step.json", steps)
    write_result(tmp_path / "results" / "scaling.json", scaling)
    write_result(tmp_path / "results" / "options.json", options)
    write_result(tmp_path / "results" / "muon_step.json", json.loads(MUON))
    write_report(tmp_path / "results", tmp_path / "docs")
    page = (tmp_path / "docs" / "cost.md").read_text()
    assert f"**{steps['workloads'][0]['ratio']:.3f}**" in page
    assert scaling_table(scaling) in page
    assert options_table(options) in page
    assert "| pe | layerwise |" in page
    assert "](scaling.png)" in page
    assert (tmp_path / "docs" / "scaling.png").read_bytes().startswith(b"\x89PNG")


MUON = '{"width": 2, "rounds": 1, "seed": 0, "ratio": 1.0, "median_seconds": {"float32": 1.0, "torch": 1.0}}'
