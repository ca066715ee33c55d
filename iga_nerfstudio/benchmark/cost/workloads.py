"""What is timed: trainings of every kind of task at the paper's sizes, advanced step by step."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from iga_nerfstudio.adjustment import InductiveGradientAdjuster
from iga_nerfstudio.data.voxels import VoxelGrid
from iga_nerfstudio.data.waveforms import Waveform
from iga_nerfstudio.networks import NetworkConfig
from iga_nerfstudio.scenes import write_demo_scene
from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig, ImageTask
from iga_nerfstudio.tasks.sdf import SDFConfig, ShapeTask
from iga_nerfstudio.tasks.signal import SignalConfig, SignalTask
from iga_nerfstudio.tasks.trainer import Trainer

Workload = Literal[
    "signal-p1",
    "signal-p4",
    "signal-p8",
    "signal-p8-refresh2",
    "image-n256",
    "image-n384",
    "image-n384-ahead",
    "image-n96",
    "image-n1536",
    "shape-n512",
    "nerf-n1024",
    "nerf-n4096",
]
Device = Literal["cpu", "cuda"]


@dataclass
class Training:
    """One network in training.

    Attributes:
        step: Takes one step.
        adjuster: Its adjuster.
        network: What is adjusted.
        sizes: Points per step of each network, the adjusted one first.
    """

    step: Callable[[], None]
    adjuster: InductiveGradientAdjuster
    network: nn.Module
    sizes: list[tuple[nn.Module, int]]


def _of(trainer: Trainer) -> Training:
    points = len(trainer.batches.next().inputs)
    return Training(trainer.step, trainer.adjuster, trainer.network, [(trainer.network, points)])


def _signal(interval_size: int, refresh_interval: int, enabled: bool, device: Device, seed: int) -> Training:
    """The paper's second experiment: 2048 samples, 4 hidden layers x 256 ReLUs, end 7."""
    values = np.random.default_rng(seed).normal(size=(2048, 1)).astype(np.float32)
    config = SignalConfig(
        interval_size=interval_size,
        network=NetworkConfig("relu", hidden_layers=4),
        adjustment=TaskAdjustmentConfig(
            enabled=enabled, end=7, representative="middle", refresh_interval=refresh_interval
        ),
        optimizer=OptimizerConfig("adam", 5e-5),
        machine=MachineConfig(seed, device),
    )
    return _of(SignalTask(config, Waveform(np.linspace(-1, 1, 2048), values.astype(np.float64), 1.0)).trainer())


def _image(
    size: tuple[int, int],
    patch_size: int,
    representative: Literal["largest_residual", "previous_residual"],
    enabled: bool,
    device: Device,
    seed: int,
) -> Training:
    """An image, 3 hidden layers x 256, PE, end 20."""
    image = np.random.default_rng(seed).random((*size, 3), dtype=np.float32)
    config = ImageConfig(
        patch_size=patch_size,
        network=NetworkConfig("pe"),
        adjustment=TaskAdjustmentConfig(enabled=enabled, end=20, representative=representative),
        optimizer=OptimizerConfig("adam", 5e-3),
        machine=MachineConfig(seed, device),
    )
    return _of(ImageTask(config, image).trainer())


def _shape(enabled: bool, device: Device, seed: int) -> Training:
    """512 random groups of 256 voxels of a ball, 3 hidden layers x 256, PE, end 7."""
    axis = np.linspace(-1, 1, 128)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    ball = (x**2 + y**2 + z**2 < 0.5).astype(np.uint8)
    config = SDFConfig(
        network=NetworkConfig("pe"),
        adjustment=TaskAdjustmentConfig(enabled=enabled, end=7, representative="middle"),
        optimizer=OptimizerConfig("adam", 2e-3),
        machine=MachineConfig(seed, device),
    )
    return _of(ShapeTask(config, VoxelGrid(ball, "occupancy", (0.0, 0.0, 0.0), 1.0)).trainer())


def _nerf(num_rays: int, enabled: bool, device: Device, seed: int) -> Training:
    """The full iga-nerf, 64 coarse and 128 fine samples a ray, end 25."""
    from iga_nerfstudio.benchmark.studies.nerf_training import (
        NerfTraining,
    )  # takes seconds, and other workloads do without
    from iga_nerfstudio.nerf.method_configs import iga_nerf

    with tempfile.TemporaryDirectory() as folder:
        scene = write_demo_scene(Path(folder) / "scene", resolution=100, num_train=4, num_val=1, num_test=1)
        config: Any = copy.deepcopy(iga_nerf.config)
        config.pipeline.datamanager.data = scene
        config.pipeline.datamanager.train_num_rays_per_batch = num_rays
        config.pipeline.datamanager.dataparser.downscale_factor = 1
        config.pipeline.model.adjustment.enabled = enabled
        training = NerfTraining(config, device, seed)
    model: Any = training.pipeline.model
    coarse = num_rays * model.config.num_coarse_samples
    fine = coarse + num_rays * model.config.num_importance_samples
    return Training(
        training.step, model.adjuster, model.adjuster.network, [(model.field_fine, fine), (model.field_coarse, coarse)]
    )


BUILDERS: dict[Workload, Callable[[bool, Device, int], Training]] = {
    "signal-p1": partial(_signal, 1, 1),
    "signal-p4": partial(_signal, 4, 1),
    "signal-p8": partial(_signal, 8, 1),
    "signal-p8-refresh2": partial(_signal, 8, 2),
    "image-n256": partial(_image, (256, 256), 16, "largest_residual"),
    "image-n384": partial(_image, (512, 768), 32, "previous_residual"),
    "image-n384-ahead": partial(_image, (512, 768), 32, "largest_residual"),
    "image-n96": partial(_image, (512, 768), 64, "previous_residual"),
    "image-n1536": partial(_image, (512, 768), 16, "previous_residual"),
    "shape-n512": _shape,
    "nerf-n1024": partial(_nerf, 1024),
    "nerf-n4096": partial(_nerf, 4096),
}
