"""Shapes: a coordinate network from positions to occupancy or signed distance (paper Sec. 5.2)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import trimesh
from torchmetrics.classification import BinaryJaccardIndex

from iga_nerfstudio.adjustment import Intervals
from iga_nerfstudio.data.shapes import load_shape
from iga_nerfstudio.data.voxels import VoxelGrid, as_voxel_grid
from iga_nerfstudio.evaluation.figures import slices_figure
from iga_nerfstudio.evaluation.meshes import chamfer_distance, mesh_picture, surface_from_grid, write_mesh
from iga_nerfstudio.files import write_whole
from iga_nerfstudio.networks import CoordinateMLP
from iga_nerfstudio.tasks.config import SDFConfig
from iga_nerfstudio.tasks.report import as_picture
from iga_nerfstudio.tasks.samples import Grid, GridSamples, RandomGroups, RandomPoints, to_numpy
from iga_nerfstudio.tasks.setup import adjust_from, chunk_size, grouped, require_groups
from iga_nerfstudio.tasks.step import decode, decode_chunks
from iga_nerfstudio.tasks.task import Fit, Task, fit
from iga_nerfstudio.tasks.trainer import Watcher

logger = logging.getLogger("iga_nerfstudio")


class ShapeTask(Task[SDFConfig]):
    """A shape to fit.

    Args:
        config: Settings of the run.
        grid: Values on voxels.
        mesh: The true surface; the grid's own if there is none.

    Raises:
        ValueError: If grid or settings do not fit.
    """

    metric = "iou"
    sizes = (3, 1)

    def __init__(self, config: SDFConfig, grid: VoxelGrid, mesh: trimesh.Trimesh | None = None) -> None:
        super().__init__(config)
        if not 0 < config.mesh_scale <= 16:
            raise ValueError(f"mesh_scale must lie in (0, 16], got {config.mesh_scale}.")
        self.voxels = grid
        # A copy: the grid may be a read-only map of the cached file.
        values = torch.from_numpy(np.array(grid.values)).reshape(-1, 1)
        self._samples = GridSamples(Grid.unit(grid.values.shape, self.device), values)
        rows = grouped(lambda: Intervals(len(values), config.group_size), "--group-size")
        most = rows.num_groups(len(values)) if config.grouping == "rows" else len(values) // config.group_size
        num_groups = min(config.groups_per_batch, most)
        require_groups(config, num_groups, "--group-size" if most < config.groups_per_batch else "--groups-per-batch")
        self.batches: RandomGroups | RandomPoints
        if config.grouping == "rows":
            self.grouping, self.batches = rows, RandomGroups(self._samples, rows, num_groups, config.machine.seed)
        else:
            self.batches = RandomPoints(self._samples, num_groups, config.group_size, config.machine.seed)
            self.grouping = self.batches.grouping
        if config.num_epochs is not None:
            self.config = replace(config, max_num_iterations=config.num_epochs * self.batches.batches_per_epoch)
        self._truth = mesh
        self._surfaces: WeakKeyDictionary[CoordinateMLP, trimesh.Trimesh] = WeakKeyDictionary()

    @property
    def truth(self) -> trimesh.Trimesh:
        """The true surface."""
        if self._truth is None:
            self._truth = self._mesh(self.voxels.values, self.voxels.spacing)
        return self._truth

    def evaluate(self, network: CoordinateMLP) -> dict[str, float]:
        """Intersection over union of the voxels inside."""
        index = BinaryJaccardIndex().to(self.device)
        for rows, values in decode_chunks(network, self._samples.grid, chunk_size(self.config)):
            index.update(self._inside(values), self._inside(self._samples.targets(rows)).int())
        return {"iou": index.compute().item()}

    def final_metrics(self, network: CoordinateMLP) -> dict[str, float]:
        """IoU, and Chamfer distances of the surface where there is one."""
        metrics = self.evaluate(network)
        surface = self.surface(network)
        return metrics if surface is None else metrics | chamfer_distance(surface, self.truth)

    def surface(self, network: CoordinateMLP) -> trimesh.Trimesh | None:
        """The surface of a trained network by marching cubes, in the units of the file; None, logged, without one.

        It is kept: a network is not to be trained any further after this.
        """
        if network not in self._surfaces:
            shape = [max(round(n * self.config.mesh_scale), 2) for n in self.voxels.values.shape]
            values = decode(network, Grid.unit(shape, self.device), chunk_size(self.config))[..., 0]
            steps = [(n - 1) / (m - 1) for n, m in zip(self.voxels.values.shape, shape, strict=True)]
            try:
                self._surfaces[network] = self._mesh(values.numpy(), [s * self.voxels.spacing for s in steps])
            except ValueError as error:
                logger.warning("The network has no surface: %s", error)
                return None
        return self._surfaces[network]

    def _mesh(self, values: np.ndarray, spacing: float | list[float]) -> trimesh.Trimesh:
        occupancy = self.voxels.target == "occupancy"
        level = 0.5 if occupancy else 0.0
        return surface_from_grid(values, level, self.voxels.origin, spacing, inside_is_above=occupancy)

    def _inside(self, values: torch.Tensor) -> torch.Tensor:
        return values > 0.5 if self.voxels.target == "occupancy" else values < 0

    def description(self) -> dict[str, Any]:
        """What the network's value means, and where its cube [-1, 1]^3 lies in the file's units."""
        return {
            "task": self.config.task,
            "target": self.voxels.target,
            "grid": list(self.voxels.values.shape),
            "origin": [float(x) for x in self.voxels.origin],
            "spacing": float(self.voxels.spacing),
        }

    def comparison(self, network: CoordinateMLP) -> tuple[np.ndarray, np.ndarray]:
        """The slice through the middle of the last axis: occupancy, or distances from black (deep inside) to white."""
        truth, found = self._slice(None, 2), self._slice(network, 2)
        if self.voxels.target == "distance":
            reach = float(np.abs(truth).max()) or 1.0
            truth, found = (0.5 + 0.5 * values / reach for values in (truth, found))
        # The first axis to the right, the second up.
        return as_picture(np.rot90(truth)[..., None]), as_picture(np.rot90(found)[..., None])

    def _slice(self, network: CoordinateMLP | None, across: int) -> np.ndarray:
        """The slice through the middle across an axis, of a network or, without one, of the truth."""
        shape = self.voxels.values.shape
        middle = slice(shape[across] // 2, shape[across] // 2 + 1)
        if network is None:
            values = np.array(self.voxels.values[(slice(None),) * across + (middle,)], dtype=np.float32)
        else:
            axes = [torch.linspace(-1, 1, n, device=self.device) for n in shape]
            axes[across] = axes[across][middle]
            values = decode(network, Grid(axes), chunk_size(self.config))[..., 0].numpy()
        return values.squeeze(across)

    def caption(self) -> str:
        """Size of the grid, and which slice it is."""
        nx, ny, nz = self.voxels.values.shape
        place = self.voxels.origin[2] + nz // 2 * self.voxels.spacing
        white = "inside" if self.voxels.target == "occupancy" else "far outside"
        return (
            f"The grid has {nx} x {ny} x {nz} voxels. The slice z = {place:.4g}, number {nz // 2 + 1} of {nz}, with x "
            f"to the right and y up; white is {white}."
        )

    def resolved_settings(self) -> dict[str, Any]:
        """When the adjustment begins."""
        return {"adjust_from": adjust_from(self.config)}

    def write_results(self, network: CoordinateMLP, folder: Path) -> list[Path]:
        """``reconstruction.<format>`` and ``shape.png`` where there is a surface, ``slices.png``."""
        paths = []
        surface = self.surface(network)
        if surface is not None:
            paths = [folder / f"reconstruction.{self.config.mesh_format}", folder / "shape.png"]
            write_mesh(surface, paths[0])
            pair = [("ground truth", self.truth), ("reconstruction", surface)]
            write_whole(paths[1], lambda path: mesh_picture(pair, path))
        slices = folder / "slices.png"
        write_whole(slices, lambda path: self._draw_slices(network, path))
        return [*paths, slices]

    def _draw_slices(self, network: CoordinateMLP, path: Path) -> None:
        both = {"truth": None, "found": network}
        rows = {name: [self._slice(one, across) for across in range(3)] for name, one in both.items()}
        reach = max(float(np.abs(values).max()) for values in rows["truth"]) or 1.0
        limits = (0.0, 1.0) if self.voxels.target == "occupancy" else (-reach, reach)
        slices_figure(rows, path, self.voxels.origin, self.voxels.spacing, limits)


def load_shape_task(config: SDFConfig, progress: Callable[[float], None] | None = None) -> ShapeTask:
    """The task of a mesh or voxel file.

    Args:
        config: Settings of the run.
        progress: Told the share done while a mesh is sampled.

    Raises:
        ValueError: If no file is given, it cannot be used, or a setting does not fit it.
    """
    if config.data is None:
        raise ValueError("Which shape? Give --data mesh.ply.")
    grid, mesh = load_shape(
        config.data,
        config.resolution,
        config.target,
        cache_dir=config.cache_dir,
        crop=config.crop,
        progress=progress,
    )
    return ShapeTask(config, grid, mesh)


def fit_shape(
    shape: Path | str | np.ndarray | torch.Tensor, config: SDFConfig | None = None, watchers: tuple[Watcher, ...] = ()
) -> tuple[Fit, ShapeTask]:
    """Fit a shape.

    Args:
        shape: A mesh or voxel file, or voxels ``(n_x, n_y, n_z)``: what ``config.target`` says, checked and read as
            those of a file are, see :func:`~iga_nerfstudio.data.voxels.as_voxel_grid`, but not cropped.
        config: Settings; the defaults if not given.
        watchers: Called with the step and named figures whenever some are logged.

    Returns:
        The trained network with its metrics and record, and the task, whose ``surface(fit.model)`` is the mesh.

    Raises:
        ValueError: If shape or settings cannot be used.
        TrainingDiverged: If the loss is no longer finite.
    """
    config = config or SDFConfig()
    if isinstance(shape, (str, Path)):
        task = load_shape_task(replace(config, data=Path(shape)))
    else:
        task = ShapeTask(config, as_voxel_grid(to_numpy(shape), config.target))
    return fit(task, watchers), task
