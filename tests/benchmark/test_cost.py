"""The cost measurements: what they time, what they count, and their sections."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from iga_nerfstudio.benchmark.cost.kernel import Kernel
from iga_nerfstudio.benchmark.cost.options import Options
from iga_nerfstudio.benchmark.cost.paper_cost import paper_cost
from iga_nerfstudio.benchmark.cost.scaling import Scaling
from iga_nerfstudio.benchmark.cost.step import Step, measure_floor
from iga_nerfstudio.benchmark.cost.timing import median_ratio, peak_memory, time_alternately
from iga_nerfstudio.benchmark.cost.viewer import Viewer
from iga_nerfstudio.benchmark.cost.workloads import BUILDERS, _image_along_axes
from iga_nerfstudio.benchmark.study import Study


def measured(study: Study) -> dict[str, Any]:
    """Settings and figures, as the command has them."""
    return study.settings() | study.measure(lambda _trainings: [])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other measure what else the machine does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_kernel_is_exact_and_fast() -> None:
    figures = measured(Kernel(num_samples=64, device="cpu", seed=1))
    assert figures["relative_error"]["float64"] < 1e-10
    assert figures["relative_error"]["float32"] < 1e-5
    assert figures["speedup"] > 5
    assert f"n = 64 points.\n\n|  | layerwise | per-sample |\n{'| --- ' * 3}|" in Kernel.section(figures, "kernel")


def test_calls_alternate_and_ratios_are_those_of_rounds() -> None:
    order = []
    functions = {"a": lambda: order.append("a"), "b": lambda: (order.append("b"), time.sleep(0.01))}
    seconds = time_alternately(functions, rounds=3, warmup=1)
    assert order == ["a", "b"] * 4
    assert [len(values) for values in seconds.values()] == [3, 3]
    assert min(seconds["b"]) >= 0.01
    assert median_ratio([1.0, 8.0, 3.0], [1.0, 2.0, 1.0]) == 3.0
    with pytest.raises(ValueError, match="at least one round"):
        time_alternately(functions, rounds=0)


def test_fast_options_have_the_slow_ones_gradient(tmp_path: Path) -> None:
    stripes = np.indices((40, 40)).sum(0) % 7 * 40
    Image.fromarray(stripes.astype(np.uint8)).save(tmp_path / "stripes.png")
    names = ("rounding", "layerwise", "subspace", "chunks", "bfloat16", "refresh_5")
    figures = measured(Options(tmp_path / "stripes.png", ("pe",), names, 40, 16, 30, "adam", (1, 2)))
    rows = {row["option"]: row for row in figures["options"]}
    assert set(rows) == {"slow", *names}
    for name in ("slow", "layerwise", "subspace", "chunks"):
        assert max(rows[name]["gradient_errors"]) < 1e-3
        assert abs(rows[name]["mean_psnr_difference"]) < 0.1
    assert min(rows["bfloat16"]["gradient_errors"]) > 1e-3  # so a difference is seen where there is one
    assert rows["refresh_5"]["gradient_errors"] is None
    assert max(map(abs, rows["refresh_5"]["psnr_differences"])) > max(map(abs, rows["layerwise"]["psnr_differences"]))
    assert rows["slow"]["psnr_differences"] == [0.0, 0.0]
    assert len(set(rows["slow"]["psnr"])) == 2
    section = Options.section(figures, "options")
    assert "stripes at 40 pixels, 3 x 16, 30 steps of adam, seeds 1, 2." in section
    assert f"| pe | layerwise | {rows['layerwise']['gradient_errors'][0]:.1e} |" in section


@pytest.mark.parametrize(
    ("study", "message"),
    [
        (Options(Path("a.png"), ()), "at least one network"),
        (Options(Path("a.png"), options=("fast",)), "no option fast; there are slow"),
        (Step(workloads=(), device="cpu"), "Name at least one workload"),
        (Step(workloads=("image",), device="cpu"), r"got \('image',\)"),
        (Scaling(sizes=(5,), end=5, device="cpu"), "at least 6 for end=5"),
        (Viewer(windows=0), "windows of some seconds, got 0 of 20"),
    ],
)
def test_wrong_settings_are_refused(study: Study, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measured(study)


def test_steps_are_timed_with_their_parts_and_against_the_jacobian_route() -> None:
    study = Step(workloads=("signal-p8",), rounds=2, device="cpu")
    figures = measured(study)
    (step,) = figures["workloads"]
    assert (step["num_groups"], step["num_points"], step["end"]) == (256, [2048], 7)
    assert step["steps_unadjusted"] == 0
    assert step["rounds"] > 2  # steps of milliseconds are repeated
    assert set(step["part_seconds"]) == {"representatives", "kernel", "eigenpairs", "apply"}
    assert 0 < step["adjustment_seconds"] < step["median_seconds"]["adjusted"]
    assert step["ratio"] > 1
    assert step["reference_over_adjustment"] > 3
    assert step["floor"]["plain_over_products"] > 0.5  # 1 and more where nothing disturbs
    assert "## Steps on a CPU" in study.section(figures, "step")
    assert f"**{step['ratio']:.3f}**" in study.section(figures, "step")


def test_along_axes_all_of_them_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILDERS, "small", partial(_image_along_axes, 24, 36))
    (step,) = measured(Step(workloads=("small",), rounds=2, device="cpu"))["workloads"]
    assert (step["num_groups"], step["num_points"]) == (24 + 36, [24 * 36])
    assert min(step["part_seconds"].values()) > 0
    assert step["reference_over_adjustment"] > 1


def test_peak_memory_is_what_is_held_at_once() -> None:
    def function() -> None:
        first = torch.zeros(1000, 250)  # a million bytes
        second = first + 1
        del first
        third = second * 2
        del second, third

    assert 2e6 <= peak_memory(function, "cpu") < 2.1e6


def test_floor_counts_products() -> None:
    network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    floor = measure_floor([(network, 10)], 1.0, "cpu")
    assert floor["flops"] == 3 * 2 * 10 * (2 * 8 + 8 * 3)
    assert floor["flops_per_second"] > 1e8
    assert floor["plain_over_products"] == pytest.approx(floor["flops_per_second"] / floor["flops"])


def test_scaling_grows_with_n(tmp_path: Path) -> None:
    figures = measured(Scaling(sizes=(64, 128), end=5, rounds=2, device="cpu"))
    small, large = figures["sizes"]
    assert (small["num_groups"], large["num_groups"]) == (64, 128)
    assert large["peak_memory_bytes"] > small["peak_memory_bytes"] >= 64 * 64 * 4
    assert 0 < large["share_of_plain_step"] < 1
    assert "](scaling_gpu.png)" in Scaling.section(figures, "scaling_gpu")
    Scaling.draw(figures, tmp_path / "scaling_gpu")
    assert (tmp_path / "scaling_gpu.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("workload", ["signal-p4", "shape-n512", "image-axes-384"])
def test_workloads_differ_in_the_adjustment_alone(workload: str) -> None:
    plain, adjusted = (BUILDERS[workload](enabled, "cpu", 3) for enabled in (False, True))
    assert not any(adjuster.active for adjuster in plain.adjusters)
    assert all(adjuster.active for adjuster in adjusted.adjusters)
    assert len(adjusted.adjusters) == (2 if workload == "image-axes-384" else 1)
    ((ours, points),), ((theirs, others),) = plain.sizes, adjusted.sizes
    assert points == others == {"signal-p4": 2048, "shape-n512": 512 * 256, "image-axes-384": 256 * 384}[workload]
    for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, yours)


def test_watching_is_told_in_medians() -> None:
    figures = {"steps_alone": [100, 200, 400], "steps_watched": [150, 20, 300], "seconds_of_a_window": 20.0}
    section = Viewer.section(figures | {"largest_frame": 128, "seconds_to_largest_frame": 2.9}, "viewer")
    assert "| 200 | 150 | **0.75** | 128 pixels, after 2.9 s |" in section
    assert "Steps in 20 s, medians of 3 " in section


def test_the_papers_cost_is_a_ratio() -> None:
    assert "| signals (1D) | 0.028 s | 965 MB | 1.57 | 1.63 x | 6.61 | 6.07 x |" in paper_cost()


def test_pages_of_costs_do_not_import_nerfstudio() -> None:
    code = "import sys; from iga_nerfstudio.benchmark.cost import kernel, options, scaling, step, viewer; "
    subprocess.run([sys.executable, "-c", f"{code} sys.exit('nerfstudio' in sys.modules)"], check=True, timeout=200)
