"""What is timed: trainings of every kind of task at the paper's settings, advanced step by step."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from iga_nerfstudio.adjustment import AxesAdjuster, InductiveGradientAdjuster
from iga_nerfstudio.benchmark.paper import photograph_settings
from iga_nerfstudio.data.voxels import VoxelGrid
from iga_nerfstudio.scenes import write_demo_scene
from iga_nerfstudio.settings import NetworkConfig
from iga_nerfstudio.tasks.config import ImageConfig, MachineConfig
from iga_nerfstudio.tasks.config_files import read_preset
from iga_nerfstudio.tasks.image import ImageTask
from iga_nerfstudio.tasks.sdf import SDFConfig, ShapeTask
from iga_nerfstudio.tasks.signal import SignalConfig, load_signal_task
from iga_nerfstudio.tasks.task import Task


@dataclass
class Training:
    """One network in training: its step, its adjusters, one but along axes, and each network's points a step, the
    adjusted one's first."""

    step: Callable[[], None]
    adjusters: list[InductiveGradientAdjuster]
    sizes: list[tuple[nn.Module, int]]


def _of(task: Task[Any]) -> Training:
    trainer = task.trainer()
    adjuster = trainer.adjuster
    adjusters = list(adjuster.adjusters.values()) if isinstance(adjuster, AxesAdjuster) else [adjuster]
    return Training(trainer.step, adjusters, [(trainer.network, len(trainer.batches.next().inputs))])


def _config(paper: Any, enabled: bool, device: Any, seed: int, **adjustment: Any) -> Any:
    adjustment = replace(paper.adjustment, enabled=enabled, **adjustment)
    return replace(paper, adjustment=adjustment, machine=MachineConfig(seed, device))


def _signal(interval_size: int, refresh_interval: int, *machine: Any) -> Training:
    """The second experiment: 2048 samples, 4 hidden layers x 256 ReLUs, end 7."""
    config = _config(read_preset("experiment2_relu", SignalConfig), *machine, refresh_interval=refresh_interval)
    return _of(load_signal_task(replace(config, interval_size=interval_size)))


def _image(height: int, width: int, patch_size: int, representative: str, *machine: Any) -> Training:
    """An image of noise, 3 hidden layers x 256, PE, end 20."""
    config = _config(photograph_settings("pe"), *machine, representative=representative)
    image = np.random.default_rng(config.machine.seed).random((height, width, 3), dtype=np.float32)
    return _of(ImageTask(replace(config, patch_size=patch_size), image))


def _image_along_axes(height: int, width: int, *machine: Any) -> Training:
    """The same along rows and columns, as iga-image does where a step takes the picture at once."""
    config = _config(ImageConfig(network=NetworkConfig("pe"), grouping="axes"), *machine)
    config.machine.points_per_chunk = height * width
    image = np.random.default_rng(config.machine.seed).random((height, width, 3), dtype=np.float32)
    return _of(ImageTask(config, image))


def _shape(*machine: Any) -> Training:
    """512 random groups of 256 voxels of a ball, 3 hidden layers x 256, PE, end 7."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, 128)] * 3, indexing="ij")
    ball = VoxelGrid((x**2 + y**2 + z**2 < 0.5).astype(np.uint8), "occupancy", (0.0, 0.0, 0.0), 1.0)
    return _of(ShapeTask(_config(read_preset("shape_pe", SDFConfig), *machine), ball))


def _nerf(num_rays: int, enabled: bool, device: str, seed: int) -> Training:
    """The full iga-nerf, 64 coarse and 128 fine samples a ray, end 25."""
    # Imports of seconds, and other workloads do without.
    from iga_nerfstudio.benchmark.studies.nerf_training import NerfTraining
    from iga_nerfstudio.nerf.method_configs import iga_nerf

    config: Any = copy.deepcopy(iga_nerf.config)
    data, model = config.pipeline.datamanager, config.pipeline.model
    data.train_num_rays_per_batch, data.dataparser.downscale_factor = num_rays, 1
    model.adjustment.enabled = enabled
    with tempfile.TemporaryDirectory() as folder:
        data.data = write_demo_scene(Path(folder) / "scene", resolution=100, num_train=4, num_val=1, num_test=1)
        training = NerfTraining(config, device, seed)
    built = training.pipeline.model
    coarse, fine = num_rays * model.num_coarse_samples, num_rays * model.num_importance_samples
    return Training(training.step, [built.adjuster], [(built.field_fine, coarse + fine), (built.field_coarse, coarse)])


# What is measured on a GPU alone, unless asked for: 20 GB and minutes a step, and what iga-image does not do on a CPU.
GPU_ONLY = ("nerf-n4096", "image-axes-768")
# Told whether to adjust, the device, and the seed.
BUILDERS: dict[str, Callable[[bool, str, int], Training]] = {
    "signal-p1": partial(_signal, 1, 1),
    "signal-p4": partial(_signal, 4, 1),
    "signal-p8": partial(_signal, 8, 1),
    "signal-p8-refresh2": partial(_signal, 8, 2),
    "image-n256": partial(_image, 256, 256, 16, "largest_residual"),
    "image-n384": partial(_image, 512, 768, 32, "previous_residual"),
    "image-n384-ahead": partial(_image, 512, 768, 32, "largest_residual"),
    "image-n96": partial(_image, 512, 768, 64, "previous_residual"),
    "image-n1536": partial(_image, 512, 768, 16, "previous_residual"),
    "image-axes-384": partial(_image_along_axes, 256, 384),
    "image-axes-768": partial(_image_along_axes, 512, 768),
    "shape-n512": _shape,
    "nerf-n1024": partial(_nerf, 1024),
    "nerf-n4096": partial(_nerf, 4096),
}
