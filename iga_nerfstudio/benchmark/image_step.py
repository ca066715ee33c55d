"""An adjusted image training step against a plain one."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from iga_nerfstudio.benchmark.timing import median_ratio, time_alternately
from iga_nerfstudio.networks import NetworkConfig
from iga_nerfstudio.networks.builder import NetworkKind
from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig, ImageTask


def measure_image_step(
    side: int, patch_size: int, network: NetworkKind, optimizer: OptimizerConfig, rounds: int, device: str, seed: int
) -> dict[str, Any]:
    """Time plain and adjusted steps of the paper's image network (3 hidden layers x 256) alternately.

    Args:
        side: Side of a square image of noise in pixels; all of them are in every step.
        patch_size: Side of a group's patch.
        network: Architecture.
        optimizer: Optimiser of both.
        rounds: Timed rounds of one step each.
        device: ``"cpu"`` or ``"cuda"``.
        seed: Seed of network and image.

    Returns:
        Median seconds of both, the median ratio, and how many adjusted steps fell back to the plain gradient.

    Raises:
        ValueError: If the sizes do not fit.
    """
    image = np.random.default_rng(seed).random((side, side, 3), dtype=np.float32)
    trainers = {}
    for name, enabled in (("plain", False), ("adjusted", True)):
        config = ImageConfig(
            patch_size=patch_size,
            network=NetworkConfig(network),
            adjustment=TaskAdjustmentConfig(enabled=enabled),
            optimizer=optimizer,
            machine=MachineConfig(seed, "cuda" if device == "cuda" else "cpu", points_per_chunk=side * side),
        )
        trainers[name] = ImageTask(config, image).trainer()
    seconds = time_alternately({name: trainer.step for name, trainer in trainers.items()}, rounds)
    adjuster = trainers["adjusted"].adjuster
    return {
        "network": network,
        "hidden_dim": 256,
        "optimizer": optimizer.kind,
        "num_points": side * side,
        "num_groups": adjuster.grouping.num_groups(side * side),
        "end": adjuster.end,
        "rounds": rounds,
        "seed": seed,
        "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratio": median_ratio(seconds["adjusted"], seconds["plain"]),
        "steps_unadjusted": adjuster.diagnostics.steps_unadjusted,
    }
