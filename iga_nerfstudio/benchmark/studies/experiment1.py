"""The paper's first experiment: a two-layer network under no adjustment, that of the NTK, of the eNTK, and IGA."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from iga_nerfstudio.adjustment import (
    InductiveGradientAdjuster,
    Intervals,
    SpectralTransform,
    layerwise_entk,
    leading_eigenpairs,
    sum_of_logits,
)
from iga_nerfstudio.benchmark.record import finished
from iga_nerfstudio.benchmark.sweep import Outcome, Training, train_all
from iga_nerfstudio.data.sines import PAPER_SIGNALS, sum_of_sines
from iga_nerfstudio.evaluation.spectra import relative_dft_error
from iga_nerfstudio.networks.two_layer import TwoLayerReLU, two_layer_ntk

# The identity, S of the NTK, S~ of the eNTK of all inputs, and S~_e of one input per group.
Adjustment = Literal["plain", "ntk", "entk", "iga"]

LEARNING_RATE = 0.1
GROUP_SIZE = 8
FREQUENCIES = PAPER_SIGNALS["experiment1"].frequencies


@dataclass(frozen=True)
class Experiment1Size:
    """How large the experiment is.

    Attributes:
        widths: Neurons of the network.
        ends: Last balanced eigenvalues.
        seeds: One training of each per seed.
        num_inputs: Points on the circle, N; in groups of 8 for IGA.
        num_iterations: Training steps.
        refresh_interval: The eNTK is computed every that many steps.
        curve_points: How often loss and DFT errors are written down.
    """

    widths: tuple[int, ...]
    ends: tuple[int, ...]
    seeds: tuple[int, ...]
    num_inputs: int = 1024
    num_iterations: int = 20_000
    refresh_interval: int = 1
    curve_points: int = 100


SIZES = {
    "smoke": Experiment1Size((64, 1024), (6,), (0,), 128, 60, 5, 6),
    "cpu": Experiment1Size((1024, 2048, 4096), (10, 14), (0, 1, 2), num_iterations=1000, refresh_interval=5),
    "full": Experiment1Size((1024, 2048, 4096, 8192), (10, 12, 14), tuple(range(10))),
}


def measure_experiment1(
    size: Experiment1Size, runs: Path, jobs: int, tell: Callable[[str], None] = print
) -> dict[str, Any]:
    """Train every width under every adjustment, and compare kernels.

    Args:
        size: How large the experiment is.
        runs: Folder of finished trainings; those in it are not repeated.
        jobs: Trainings at once, one thread each.
        tell: Told about every finished training.

    Returns:
        The trainings' curves, and for every width how far the eNTK's eigenvalues and eigenvectors are from the NTK's
        and the losses under both, and under IGA, from each other.
    """
    cases: list[tuple[int, Adjustment, int, int]] = []
    adjusted: tuple[Adjustment, ...] = ("ntk", "entk", "iga")
    for seed in size.seeds:
        for width in size.widths:
            cases.append((width, "plain", 0, seed))
            cases += [(width, name, end, seed) for end in size.ends for name in adjusted]
    same = {
        "num_inputs": size.num_inputs,
        "num_iterations": size.num_iterations,
        "refresh_interval": size.refresh_interval,
        "curve_points": size.curve_points,
        "group_size": GROUP_SIZE,
        "learning_rate": LEARNING_RATE,
        "frequencies": FREQUENCIES,
    }
    trainings = []
    for width, name, end, seed in cases:
        labels = {"width": width, "adjustment": name, "end": end, "seed": seed}
        trainings.append(Training(labels, _train, labels | same, figure="mse"))
    records = train_all(trainings, runs, jobs, tell)
    found = finished(records)
    return {
        **asdict(size),
        "group_size": GROUP_SIZE,
        "learning_rate": LEARNING_RATE,
        "frequencies": list(FREQUENCIES),
        "trainings": records,
        "kernels": [_kernel_differences(width, size) for width in size.widths],
        "losses": [_loss_differences(width, end, found) for end in size.ends for width in size.widths],
    }


def circle(num_inputs: int) -> tuple[Tensor, Tensor, float]:
    """Points evenly on the unit circle ``(N, 2)``, the function's values there ``(N, 1)``, samples per unit angle."""
    wave = sum_of_sines(FREQUENCIES, num_samples=num_inputs, domain=(0.0, 2 * math.pi))
    angle = torch.from_numpy(wave.axis)
    points = torch.stack([angle.cos(), angle.sin()], dim=-1)
    return points.float(), torch.from_numpy(wave.values).float(), wave.sample_rate


def _train(settings: dict[str, Any]) -> Outcome:
    """Gradient descent on the mean squared error; its curve."""
    x, y, sample_rate = circle(settings["num_inputs"])
    network = _network(settings["width"], settings["seed"])
    optimizer = torch.optim.SGD(network.parameters(), lr=settings["learning_rate"])
    adjust = _adjustment(network, x, settings)
    steps, frequencies = settings["num_iterations"], settings["frequencies"]
    between = max(steps // settings["curve_points"], 1)
    curve = []
    for step in range(steps + 1):
        prediction = network(x)
        if step % between == 0 or step == steps:
            errors = relative_dft_error(prediction[:, 0].detach(), y[:, 0], frequencies, sample_rate)
            curve.append({"step": step, "mse": mse_loss(prediction, y).item(), "errors": list(errors.values())})
        if step < steps:
            optimizer.zero_grad()
            mse_loss(adjust(prediction), y).backward()
            optimizer.step()
    return {"mse": curve[-1]["mse"], "curve": curve}


def _network(width: int, seed: int) -> TwoLayerReLU:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TwoLayerReLU(width)


def _adjustment(network: TwoLayerReLU, x: Tensor, settings: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """What stands between prediction and loss."""
    name, end = settings["adjustment"], settings["end"]
    if name == "plain":
        return lambda prediction: prediction
    if name == "ntk":
        # It does not change: its transform is computed once.
        pairs = leading_eigenpairs(two_layer_ntk(x.double()), end, "dense")
        values, vectors = (part.float() for part in pairs)
        return partial(_rebalance, SpectralTransform.from_eigenpairs(values, vectors, end=end, rule="sgd"))
    adjuster = InductiveGradientAdjuster(
        network,
        Intervals(len(x), settings["group_size"] if name == "iga" else 1),
        end,
        rule="sgd",
        representative="middle",
        refresh_interval=settings["refresh_interval"],
    )
    return lambda prediction: adjuster(prediction, x)


def _rebalance(transform: SpectralTransform, prediction: Tensor) -> Tensor:
    """A prediction whose gradient goes through a fixed transform."""
    prediction.register_hook(transform.apply)
    return prediction


def _kernel_differences(width: int, size: Experiment1Size) -> dict[str, Any]:
    """How far a new network's eNTK is from the NTK (Theorem 3.1), means over seeds.

    Eigenvalues of both kernels come in close pairs, whose eigenvectors are any two of a plane: what is compared is the
    space that the first k span, by the Frobenius distance of the projectors, between 0 and 1.
    """
    x, _, _ = circle(size.num_inputs)
    x = x.double()
    # Odd: the constant and whole pairs.
    count = 2 * (max(size.ends) // 2) + 1
    values, vectors = leading_eigenpairs(two_layer_ntk(x), count, "dense")
    rows = []
    for seed in size.seeds:
        kernel = layerwise_entk(_network(width, seed).double(), (x,), sum_of_logits)
        found_values, found_vectors = leading_eigenpairs(kernel, count, "dense")
        overlap = (vectors.T @ found_vectors).square().sum().item()
        rows.append(
            {
                "eigenvalues": ((found_values - values).abs() / values).mean().item(),
                "eigenvectors": math.sqrt(max(1 - overlap / count, 0.0)),
            }
        )
    return {"width": width, "count": count} | {
        name: statistics.mean(row[name] for row in rows) for name in ("eigenvalues", "eigenvectors")
    }


def _loss_differences(width: int, end: int, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean distance of two loss curves in decades, over steps and seeds."""

    def curves(adjustment: Adjustment) -> list[list[float]]:
        key = (width, adjustment, end)
        runs = [run for run in outcomes if (run["width"], run["adjustment"], run["end"]) == key]
        return [[math.log10(point["mse"]) for point in run["curve"]] for run in runs]

    def distance(first: Adjustment, second: Adjustment) -> float:
        pairs = zip(curves(first), curves(second), strict=True)
        return statistics.mean(abs(a - b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True))

    return {
        "width": width,
        "end": end,
        "ntk_entk": distance("ntk", "entk"),
        "entk_iga": distance("entk", "iga"),
        "ntk_iga": distance("ntk", "iga"),
    }
