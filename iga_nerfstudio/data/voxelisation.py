"""Meshes sampled on a grid of voxels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import igl
import numpy as np
import trimesh

from iga_nerfstudio.arguments import integer
from iga_nerfstudio.data.orientation import count_two_sided, is_closed, turned_outwards, without_second_sides
from iga_nerfstudio.data.voxels import ShapeTarget, VoxelGrid, require_known_target

logger = logging.getLogger("iga_nerfstudio")

Progress = Callable[[float], None]
"""Called with the fraction of the work that is done, in [0, 1]."""

MIN_RESOLUTION = 8
MAX_RESOLUTION = 1024

# Layers of voxels left free on both sides of the mesh's longest axis.
_MARGIN = 1
# Points evaluated at once, which bounds the memory for any resolution.
_SLAB = 1_000_000
# Voxels along the side of a block that is tested by its centre.
_BLOCK = 8
# Sample points per axis by which a mesh is judged before it is filled.
_JUDGING_SAMPLES = 24
# Ambiguous and inside-out volume, relative to the volume inside, up to which a mesh is filled. A sphere whose hole is
# half its diameter wide has 0.04 of it, one with a hole as wide as 0.8 of its diameter 0.18.
_MAX_DOUBTFUL = 0.1


def require_resolution(value: int) -> int:
    """Check how many voxels a mesh is sampled on.

    Args:
        value: Along each side of its cube.

    Returns:
        The number.

    Raises:
        ValueError: If it is no whole number from 8 to 1024.
    """
    resolution = integer("resolution", value)
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise ValueError(
            f"resolution must be from {MIN_RESOLUTION} to {MAX_RESOLUTION}, but it is {resolution}. "
            "Pass a number in this range."
        )
    return resolution


def voxelise(
    mesh: trimesh.Trimesh, resolution: int, target: ShapeTarget, *, progress: Progress | None = None
) -> VoxelGrid:
    """Sample a mesh at the centres of a cube of voxels.

    The cube is centred on the mesh's bounding box. Along the longest side of the box the mesh takes up all layers of
    voxels but the first and the last, which are a margin.

    A point is inside where the generalised winding number (Barill et al. 2018, by libigl) is above one half, so holes
    that are small compared with the shape are closed. In these the distance changes its sign without getting small.

    Args:
        mesh: Mesh whose faces are turned outwards. What of it is inside out is turned round, and of parts that are
            double-sided all over one side is taken; both are logged.
        resolution: Voxels along each side of the cube, from 8 to 1024.
        target: ``occupancy`` or ``distance``. Distances from the surface are in units of half the cube's side.
        progress: Called with the fraction done so far.

    Returns:
        Values ``(resolution, resolution, resolution)``, with origin and spacing in the mesh's units.

    Raises:
        ValueError: If an argument is out of range, if the mesh does not enclose a volume, or if no voxel's centre is
            inside it.
    """
    resolution = require_resolution(resolution)
    require_known_target(target)
    report = progress or _ignore
    spacing = float(mesh.extents.max()) / (resolution - 2 * _MARGIN)
    centre = mesh.bounds.mean(axis=0)
    x, y, z = (float(middle) for middle in centre - spacing * (resolution - 1) / 2)
    solid = _Solid(mesh, centre, spacing * resolution / 2)
    if target == "occupancy":
        values = _occupancy(solid, resolution, report)
    else:
        values = _signed_distances(solid, resolution, report)
    return VoxelGrid(values, target, (x, y, z), spacing)


class _Solid:
    """What a mesh encloses, with the cube of voxels scaled to [-1, 1] on every axis.

    libigl computes winding numbers from single-precision coordinates, so they are scaled before they get there.

    Args:
        mesh: Mesh in any units.
        centre: ``(3,)``, centre of the cube.
        half_side: Half of the cube's side.

    Raises:
        ValueError: If the mesh does not enclose a volume.
    """

    def __init__(self, mesh: trimesh.Trimesh, centre: np.ndarray, half_side: float) -> None:
        self.vertices = np.ascontiguousarray((mesh.vertices - centre) / half_side, dtype=np.float64)
        faces = without_second_sides(self.vertices, np.asarray(mesh.faces, dtype=np.int64))
        faces = turned_outwards(self.vertices, faces, partial(igl.fast_winding_number, self.vertices))
        self.faces = np.ascontiguousarray(faces)
        _refuse_two_sided(self.faces, more_than=len(faces) - 1)
        self.is_closed = is_closed(self.faces)
        samples = self._winding_numbers(self._judging_points())
        # Thin closed meshes may have no sample inside, but the signed volumes of their faces' tetrahedra add up to it.
        signed_volume = np.linalg.det(self.vertices[self.faces]).sum() if self.is_closed else samples.sum()
        self._sign = -1.0 if signed_volume < 0 else 1.0
        _refuse_ambiguous(self._sign * samples, self.is_closed)
        if self._sign < 0:
            logger.warning("The mesh is inside out: all its faces are turned inwards. They are taken as outward.")
        if not self.is_closed:
            logger.warning("The mesh has holes or inconsistent faces, so every voxel is tested, which takes longer.")

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Whether each of ``(N, 3)`` points is inside, bool ``(N,)``."""
        return self._sign * self._winding_numbers(points) > 0.5

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Distance of each of ``(N, 3)`` points from the surface, ``(N,)``."""
        squared, _, _ = igl.point_mesh_squared_distance(points, self.vertices, self.faces)
        return np.sqrt(squared)

    def _winding_numbers(self, points: np.ndarray) -> np.ndarray:
        return igl.fast_winding_number(self.vertices, self.faces, points)

    def _judging_points(self) -> np.ndarray:
        lowest, highest = self.vertices.min(axis=0), self.vertices.max(axis=0)
        index = np.indices((_JUDGING_SAMPLES,) * 3).reshape(3, -1).T
        return lowest + (highest - lowest) * (index + 0.5) / _JUDGING_SAMPLES


def _refuse_ambiguous(samples: np.ndarray, is_closed: bool) -> None:
    """Refuse meshes that do not divide the space; ``samples`` are winding numbers of points in the mesh's box."""
    num_inside = np.count_nonzero(samples > 0.5)
    doubtful = np.count_nonzero((np.abs(samples) > 0.25) & (np.abs(samples) < 0.75))
    if not is_closed and (num_inside == 0 or doubtful > _MAX_DOUBTFUL * num_inside):
        raise ValueError(
            "The mesh does not enclose a volume: it is an open sheet, has large holes, or its faces are turned both "
            f"ways at random. Of {len(samples)} points in its box {num_inside} are inside and {doubtful} undecided. "
            "Close the mesh first."
        )
    inverted = np.count_nonzero(samples < -0.5)
    if inverted > _MAX_DOUBTFUL * num_inside:
        raise ValueError(
            f"Parts of the mesh are inside out: of {len(samples)} points in its box {num_inside} are enclosed by "
            f"faces turned outwards and {inverted} by faces turned inwards. Turn all faces outwards first."
        )


def _refuse_two_sided(faces: np.ndarray, more_than: int) -> None:
    """Refuse a mesh with more than so many faces that are there in both directions."""
    num = count_two_sided(faces)
    if num > more_than:
        raise ValueError(
            f"The mesh encloses nothing: {num} of its {len(faces)} faces are there in both directions, and these "
            "cancel. Leave out one side, and close what is open."
        )


def _ignore(_: float) -> None:
    """Progress that nobody asked for."""


def _share(progress: Progress, start: float, stop: float) -> Progress:
    """Progress of a part of the work, which goes on from ``start`` to ``stop``."""
    return lambda done: progress(start + (stop - start) * done)


def _occupancy(solid: _Solid, resolution: int, progress: Progress) -> np.ndarray:
    """Voxels inside, uint8 ``(n, n, n)``."""
    fill = _inside_by_blocks if solid.is_closed else _inside_of_every_voxel
    inside = fill(solid, resolution, progress)
    if not inside.any():
        _refuse_two_sided(solid.faces, more_than=0)
        raise ValueError(
            f"No voxel's centre is inside the mesh at resolution {resolution}: its walls are thinner than a voxel, "
            "or it has no volume. Raise the resolution or use another mesh."
        )
    return inside


def _signed_distances(solid: _Solid, resolution: int, progress: Progress) -> np.ndarray:
    """Distances from the surface, negative inside, float32 ``(n, n, n)``."""
    # A distance takes about as long as seven winding numbers, and most of those are spared.
    inside = _occupancy(solid, resolution, _share(progress, 0.0, 0.1))
    values = _over_grid(
        lambda index: solid.distances(_positions(index, resolution)),
        resolution,
        np.float32,
        _share(progress, 0.1, 1.0),
    )
    return np.negative(values, out=values, where=inside > 0)


def _inside_of_every_voxel(solid: _Solid, resolution: int, progress: Progress) -> np.ndarray:
    return _over_grid(lambda index: solid.inside(_positions(index, resolution)), resolution, np.uint8, progress)


def _inside_by_blocks(solid: _Solid, resolution: int, progress: Progress) -> np.ndarray:
    """The same as :func:`_inside_of_every_voxel` for closed meshes, with far fewer tests.

    The winding number of a closed mesh changes at the surface only. A block of voxels whose centre is further from it
    than any of its voxels is from that centre has one value all through.
    """
    num_blocks = -(-resolution // _BLOCK)
    middle = (_BLOCK - 1) / 2
    # Rounding may not decide, hence slightly more than the distance from a block's centre to its corner voxels.
    reach = np.sqrt(3) * middle * 2 / resolution * 1.000001

    def test_block(index: np.ndarray) -> np.ndarray:
        centres = _positions(index * _BLOCK + middle, resolution)
        return np.where(solid.distances(centres) > reach, solid.inside(centres), 2)

    blocks = _over_grid(test_block, num_blocks, np.uint8, _share(progress, 0.0, 0.2))
    cut = np.argwhere(blocks == 2)
    voxels = np.empty((num_blocks, _BLOCK) * 3, np.uint8)
    by_block = voxels.transpose(0, 2, 4, 1, 3, 5)
    by_block[:] = blocks[..., None, None, None]
    within = np.indices((_BLOCK,) * 3).reshape(3, -1).T
    step = _SLAB // _BLOCK**3
    for start in range(0, len(cut), step):
        chosen = cut[start : start + step]
        index = (chosen[:, None] * _BLOCK + within).reshape(-1, 3)
        tested = solid.inside(_positions(index, resolution))
        by_block[tuple(chosen.T)] = tested.reshape(-1, _BLOCK, _BLOCK, _BLOCK)
        progress(0.2 + 0.8 * min(1.0, (start + step) / len(cut)))
    padded = voxels.reshape((num_blocks * _BLOCK,) * 3)
    return np.ascontiguousarray(padded[:resolution, :resolution, :resolution])


def _positions(index: np.ndarray, resolution: int) -> np.ndarray:
    """Centres of voxels ``(N, 3)`` in the cube [-1, 1]."""
    return (2 * index + 1) / resolution - 1


def _over_grid(
    function: Callable[[np.ndarray], np.ndarray], num: int, dtype: type[np.generic], progress: Progress
) -> np.ndarray:
    """Values ``(num, num, num)`` of a function of index triples ``(N, 3)``, evaluated slab by slab."""
    values = np.empty(num**3, dtype)
    for start in range(0, values.size, _SLAB):
        stop = min(start + _SLAB, values.size)
        index = np.stack(np.unravel_index(np.arange(start, stop), (num,) * 3), axis=-1)
        values[start:stop] = function(index)
        progress(stop / values.size)
    return values.reshape((num,) * 3)
