"""Shapes with and without the adjustment."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from iga_nerfstudio.evaluation.meshes import write_mesh
from iga_nerfstudio.files import write_text
from iga_nerfstudio.networks import NetworkConfig
from iga_nerfstudio.networks.builder import NetworkKind
from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.sdf import SDFConfig, fit_shape
from iga_nerfstudio.tasks.trainer import TrainingDiverged

# Balanced eigenvalues, as in the paper.
_END = {"siren": 14}


@dataclass(frozen=True)
class ShapeSize:
    """What all trainings share."""

    resolution: int
    hidden_dim: int
    groups_per_batch: int
    num_iterations: int
    optimizer: Literal["muon", "adam", "sgd"]
    seed: int


def measure_shapes(
    data: Path,
    shapes: tuple[str, ...],
    networks: tuple[NetworkKind, ...],
    size: ShapeSize,
    runs: Path,
    tell: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Fit every mesh with every network, plain and with IGA: occupancy, middle points, Adam or Muon.

    Args:
        data: Folder of the meshes, ``<name>.ply``.
        shapes: Names.
        networks: Networks to train.
        size: What all trainings share.
        runs: Folder of finished trainings and their meshes; those in it are not repeated.
        tell: Told about every finished training.

    Returns:
        The trainings: IoU (last and best) and Chamfer distances.

    Raises:
        ValueError: If a mesh cannot be used.
    """
    folder = runs / "-".join(f"{value}" for value in asdict(size).values())
    trainings = []
    for shape in shapes:
        for network in networks:
            for adjusted in (False, True):
                path = folder / f"{shape}-{network}-{'iga' if adjusted else 'plain'}.json"
                if not path.exists():
                    outcome = _train(data / f"{shape}.ply", network, adjusted, size, runs / "cache", path)
                    write_text(path, json.dumps({"shape": shape, "network": network, **outcome}, indent=2) + "\n")
                    tell(f"{path.stem}: {outcome}")
                trainings.append(json.loads(path.read_text()))
    return {"shapes": list(shapes), **asdict(size), "trainings": trainings}


def _train(
    mesh: Path, network: NetworkKind, adjusted: bool, size: ShapeSize, cache: Path, path: Path
) -> dict[str, Any]:
    config = SDFConfig(
        resolution=size.resolution,
        groups_per_batch=size.groups_per_batch,
        cache_dir=cache,
        max_num_iterations=size.num_iterations,
        steps_per_eval=max(size.num_iterations // 4, 1),
        network=NetworkConfig(network, size.hidden_dim),
        adjustment=TaskAdjustmentConfig(enabled=adjusted, end=_END.get(network, 7), representative="middle"),
        optimizer=OptimizerConfig(size.optimizer),
        machine=MachineConfig(seed=size.seed, device_type="cpu"),
    )
    try:
        fit, task = fit_shape(mesh, config)
    except TrainingDiverged as error:
        return {"adjusted": adjusted, "diverged": str(error)}
    surface = task.surface(fit.model)
    if surface is not None:
        write_mesh(surface, path.with_suffix(".ply"))
    seconds = 1000 * fit.record.seconds / fit.record.steps
    best = {"best_iou": fit.best_metrics["iou"]}
    return {"adjusted": adjusted, **fit.metrics, **best, "milliseconds_per_step": seconds}
