"""The paper's two experiments: what is trained, compared and reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from iga_nerfstudio.adjustment import layerwise_entk, leading_eigenpairs, sum_of_logits
from iga_nerfstudio.benchmark.studies import experiment1, experiment2
from iga_nerfstudio.benchmark.studies.experiment1 import Experiment1, circle, loss_distance
from iga_nerfstudio.benchmark.studies.experiment2 import Experiment2, coarse_groups, monotonicity
from iga_nerfstudio.benchmark.study import Figures, Study
from iga_nerfstudio.benchmark.sweep import train_all
from iga_nerfstudio.networks.two_layer import two_layer_ntk


def measured(study: Study, records: Path) -> Figures:
    return study.settings() | study.measure(lambda trainings: train_all(trainings, records, 1, lambda _: None))


def test_the_first_experiment(tmp_path: Path) -> None:
    study = experiment1.PRESETS["smoke"]
    figures = measured(study, tmp_path / "records")
    assert len(figures["trainings"]) == len(study.widths) * 4
    assert all(run["curve"][-1]["step"] == 60 for run in figures["trainings"])
    # Every adjustment is faster than none, for every width.
    for width in study.widths:
        plain, *adjusted = [run["mse"] for run in figures["trainings"] if run["width"] == width]
        assert max(adjusted) < plain
    narrow, wide = figures["kernels"]
    assert wide["eigenvalues"] < narrow["eigenvalues"]
    assert wide["eigenvectors"] < narrow["eigenvectors"]
    text = Experiment1.section(figures, "experiment1")
    assert f"| 64 | {narrow['eigenvalues']:.4f} | {narrow['eigenvectors']:.4f} |" in text
    Experiment1.draw(figures, tmp_path / "experiment1")
    for picture in ("experiment1_end6.png", "experiment1_end6_errors.png"):
        assert f"]({picture})" in text
        assert (tmp_path / picture).stat().st_size > 10_000


def test_points_and_values_are_the_papers() -> None:
    x, y, sample_rate = circle(32)
    angle = 2 * np.pi * 3 / 32
    assert np.allclose(x[3], [np.cos(angle), np.sin(angle)])
    assert y[3, 0].item() == pytest.approx(sum(np.sin(f * np.pi * angle) for f in (0.4, 0.8, 1.6, 3.2)), abs=1e-5)
    assert sample_rate == pytest.approx(32 / (2 * np.pi))


@pytest.mark.parametrize("name", ["ntk", "entk", "iga"])
def test_a_step_is_equation_4_with_its_kernel(name: str) -> None:
    """S = V diag(lambda_1 / lambda) V^T on the leading eigenvectors of each kernel, the identity elsewhere."""
    x, y, _ = circle(64)
    network = experiment1._network(32, 0)
    settings = {"adjustment": name, "end": 4, "group_size": 8, "refresh_interval": 1}
    adjust = experiment1._adjustment(network, x, settings)
    mse_loss(adjust(network(x)), y).backward()
    found = [p.grad.clone() for p in network.parameters()]

    double = experiment1._network(32, 0).double()
    points = x.double()
    group_size = 8 if name == "iga" else 1
    chosen = points[group_size // 2 :: group_size]
    kernel = two_layer_ntk(points) if name == "ntk" else layerwise_entk(double, (chosen,), sum_of_logits)
    values, vectors = leading_eigenpairs(kernel, 4, "dense")
    transform = torch.eye(len(kernel), dtype=torch.float64) + vectors @ torch.diag(values[0] / values - 1) @ vectors.T
    prediction = double(points)
    residual = 2 * (prediction - y).detach() / 64
    adjusted = (transform @ residual.reshape(len(kernel), group_size)).reshape(64, 1)
    expected = torch.autograd.grad(prediction, list(double.parameters()), adjusted)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours.double(), theirs, atol=1e-4 * float(theirs.abs().max()))


def test_distances_of_losses_are_those_of_curves_of_a_seed() -> None:
    def run(adjustment: str, seed: int, *mse: float) -> dict[str, Any]:
        labels = {"width": 8, "adjustment": adjustment, "end": 2, "seed": seed}
        return labels | {"curve": [{"mse": value} for value in mse]}

    figures = {
        "trainings": [
            run("ntk", 1, 1.0, 0.1), run("entk", 1, 1.0, 0.01), run("iga", 1, 10.0, 0.01),
            run("ntk", 2, 9.0, 9.0), run("entk", 2) | {"diverged": "NaN"},
        ]
    }  # fmt: skip
    pairs = (("ntk", "entk"), ("entk", "iga"), ("ntk", "iga"))
    assert [loss_distance(figures, 8, 2, *pair) for pair in pairs] == pytest.approx([0.5, 0.5, 1.0])


def test_the_second_experiment(tmp_path: Path) -> None:
    figures = measured(experiment2.PRESETS["smoke"], tmp_path / "records")
    assert [(run["network"], run["end"]) for run in figures["trainings"]] == [
        ("relu", 0), ("relu", 3), ("siren", 0), ("siren", 3)
    ]  # fmt: skip
    assert list(figures["trainings"][0]["errors"]) == ["5", "10", "15", "20", "25", "30"]
    assert list(figures["trainings"][2]["errors"]) == ["10", "20", "30", "40", "50", "60"]
    text = Experiment2.section(figures, "experiment2")
    last = figures["trainings"][3]["errors"]["60"]
    assert f" {last[-1]:.3f} | {figures['trainings'][3]['psnr']:.2f} | {np.mean(last):.3f} |" in text
    Experiment2.draw(figures, tmp_path / "experiment2")
    for picture in ("heat", "ends"):
        assert f"](experiment2_{picture}.png)" in text
        assert (tmp_path / f"experiment2_{picture}.png").stat().st_size > 5_000


def test_the_full_sizes_are_the_papers() -> None:
    first, second = experiment1.PRESETS["full"], experiment2.PRESETS["full"]
    assert (first.widths, first.ends, len(first.seeds)) == ((1024, 2048, 4096, 8192), (10, 12, 14), 10)
    assert (first.num_inputs, first.max_num_iterations, first.refresh_interval) == (1024, 20_000, 1)
    assert (second.ends, second.group_sizes, len(second.seeds)) == ((1, 2, 3, 4, 5, 6, 7), (1, 4, 8), 10)
    config = second.config("siren", 4, 3, 7)
    assert (config.network.hidden_dim, config.network.hidden_layers, config.num_samples) == (256, 4, 2048)
    assert (config.optimizer.lr, config.max_num_iterations, config.interval_size) == (5e-5, 10_000, 4)
    assert (config.adjustment.end, config.adjustment.enabled, config.machine.seed) == (3, True, 7)
    assert not second.config("relu", 1, 0, 0).adjustment.enabled


def test_words_say_where_the_error_does_not_fall() -> None:
    falling = [(0, 0.9), (1, 0.5), (2, 0.1)]
    words = monotonicity({4: falling}, "60", "last")
    assert words == "p = 4: the last error at 60 Hz falls with every step of end (0.900 to 0.100)."
    assert "does not fall from end 1 to 3 (" in monotonicity({4: [*falling[:2], (3, 0.6)]}, "60", "mean")


def test_groups_too_few_for_a_tone_are_named() -> None:
    """Two representatives per period are the least; the signal is two units long."""
    assert coarse_groups(2048, [1, 4, 8], "60") == ""
    assert "p = 8 leaves 128 representatives for the 120 periods of 60 Hz" in coarse_groups(1024, [1, 4, 8], "60")
    assert "p = 4" not in coarse_groups(1024, [1, 4, 8], "60")
