"""What every way to save time does to the result: error of a step's gradient, and PSNR after a short training."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from iga_nerfstudio.adjustment.adjuster import KernelMethod
from iga_nerfstudio.data.images import read_image
from iga_nerfstudio.networks import CoordinateMLP, NetworkConfig
from iga_nerfstudio.networks.builder import NetworkKind
from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig, ScheduleConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig, ImageTask
from iga_nerfstudio.tasks.setup import build_adjuster
from iga_nerfstudio.tasks.trainer import Trainer

# Points per chunk of the option that takes a step in chunks.
CHUNK = 2048
# Relative change of the initial weights in the row that shows what rounding alone does to a training.
PERTURBATION = 1e-7

OptionName = Literal[
    "slow",
    "rounding",
    "layerwise",
    "subspace",
    "chunks",
    "compile",
    "bfloat16",
    "previous_residual",
    "refresh_2",
    "refresh_5",
]


@dataclass(frozen=True)
class Option:
    """One way to compute a step.

    Attributes:
        adjustment: What it changes in the adjustment.
        machine: What it changes in the machine's settings.
        kernel: How the kernel is computed.
        same_gradient: Whether it computes the same gradient as the slow way, up to rounding.
        perturbation: Relative change of the initial weights.
    """

    adjustment: dict[str, Any]
    machine: dict[str, Any]
    kernel: KernelMethod = "layerwise"
    same_gradient: bool = True
    perturbation: float = 0.0


_DENSE = {"eigen_method": "dense"}
OPTIONS: dict[OptionName, Option] = {
    "slow": Option(_DENSE, {}, kernel="per_sample"),
    "rounding": Option(_DENSE, {}, kernel="per_sample", same_gradient=False, perturbation=PERTURBATION),
    "layerwise": Option(_DENSE, {}),
    "subspace": Option({"eigen_method": "subspace"}, {}),
    "chunks": Option(_DENSE, {"points_per_chunk": CHUNK}),
    "compile": Option(_DENSE, {"compile": True}),
    "bfloat16": Option(_DENSE, {"mixed_precision": True}),
    "previous_residual": Option({"representative": "previous_residual"}, {}, same_gradient=False),
    "refresh_2": Option({"refresh_interval": 2}, {}, same_gradient=False),
    "refresh_5": Option({"refresh_interval": 5}, {}, same_gradient=False),
}


@dataclass(frozen=True)
class OptionsSize:
    """What all trainings share."""

    max_side: int
    hidden_dim: int
    num_iterations: int
    optimizer: Literal["adam", "muon"]
    seeds: tuple[int, ...]
    device: Literal["cpu", "cuda"]


def measure_options(
    image: Path,
    networks: tuple[NetworkKind, ...],
    options: tuple[OptionName, ...],
    size: OptionsSize,
    tell: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Compare every option with the slow way: per-sample kernel, full eigendecomposition, everything at once.

    Args:
        image: The image to fit.
        networks: Networks to train.
        options: What to measure besides the slow way.
        size: What all trainings share.
        tell: Told about every finished option.

    Returns:
        For each network and option the relative error of the gradient of the first step, and of one after the slow
        training, against float64 throughout (None where the option computes another gradient on purpose), the final
        PSNR of every seed, and how far that is from the slow way's.

    Raises:
        ValueError: If there is no network or no seed, or the image cannot be used.
    """
    if not networks or not size.seeds:
        raise ValueError("Name at least one network and one seed.")
    pixels = read_image(image, max_side=size.max_side)
    measured = []
    for network in networks:
        slow: tuple[OptionName, ...] = ("slow",)
        rows = [_measure(network, option, pixels, size) for option in slow + tuple(o for o in options if o not in slow)]
        trained = rows[0].pop("weights")
        for row in rows:
            row.pop("weights", None)
            row["psnr_differences"] = [ours - theirs for ours, theirs in zip(row["psnr"], rows[0]["psnr"], strict=True)]
            row["mean_psnr_difference"] = statistics.mean(row["psnr_differences"])
            row["gradient_errors"] = _gradient_errors(network, row["option"], pixels, size, trained)
            tell(f"{network} {row['option']}: {row['mean_psnr_difference']:+.3f} dB, errors {row['gradient_errors']}")
        measured += rows
    return {
        "image": image.stem,
        "max_side": size.max_side,
        "hidden_dim": size.hidden_dim,
        "num_iterations": size.num_iterations,
        "optimizer": size.optimizer,
        "seeds": list(size.seeds),
        "device": size.device,
        "options": measured,
    }


def _task(network: NetworkKind, option: OptionName, pixels: Any, size: OptionsSize, seed: int) -> ImageTask:
    chosen = OPTIONS[option]
    config = ImageConfig(
        max_num_iterations=size.num_iterations,
        steps_per_eval=size.num_iterations,
        network=NetworkConfig(network, size.hidden_dim),
        adjustment=replace(TaskAdjustmentConfig(end=20), **chosen.adjustment),
        optimizer=OptimizerConfig(size.optimizer),
        schedule=ScheduleConfig("step"),
        machine=replace(MachineConfig(seed, size.device), **chosen.machine),
    )
    return ImageTask(config, pixels)


def _trainer(task: ImageTask, option: OptionName) -> Trainer:
    trainer = task.trainer()
    trainer.adjuster.kernel = OPTIONS[option].kernel
    return trainer


def _measure(network: NetworkKind, option: OptionName, pixels: Any, size: OptionsSize) -> dict[str, Any]:
    """Train with one option, once per seed."""
    psnr, weights = [], {}
    for seed in size.seeds:
        task = _task(network, option, pixels, size, seed)
        trainer = _trainer(task, option)
        with torch.no_grad():
            for parameter in trainer.network.parameters():
                parameter.mul_(1 + OPTIONS[option].perturbation)
        trainer.train()
        psnr.append(task.evaluate(trainer.network)["psnr"])
        weights = trainer.network.state_dict()
    return {"network": network, "option": option, "psnr": psnr, "weights": weights}


def _gradient_errors(
    network: NetworkKind, option: OptionName, pixels: Any, size: OptionsSize, trained: dict[str, Tensor]
) -> list[float] | None:
    """Relative errors of an option's gradient at initialisation and at trained weights, against float64."""
    if not OPTIONS[option].same_gradient:
        return None
    errors = []
    for weights in (None, trained):
        task = _task(network, option, pixels, size, size.seeds[-1])
        trainer = _trainer(task, option)
        if weights is not None:
            trainer.network.load_state_dict(weights)
        exact = _exact_gradient(task, trainer.network)
        trainer.step()  # gradients are left in place until the next one
        error = _gradient(trainer.network) - exact
        errors.append((error.norm() / exact.norm()).item())
    return errors


def _exact_gradient(task: ImageTask, network: CoordinateMLP) -> Tensor:
    """Paper Eq. 4 in float64 by per-sample Jacobians and a full eigendecomposition, all points at once."""
    double = copy.deepcopy(network).double()
    adjuster = build_adjuster(task.config, double, task.grouping, task.batches.num_groups)
    adjuster.kernel, adjuster.eigen_method = "per_sample", "dense"
    batch = task.batches.next()
    inputs, target = batch.inputs.double(), batch.target.double()
    prediction = double(inputs)
    mse_loss(adjuster(prediction, inputs, target), target).backward()
    return _gradient(double)


def _gradient(network: CoordinateMLP) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).double()
