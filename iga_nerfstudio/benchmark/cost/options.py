"""What every way to save time does to the result: error of a step's gradient, and PSNR after a short training."""

from __future__ import annotations

import copy
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from iga_nerfstudio.adjustment import InductiveGradientAdjuster
from iga_nerfstudio.benchmark.cost.timing import on
from iga_nerfstudio.benchmark.study import Figures, Study, Train
from iga_nerfstudio.benchmark.tables import table
from iga_nerfstudio.devices import default_device
from iga_nerfstudio.networks import CoordinateMLP, NetworkConfig
from iga_nerfstudio.networks.builder import NetworkKind
from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig, ScheduleConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig, ImageTask, load_image_task
from iga_nerfstudio.tasks.setup import build_adjuster
from iga_nerfstudio.tasks.trainer import Trainer

_DENSE = {"eigen_method": "dense"}
# What each changes in the settings of adjustment and machine. The first two have the per-sample kernel.
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "slow": (_DENSE, {}),
    "rounding": (_DENSE, {}),
    "layerwise": (_DENSE, {}),
    "subspace": ({"eigen_method": "subspace"}, {}),
    "chunks": (_DENSE, {"points_per_chunk": 2048}),
    "compile": (_DENSE, {"compile": True}),
    "bfloat16": (_DENSE, {"mixed_precision": True}),
    "previous_residual": ({"representative": "previous_residual"}, {}),
    "refresh_2": ({"refresh_interval": 2}, {}),
    "refresh_5": ({"refresh_interval": 5}, {}),
}
# Those that do not compute the slow way's gradient, rounding apart.
OTHERS = ("rounding", "previous_residual", "refresh_2", "refresh_5")


@dataclass(frozen=True)
class Options(Study):
    """What every way to save time does to the result: gradient against float64, PSNR against the slow way."""

    name: ClassVar[str] = "options"

    data: Path  # The image to fit.
    networks: tuple[NetworkKind, ...] = ("pe", "siren")  # Networks to train.
    # What to measure beside the slow way: per-sample kernel, full eigendecomposition, everything at once.
    options: tuple[str, ...] = tuple(OPTIONS)
    max_side: int = 96  # Shrink the image to that many pixels.
    hidden_dim: int = 64  # Width of the networks.
    max_num_iterations: int = 300  # Training steps.
    optimizer: Literal["adam", "muon"] = "adam"  # Optimiser of all.
    seeds: tuple[int, ...] = (42, 43, 44)  # One training per seed and option.
    device: Literal["cpu", "cuda"] | None = None  # Where to train; the GPU where there is one if not given.

    def measure(self, train: Train) -> Figures:
        if not self.networks or not self.seeds:
            raise ValueError("Name at least one network and one seed.")
        unknown = set(self.options) - set(OPTIONS)
        if unknown:
            raise ValueError(f"There is no option {', '.join(sorted(unknown))}; there are {', '.join(OPTIONS)}.")
        rows = [row for network in self.networks for row in self.compare(network)]
        return {"device": self.device or default_device(), "options": rows}

    def compare(self, network: NetworkKind) -> list[Figures]:
        """Train with every option; PSNR of every seed, what it has more than the slow way's, and relative errors of the
        gradient at the first step and at the weights of the slow training, None where it is another on purpose."""
        rows: list[Figures] = []
        slow: dict[str, Tensor] = {}
        for option in dict.fromkeys(("slow", *self.options)):
            psnr, weights = self.fit(network, option)
            slow = slow or weights
            same = option not in OTHERS
            errors = [self.gradient_error(network, option, at) for at in ({}, slow)] if same else None
            rows.append({"network": network, "option": option, "psnr": psnr})
            differences = [ours - theirs for ours, theirs in zip(psnr, rows[0]["psnr"], strict=True)]
            mean = statistics.mean(differences)
            rows[-1] |= {"psnr_differences": differences, "mean_psnr_difference": mean, "gradient_errors": errors}
            print(f"{network} {option}: {mean:+.3f} dB, errors {errors}")
        return rows

    def fit(self, network: NetworkKind, option: str) -> tuple[list[float], dict[str, Tensor]]:
        """Train once per seed; PSNR of each, and the weights of the last."""
        psnr = []
        for seed in self.seeds:
            task, trainer = self.prepared(network, option, seed)
            if option == "rounding":  # what that alone does to a training
                with torch.no_grad():
                    for parameter in trainer.network.parameters():
                        parameter.mul_(1 + 1e-7)
            trainer.train()
            psnr.append(task.evaluate(trainer.network)["psnr"])
        return psnr, trainer.network.state_dict()

    def gradient_error(self, network: NetworkKind, option: str, weights: dict[str, Tensor]) -> float:
        """Relative error of an option's gradient against float64, at some weights or, without, the initial ones."""
        task, trainer = self.prepared(network, option, self.seeds[-1])
        trainer.network.load_state_dict(weights, strict=bool(weights))
        exact = _exact_gradient(task, trainer.network)
        trainer.step()  # gradients are left in place until the next one
        return ((_gradient(trainer.network) - exact).norm() / exact.norm()).item()

    def prepared(self, network: NetworkKind, option: str, seed: int) -> tuple[ImageTask, Trainer]:
        """A training before its first step."""
        adjustment, machine = OPTIONS[option]
        config = ImageConfig(
            data=self.data,
            max_side=self.max_side,
            grouping="patches",
            max_num_iterations=self.max_num_iterations,
            steps_per_eval=self.max_num_iterations,
            network=NetworkConfig(network, self.hidden_dim),
            adjustment=TaskAdjustmentConfig(end=20, **adjustment),
            optimizer=OptimizerConfig(self.optimizer),
            schedule=ScheduleConfig("step"),
            machine=MachineConfig(seed, self.device or "auto", **machine),
        )
        task = load_image_task(config)
        trainer = task.trainer()
        if option in ("slow", "rounding"):
            cast(InductiveGradientAdjuster, trainer.adjuster).kernel = "per_sample"
        return task, trainer

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        rows = []
        for row in figures["options"]:
            errors = [f"{error:.1e}" for error in row["gradient_errors"] or ()] or ["", ""]
            psnr = [f"{statistics.mean(row['psnr']):.2f}", f"{row['mean_psnr_difference']:+.3f}"]
            each = ", ".join(f"{difference:+.2f}" for difference in row["psnr_differences"])
            rows.append([row["network"], row["option"], *errors, *psnr, each])
        head = ("network", "option", "gradient error, first step", "trained", "PSNR", "against slow", "of each seed")
        return f"""## What saving time does to the result, {on(figures)}

{Path(figures["data"]).stem} at {figures["max_side"]} pixels, 3 x {figures["hidden_dim"]}, \
{figures["max_num_iterations"]} steps of {figures["optimizer"]}, seeds {", ".join(map(str, figures["seeds"]))}. \
Errors of the gradient are relative, against float64 throughout, at the first step and after a training; none where \
the option computes another gradient on purpose. *slow* is the per-sample kernel, a full eigendecomposition and all \
points at once; *rounding* the same from weights that differ by 1e-7.

{table(head, rows)}"""


def _exact_gradient(task: ImageTask, network: CoordinateMLP) -> Tensor:
    """Paper Eq. 4 in float64 by per-sample Jacobians and a full eigendecomposition, all points at once."""
    double = copy.deepcopy(network).double()
    batch = task.batches.next()
    adjuster = build_adjuster(task.config, double, batch.grouping, task.batches)
    adjuster.kernel, adjuster.eigen_method = "per_sample", "dense"
    inputs, target = batch.inputs.double(), batch.target.double()
    mse_loss(adjuster(double(inputs), inputs, target), target).backward()
    return _gradient(double)


def _gradient(network: CoordinateMLP) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).double()
