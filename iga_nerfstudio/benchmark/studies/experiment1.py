"""The paper's first experiment: a two-layer network under no adjustment, that of the NTK, of the eNTK, and IGA."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
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
from iga_nerfstudio.benchmark.plots import draw_curves, draw_heat_maps
from iga_nerfstudio.benchmark.study import Figures, Study, Train
from iga_nerfstudio.benchmark.sweep import Outcome, Training
from iga_nerfstudio.benchmark.tables import finished, table, those
from iga_nerfstudio.data.sines import PAPER_SIGNALS, sum_of_sines
from iga_nerfstudio.evaluation.spectra import relative_dft_error
from iga_nerfstudio.networks.two_layer import TwoLayerReLU, two_layer_ntk

LEARNING_RATE = 0.1
GROUP_SIZE = 8
FREQUENCIES = PAPER_SIGNALS["experiment1"].frequencies
# The identity, S of the NTK, S~ of the eNTK of all inputs, and S~_e of one input per group.
NAMES = {"plain": "I (plain)", "ntk": "S (NTK)", "entk": "S~ (eNTK)", "iga": "S~e (IGA, p = 8)"}
# Whose losses are compared.
_PAIRS = (("ntk", "entk"), ("entk", "iga"), ("ntk", "iga"))


@dataclass(frozen=True)
class Experiment1(Study):
    """The paper's first experiment: NTK, eNTK and inductive adjustments of a two-layer network."""

    name: ClassVar[str] = "experiment1"

    widths: tuple[int, ...] = (1024, 2048, 4096, 8192)  # Neurons of the network.
    ends: tuple[int, ...] = (10, 12, 14)  # Last balanced eigenvalues.
    seeds: tuple[int, ...] = tuple(range(10))  # One training of each per seed.
    num_inputs: int = 1024  # Points on the circle, N; in groups of 8 for IGA.
    max_num_iterations: int = 20_000  # Training steps.
    refresh_interval: int = 1  # The eNTK is computed every that many steps.
    curve_points: int = 100  # How often loss and DFT errors are written down.

    def measure(self, train: Train) -> Figures:
        trainings = train(
            [
                self.training(width, adjustment, end, seed)
                for seed, width, adjustment in product(self.seeds, self.widths, NAMES)
                for end in ((0,) if adjustment == "plain" else self.ends)
            ]
        )
        return {"trainings": trainings, "kernels": [self.kernel_differences(width) for width in self.widths]}

    def training(self, width: int, adjustment: str, end: int, seed: int) -> Training:
        """One training; plain training has no end."""
        labels = {"width": width, "adjustment": adjustment, "end": end, "seed": seed}
        same = {
            "num_inputs": self.num_inputs,
            "num_iterations": self.max_num_iterations,
            "refresh_interval": self.refresh_interval,
            "curve_points": self.curve_points,
            "group_size": GROUP_SIZE,
            "learning_rate": LEARNING_RATE,
            "frequencies": FREQUENCIES,
        }
        return Training(labels, train_circle, labels | same, figure="mse")

    def kernel_differences(self, width: int) -> Figures:
        """How far a new network's eNTK is from the NTK (Theorem 3.1), means over seeds.

        Eigenvalues of both kernels come in close pairs, whose eigenvectors are any two of a plane: what is compared is
        the space that the first k span, by the Frobenius distance of the projectors, between 0 and 1.
        """
        x = circle(self.num_inputs)[0].double()
        # Odd: the constant and whole pairs.
        count = 2 * (max(self.ends) // 2) + 1
        values, vectors = leading_eigenpairs(two_layer_ntk(x), count, "dense")
        eigenvalues, eigenvectors = [], []
        for seed in self.seeds:
            kernel = layerwise_entk(_network(width, seed).double(), (x,), sum_of_logits)
            found_values, found_vectors = leading_eigenpairs(kernel, count, "dense")
            overlap = (vectors.T @ found_vectors).square().sum().item()
            eigenvalues.append(((found_values - values).abs() / values).mean().item())
            eigenvectors.append(math.sqrt(max(1 - overlap / count, 0.0)))
        return {
            "width": width,
            "count": count,
            "eigenvalues": statistics.mean(eigenvalues),
            "eigenvectors": statistics.mean(eigenvectors),
        }

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        kernels = [
            [str(row["width"]), *(f"{row[name]:.4f}" for name in ("eigenvalues", "eigenvectors"))]
            for row in figures["kernels"]
        ]
        losses = [
            [str(end), str(width), *(f"{loss_distance(figures, width, end, *pair):.4f}" for pair in _PAIRS)]
            for end, width in product(figures["ends"], figures["widths"])
        ]
        finals = [
            [str(width), str(end), *(_final(_runs(figures, width, name, end)) for name in NAMES)]
            for width, end in product(figures["widths"], figures["ends"])
        ]
        refresh = figures["refresh_interval"]
        kernel = "at every step" if refresh == 1 else f"every {refresh} steps (the paper: at every step)"
        pictures = "\n".join(
            f"![losses, end {end}]({stem}_end{end}.png)\n\n![DFT errors, end {end}]({stem}_end{end}_errors.png)\n"
            for end in figures["ends"]
        )
        return f"""## {figures["max_num_iterations"]} steps, {len(figures["seeds"])} seeds

N = {figures["num_inputs"]}, learning rate {LEARNING_RATE:g}, loss the mean squared error; eNTK computed {kernel}.

Theorem 3.1, at initialisation: how far the eNTK is from the NTK, in its first {figures["kernels"][0]["count"]} \
eigenvalues (mean relative difference) and in the space that their eigenvectors span (Frobenius distance of the \
projectors, 0 to 1).

{table(("width", "eigenvalues", "eigenvectors"), kernels)}
Theorems 3.1 and 3.2, along the training: mean distance of loss curves, in decades.

{table(("end", "width", "S and S~", "S~ and S~e", "S and S~e"), losses)}
Mean squared error after the last step, geometric mean over the seeds, and the factor of one geometric standard \
deviation.

{table(("width", "end", *NAMES.values()), finals)}
{pictures}"""

    @classmethod
    def draw(cls, figures: Figures, path: Path) -> None:
        for end in figures["ends"]:
            losses = {
                f"width {width}": {name: _mean_loss(_runs(figures, width, key, end)) for key, name in NAMES.items()}
                for width in figures["widths"]
            }
            draw_curves(losses, path.with_name(f"{path.name}_end{end}.png"), "mean squared error", scale="log")
            maps = [
                [(f"{name}, width {width}", *_errors(_runs(figures, width, key, end))) for width in figures["widths"]]
                for key, name in NAMES.items()
            ]
            draw_heat_maps(maps, path.with_name(f"{path.name}_end{end}_errors.png"))


def _runs(figures: Figures, width: int, adjustment: str, end: int) -> list[Outcome]:
    """Trainings of a kind, one per seed; plain training is that of every end."""
    end = 0 if adjustment == "plain" else end
    return finished(those(figures["trainings"], width=width, adjustment=adjustment, end=end))


def _final(runs: Sequence[Outcome]) -> str:
    """A geometric mean and standard deviation."""
    logarithms = [math.log(run["mse"]) for run in runs]
    text = f"{math.exp(statistics.mean(logarithms)):.2e}"
    return f"{text} (factor {math.exp(statistics.stdev(logarithms)):.2f})" if len(runs) > 1 else text


def loss_distance(figures: Figures, width: int, end: int, first: str, second: str) -> float:
    """Mean distance of two adjustments' loss curves in decades, over steps and the seeds that both finished."""
    curves = [
        {run["seed"]: [math.log10(point["mse"]) for point in run["curve"]] for run in _runs(figures, width, name, end)}
        for name in (first, second)
    ]
    return statistics.mean(
        abs(a - b)
        for seed in curves[0].keys() & curves[1].keys()
        for a, b in zip(curves[0][seed], curves[1][seed], strict=True)
    )


def _mean_loss(runs: Sequence[Outcome]) -> list[tuple[int, float]]:
    """Steps, and the loss at them as a geometric mean over the seeds."""
    points = zip(*(run["curve"] for run in runs), strict=True)
    return [(seeds[0]["step"], statistics.geometric_mean(point["mse"] for point in seeds)) for seeds in points]


def _errors(runs: Sequence[Outcome]) -> tuple[np.ndarray, int, tuple[float, ...]]:
    """Errors of tones over the training, means over seeds, ``(steps, tones)``; the last step and the tones."""
    errors = np.mean([[point["errors"] for point in run["curve"]] for run in runs], axis=0)
    return errors, runs[0]["curve"][-1]["step"], FREQUENCIES


def circle(num_inputs: int) -> tuple[Tensor, Tensor, float]:
    """Points evenly on the unit circle ``(N, 2)``, the function's values there ``(N, 1)``, samples per unit angle."""
    wave = sum_of_sines(FREQUENCIES, num_samples=num_inputs, domain=(0.0, 2 * math.pi))
    angle = torch.from_numpy(wave.axis)
    points = torch.stack([angle.cos(), angle.sin()], dim=-1)
    return points.float(), torch.from_numpy(wave.values).float(), wave.sample_rate


def train_circle(settings: dict[str, Any]) -> Outcome:
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
            mse = float(f"{mse_loss(prediction, y).item():.5g}")
            curve.append({"step": step, "mse": mse, "errors": [round(error, 4) for error in errors.values()]})
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
        values, vectors = leading_eigenpairs(two_layer_ntk(x.double()), end, "dense")
        transform = SpectralTransform.from_eigenpairs(values.float(), vectors.float(), end=end, rule="sgd")

        def rebalance(prediction: Tensor) -> Tensor:
            prediction.register_hook(transform.apply)
            return prediction

        return rebalance
    adjuster = InductiveGradientAdjuster(
        network,
        Intervals(len(x), settings["group_size"] if name == "iga" else 1),
        end,
        rule="sgd",
        representative="middle",
        refresh_interval=settings["refresh_interval"],
    )
    return lambda prediction: adjuster(prediction, x)


PRESETS = {
    "smoke": Experiment1((64, 1024), (6,), (0,), 128, 60, 5, 6),
    "cpu": Experiment1((1024, 2048, 4096), (10, 14), (0, 1, 2), max_num_iterations=1000, refresh_interval=5),
    "full": Experiment1(),
}
