"""Shapes with and without the adjustment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from iga_nerfstudio.benchmark.sweep import Outcome, Training, train_all
from iga_nerfstudio.networks import NetworkConfig
from iga_nerfstudio.networks.builder import NetworkKind
from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig, ScheduleConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.sdf import SDFConfig, load_shape_task
from iga_nerfstudio.tasks.task import fit

if TYPE_CHECKING:
    from iga_nerfstudio.benchmark.workloads import Device

# Balanced eigenvalues, as in the paper.
_END = {"siren": 14}
# Adam's learning rates in the paper, without and with the adjustment; that of ReLU with it is the authors' code's.
_PAPER_RATES: dict[NetworkKind, tuple[float, float]] = {
    "relu": (2e-3, 5e-3),
    "pe": (2e-3, 2e-3),
    "siren": (5e-4, 5e-4),
}
# Of trainings whose length depends on the shape; others are evaluated four times.
_STEPS_PER_EVAL = 5000


@dataclass(frozen=True)
class ShapeSize:
    """What is trained, and what all trainings share.

    Attributes:
        shapes: Names of the meshes.
        networks: Networks to train.
        resolution: Voxels along each side of the bounding cube.
        hidden_dim: Width of the networks of three hidden layers.
        groups_per_batch: Groups per step.
        num_iterations: Training steps ...
        num_epochs: ... or passes over the grid cut down to the shape's box, one of the two. An epoch has as many steps
            as batches fit into the grid: 1024 at 512^3 and 512 groups, less what the box cuts off.
        optimizer: Optimiser of all: Adam at the paper's learning rates and schedule, or Muon at those of ``iga-sdf``.
        seed: Seed of networks and batches.
        device: Where to train.
        group_size: Voxels per group; half of the resolution, as in the paper, is a row that spans half of the box.
    """

    shapes: tuple[str, ...]
    networks: tuple[NetworkKind, ...]
    resolution: int
    hidden_dim: int
    groups_per_batch: int
    num_iterations: int | None
    num_epochs: int | None = None
    optimizer: Literal["muon", "adam"] = "muon"
    seed: int = 42
    device: Device = "cpu"
    group_size: int = 256


_NETWORKS: tuple[NetworkKind, ...] = ("relu", "pe", "siren")
SIZES = {
    # Other networks have no surface after so few steps, and a wild one takes longest to measure.
    "smoke": ShapeSize(("bunny",), ("pe",), 24, 16, 16, 80),
    "cpu": ShapeSize(("bunny", "armadillo", "lucy"), _NETWORKS, 128, 128, 512, 400, group_size=64),
    "full": ShapeSize(("thai", "armadillo", "dragon", "bunny", "lucy"), _NETWORKS, 512, 256, 512, None, 200, "adam"),
}


def shapes_at_hand(data: Path, size: ShapeSize, tell: Callable[[str], None] = print) -> ShapeSize:
    """A size without the shapes that a folder lacks; unchanged if it lacks all of them.

    Args:
        data: Folder of the meshes, ``<name>.ply``.
        size: What is to be trained.
        tell: Told what is left out.
    """
    found = tuple(name for name in size.shapes if _mesh(data, name).is_file())
    if not found:
        return size
    for name in size.shapes:
        if name not in found:
            tell(f"not run: {name} (no {_mesh(data, name)})")
    return replace(size, shapes=found)


def _mesh(data: Path, name: str) -> Path:
    return data / f"{name}.ply"


def measure_shapes(
    data: Path, size: ShapeSize, runs: Path, jobs: int, tell: Callable[[str], None] = print
) -> dict[str, Any]:
    """Fit every mesh with every network, plain and with IGA: occupancy, middle points, Adam or Muon.

    Args:
        data: Folder of the meshes, ``<name>.ply``.
        size: What is trained, and what all trainings share.
        runs: Folder of finished trainings; those in it are not repeated.
        jobs: Trainings at once, one thread each.
        tell: Told about every finished training.

    Returns:
        The trainings: IoU (last and best) and Chamfer distances.

    Raises:
        ValueError: If a mesh is missing or cannot be used, or there is none.
    """
    if not size.shapes:
        raise ValueError("Name at least one shape.")
    for shape in size.shapes:
        if not _mesh(data, shape).is_file():
            raise ValueError(f"There is no mesh {_mesh(data, shape)}.")
    trainings = [
        Training(
            {"shape": shape, "network": network, "adjusted": adjusted},
            _train,
            replace(configure(network, adjusted, size, runs / "cache"), data=_mesh(data, shape)),
            figure="iou",
        )
        for shape in size.shapes
        for network in size.networks
        for adjusted in (False, True)
    ]
    return {**asdict(size), "trainings": train_all(trainings, runs, jobs, tell)}


def configure(network: NetworkKind, adjusted: bool, size: ShapeSize, cache: Path) -> SDFConfig:
    """The settings of one training; sampled meshes are kept in the folder ``cache``."""
    rate = _PAPER_RATES[network][adjusted] if size.optimizer == "adam" and network in _PAPER_RATES else None
    config = SDFConfig(
        resolution=size.resolution,
        group_size=size.group_size,
        groups_per_batch=size.groups_per_batch,
        num_epochs=size.num_epochs,
        cache_dir=cache,
        steps_per_eval=_STEPS_PER_EVAL,
        network=NetworkConfig(network, size.hidden_dim),
        adjustment=TaskAdjustmentConfig(enabled=adjusted, end=_END.get(network, 7), representative="middle"),
        optimizer=OptimizerConfig(size.optimizer, rate),
        schedule=ScheduleConfig("exponential" if size.optimizer == "adam" else "cosine"),
        machine=MachineConfig(seed=size.seed, device_type=size.device),
    )
    if size.num_iterations is None:
        return config
    return replace(config, max_num_iterations=size.num_iterations, steps_per_eval=max(size.num_iterations // 4, 1))


def _train(config: SDFConfig) -> Outcome:
    """Train once; metrics."""
    fitted = fit(load_shape_task(config))
    return fitted.metrics | {
        "best_iou": fitted.best_metrics["iou"],
        "steps": fitted.record.steps,
        "milliseconds_per_step": 1000 * fitted.record.seconds / fitted.record.steps,
    }
