"""What the adjustment costs: plain step, adjusted step and the Jacobian route, for each kind of task."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from iga_nerfstudio.adjustment import InductiveGradientAdjuster, SpectralTransform, leading_eigenpairs, per_sample_entk
from iga_nerfstudio.adjustment import adjuster as adjuster_module
from iga_nerfstudio.adjustment.adjuster import PARTS
from iga_nerfstudio.adjustment.kernel import Inputs
from iga_nerfstudio.adjustment.transform import eigenpairs_needed
from iga_nerfstudio.benchmark.floor import activation_bytes, measure_floor, training_flops
from iga_nerfstudio.benchmark.memory import peak_memory
from iga_nerfstudio.benchmark.nerf_step import NerfTraining
from iga_nerfstudio.benchmark.timing import median_ratio, synchronise, time_alternately
from iga_nerfstudio.networks import NetworkConfig
from iga_nerfstudio.scenes import write_demo_scene
from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig, ImageTask
from iga_nerfstudio.tasks.sdf import SDFConfig, ShapeTask
from iga_nerfstudio.tasks.signal import SignalConfig, SignalTask
from iga_nerfstudio.tasks.trainer import Trainer
from iga_nerfstudio.tasks.voxel_grids import VoxelGrid
from iga_nerfstudio.tasks.waveforms import Waveform

Workload = Literal[
    "signal-p1",
    "signal-p4",
    "signal-p8",
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


def measure_step(workload: Workload, rounds: int, device: Device, seed: int, reference: bool) -> dict[str, Any]:
    """Time plain and adjusted steps alternately, then the parts of the adjustment and the Jacobian route.

    Args:
        workload: What to train; see :data:`BUILDERS`.
        rounds: Timed rounds of one step each.
        device: Where to compute.
        seed: Seed of networks and data.
        reference: Whether to time the Jacobian route, which takes minutes for the largest.

    Returns:
        Sizes, median seconds and their ratio, peak memory of both steps, seconds of each part of the adjustment, of
        the whole of it, and of the Jacobian route, and the floor that the machine sets for the plain step.
    """
    build = BUILDERS[workload]
    plain, adjusted = build(False, device, seed), build(True, device, seed)
    adjusted.step()  # the first one also checks the network
    seconds = time_alternately({"plain": plain.step, "adjusted": adjusted.step}, rounds)
    memory = {name: peak_memory(t.step, device) for name, t in (("plain", plain), ("adjusted", adjusted))}
    inputs, parts = _parts(adjusted, min(rounds, 7))
    rows = inputs[0] if isinstance(inputs, tuple) else inputs
    width = max(p.shape[0] for p in adjusted.network.parameters() if p.ndim == 2)
    floor = measure_floor(width, device)
    flops = sum(training_flops(network, points) for network, points in plain.sizes)
    moved = sum(activation_bytes(network, points) for network, points in plain.sizes)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    figures: dict[str, Any] = {
        "workload": workload,
        "device": device,
        "num_groups": len(rows),
        "end": adjusted.adjuster.end,
        "representative": adjusted.adjuster.representative,
        "num_points": [points for _network, points in plain.sizes],
        "parameters": sum(p.numel() for p in adjusted.network.parameters()),
        "rounds": rounds,
        "seed": seed,
        "median_seconds": median,
        "ratio": median_ratio(seconds["adjusted"], seconds["plain"]),
        "peak_memory_bytes": memory,
        "memory_ratio": memory["adjusted"] / memory["plain"],
        "part_seconds": parts,
        "adjustment_seconds": sum(parts.values()),
        "steps_unadjusted": adjusted.adjuster.diagnostics.steps_unadjusted,
        "floor": {
            **asdict(floor),
            "flops": flops,
            "bytes": moved,
            "product_seconds": flops / floor.flops_per_second,
            "memory_seconds": moved / floor.bytes_per_second,
            "plain_over_products": median["plain"] * floor.flops_per_second / flops,
        },
    }
    if reference:
        figures["reference_seconds"] = _reference_seconds(adjusted, inputs)
        figures["reference_over_adjustment"] = figures["reference_seconds"] / figures["adjustment_seconds"]
    return figures


def _parts(training: Training, rounds: int) -> tuple[Inputs, dict[str, float]]:
    """The representatives of the last step, and median seconds per step of each part."""
    seen: list[Inputs] = []
    entk = training.adjuster._entk
    seconds: dict[str, list[float]] = {name: [] for name in PARTS.values()}

    def watched(inputs: tuple[torch.Tensor, ...], shares: torch.Tensor | None) -> torch.Tensor:
        seen.append(inputs)
        return entk(inputs, shares)

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        synchronise()
        start = time.perf_counter()
        yield
        synchronise()
        seconds[name][-1] += time.perf_counter() - start

    with patch.object(training.adjuster, "_entk", watched), patch.object(adjuster_module, "record_function", timed):
        for _ in range(rounds):
            for values in seconds.values():
                values.append(0.0)  # a step in chunks applies the transform more than once
            training.step()
    return seen[-1], {part: statistics.median(seconds[name]) for part, name in PARTS.items()}


def _reference_seconds(training: Training, inputs: Inputs) -> float:
    """Per-sample Jacobian, full eigendecomposition, dense S: the adjustment as the paper's authors compute it."""
    adjuster = training.adjuster
    residual = torch.randn(len(inputs[0] if isinstance(inputs, tuple) else inputs), 1024, device=_device_of(training))
    synchronise()
    start = time.perf_counter()
    kernel = per_sample_entk(training.network, inputs, adjuster.readout, memory_limit_mb=2048)
    count = eigenpairs_needed(adjuster.end, adjuster.rule)
    values, vectors = leading_eigenpairs(kernel, count, "dense")
    transform = SpectralTransform.from_eigenpairs(values, vectors, end=adjuster.end, rule=adjuster.rule)
    (transform.dense() @ residual).sum().item()
    return time.perf_counter() - start


def _device_of(training: Training) -> torch.device:
    return next(training.network.parameters()).device


def _of(trainer: Trainer) -> Training:
    points = len(trainer.batches.next().inputs)
    return Training(trainer.step, trainer.adjuster, trainer.network, [(trainer.network, points)])


def _signal(interval_size: int, enabled: bool, device: Device, seed: int) -> Training:
    """The paper's second experiment: 2048 samples, 4 hidden layers x 256 ReLUs, end 7."""
    values = np.random.default_rng(seed).normal(size=(2048, 1)).astype(np.float32)
    config = SignalConfig(
        interval_size=interval_size,
        network=NetworkConfig("relu", hidden_layers=4),
        adjustment=TaskAdjustmentConfig(enabled=enabled, end=7, representative="middle"),
        optimizer=OptimizerConfig("adam", 5e-5),
        machine=MachineConfig(seed, device),
    )
    return _of(SignalTask(config, Waveform(np.linspace(-1, 1, 2048), values, 1.0)).trainer())


def _image(
    patch_size: int,
    representative: Literal["largest_residual", "previous_residual"],
    enabled: bool,
    device: Device,
    seed: int,
) -> Training:
    """A full-size Kodak image, 3 hidden layers x 256, PE, end 20."""
    image = np.random.default_rng(seed).random((512, 768, 3), dtype=np.float32)
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
    with tempfile.TemporaryDirectory() as folder:
        scene = write_demo_scene(Path(folder) / "scene", resolution=100, num_train=4, num_val=1, num_test=1)
        training = NerfTraining(scene, num_rays, enabled, device, seed)
    model: Any = training.pipeline.model
    coarse = num_rays * model.config.num_coarse_samples
    fine = coarse + num_rays * model.config.num_importance_samples
    return Training(
        training.step, model.adjuster, model.adjuster.network, [(model.field_fine, fine), (model.field_coarse, coarse)]
    )


BUILDERS: dict[Workload, Callable[[bool, Device, int], Training]] = {
    "signal-p1": partial(_signal, 1),
    "signal-p4": partial(_signal, 4),
    "signal-p8": partial(_signal, 8),
    "image-n384": partial(_image, 32, "previous_residual"),
    "image-n384-ahead": partial(_image, 32, "largest_residual"),
    "image-n96": partial(_image, 64, "previous_residual"),
    "image-n1536": partial(_image, 16, "previous_residual"),
    "shape-n512": _shape,
    "nerf-n1024": partial(_nerf, 1024),
    "nerf-n4096": partial(_nerf, 4096),
}
