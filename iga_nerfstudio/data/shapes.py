"""Where a shape's training data come from: a mesh sampled on a grid, once and then kept, or a file of voxels."""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import trimesh

from iga_nerfstudio.data.files import require_ending
from iga_nerfstudio.data.meshes import MESH_ENDINGS, read_mesh
from iga_nerfstudio.data.voxelisation import Progress, require_resolution, voxelise
from iga_nerfstudio.data.voxels import (
    VOXEL_ENDINGS,
    ShapeTarget,
    VoxelGrid,
    crop_to_shape,
    read_voxels,
    require_known_target,
)
from iga_nerfstudio.files import write_text, write_whole

logger = logging.getLogger("iga_nerfstudio")

# To be raised whenever the sampled values change, so that older cache files are not taken for present ones.
_CACHE_VERSION = 2


def load_shape(
    path: Path,
    resolution: int,
    target: ShapeTarget,
    *,
    cache_dir: Path | None,
    crop: bool,
    progress: Progress | None = None,
) -> tuple[VoxelGrid, trimesh.Trimesh | None]:
    """Read a shape from a mesh or from a file of voxels, whichever its ending says.

    Args:
        path: ``.ply``, ``.obj``, ``.stl`` or ``.glb``, read by :func:`read_mesh` and sampled by :func:`voxelise`;
            ``.npy``, ``.npz`` or ``.mat``, read by :func:`read_voxels`.
        resolution: Voxels along each side of a mesh's bounding cube. Files of voxels keep their own.
        target: What the values shall be.
        cache_dir: Folder in which the sampled values of meshes are kept, created if missing, or None to sample anew
            each time. Values from there are a read-only memory map.
        crop: Whether an occupancy grid is cropped by :func:`crop_to_shape`. Distance grids are never cropped, their
            values outside the shape matter too.
        progress: Called while a mesh is sampled.

    Returns:
        The grid and, for meshes, the mesh itself; None in its place for files of voxels.

    Raises:
        ValueError: If the file cannot be read or holds no shape, or if the cache cannot be written.
    """
    path = Path(path)
    require_ending(path, MESH_ENDINGS + VOXEL_ENDINGS)
    require_known_target(target)
    resolution = require_resolution(resolution)
    mesh = None
    if path.suffix.lower() in VOXEL_ENDINGS:
        grid = read_voxels(path, target)
    else:
        mesh = read_mesh(path)
        if cache_dir is None:
            grid = voxelise(mesh, resolution, target, progress=progress)
        else:
            grid = _voxelise_once(mesh, path, resolution, target, Path(cache_dir), progress)
    if not crop or target != "occupancy":
        return grid, mesh
    cropped = crop_to_shape(grid)
    if cropped.values.all() and not grid.values.all():
        logger.warning("%s fills its box, beside which there is nothing to learn: it is not cropped.", path)
        return grid, mesh
    return cropped, mesh


def _voxelise_once(
    mesh: trimesh.Trimesh,
    path: Path,
    resolution: int,
    target: ShapeTarget,
    cache_dir: Path,
    progress: Progress | None,
) -> VoxelGrid:
    """The grid from the cache, where it is made first if need be."""
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    name = hashlib.sha256(f"{content} {resolution} {target} {_CACHE_VERSION}".encode()).hexdigest()[:32]
    array = cache_dir / f"{name}.npy"
    cached = _read_cache(array, target)
    if cached is not None:
        return cached
    try:
        # Before the long work, so that a folder that cannot be written is known at once.
        cache_dir.mkdir(parents=True, exist_ok=True)
        grid = voxelise(mesh, resolution, target, progress=progress)
        _write_cache(array, grid)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"Cannot keep the voxels of {path} in {cache_dir}: {reason}. Choose a cache folder that you may write to."
        ) from error
    return replace(grid, values=np.load(array, mmap_mode="r", allow_pickle=False))


def _read_cache(array: Path, target: ShapeTarget) -> VoxelGrid | None:
    """A grid that was written completely, or None."""
    sidecar = array.with_suffix(".json")
    if not sidecar.exists():
        # Written last, so there is nothing here yet, or an interrupted attempt.
        return None
    try:
        note = json.loads(sidecar.read_text(encoding="utf-8"))
        values = np.load(array, mmap_mode="r", allow_pickle=False)
        if zlib.crc32(values.data) != note["crc32"]:
            raise ValueError("its check sum is wrong")
        x, y, z = (float(middle) for middle in note["origin"])
        return VoxelGrid(values, target, (x, y, z), float(note["spacing"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        logger.warning("The cached voxels %s are damaged (%s). They are made again.", array, error)
        return None


def _write_cache(array: Path, grid: VoxelGrid) -> None:
    note = {
        "target": grid.target,
        "origin": grid.origin,
        "spacing": grid.spacing,
        "crc32": zlib.crc32(grid.values.data),
    }
    write_whole(array, lambda staged: np.save(staged, grid.values))
    write_text(array.with_suffix(".json"), json.dumps(note))
