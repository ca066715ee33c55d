"""Where a shape's training data come from: meshes sampled on a grid of voxels, and files of voxels."""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import h5py
import igl
import numpy as np
import scipy.io
import trimesh

from iga_nerfstudio.arguments import integer
from iga_nerfstudio.files import write_text, write_whole

logger = logging.getLogger("iga_nerfstudio")

ShapeTarget = Literal["occupancy", "distance"]
"""What a voxel holds: whether it lies inside, or its signed distance from the surface."""

Progress = Callable[[float], None]
"""Called with the fraction of the work that is done, in [0, 1]."""

MESH_ENDINGS = (".ply", ".obj", ".stl", ".glb")
VOXEL_ENDINGS = (".npy", ".npz", ".mat")
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
# To be raised whenever the sampled values change, so that older cache files are not taken for present ones.
_CACHE_VERSION = 1


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """Values of a shape at the centres of a regular grid of voxels.

    Attributes:
        values: ``(n_x, n_y, n_z)``; occupancy is uint8, 1 inside and 0 outside, distance is float32, negative inside.
        target: What the values are.
        origin: Position of the centre of voxel (0, 0, 0), in the file's units.
        spacing: Distance between the centres of neighbouring voxels, in the file's units.
    """

    values: np.ndarray
    target: ShapeTarget
    origin: tuple[float, float, float]
    spacing: float

    @property
    def inside(self) -> np.ndarray:
        """Voxels whose centres lie inside the shape, bool ``(n_x, n_y, n_z)``."""
        return self.values < 0 if self.target == "distance" else self.values > 0


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
    _refuse_unknown_target(target)
    resolution = _checked_resolution(resolution)
    mesh = None
    if path.suffix.lower() in VOXEL_ENDINGS:
        grid = read_voxels(path, target)
    elif path.suffix.lower() in MESH_ENDINGS:
        mesh = read_mesh(path)
        if cache_dir is None:
            grid = voxelise(mesh, resolution, target, progress=progress)
        else:
            grid = _voxelise_once(mesh, path, resolution, target, Path(cache_dir), progress)
    else:
        raise ValueError(_wrong_ending(path, MESH_ENDINGS + VOXEL_ENDINGS))
    return (crop_to_shape(grid) if crop and target == "occupancy" else grid), mesh


def crop_to_shape(grid: VoxelGrid) -> VoxelGrid:
    """Cut a grid down to the smallest box that holds all voxels inside, its last slice on every axis included.

    Args:
        grid: Grid of any target.

    Returns:
        The box, a view of the grid's values, with its origin moved along.

    Raises:
        ValueError: If no voxel lies inside, or all of them do.
    """
    inside = grid.inside
    _refuse_uniform(inside, "The grid")
    box = []
    for axis in range(3):
        taken = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(taken[0]), int(taken[-1]) + 1))
    x, y, z = (start + grid.spacing * cut.start for start, cut in zip(grid.origin, box, strict=True))
    return replace(grid, values=grid.values[tuple(box)], origin=(x, y, z))


def _refuse_uniform(inside: np.ndarray, name: str) -> None:
    if not inside.any():
        raise ValueError(f"{name} has no voxel inside the shape, of {inside.shape}. Check that it is the right file.")
    if inside.all():
        raise ValueError(
            f"{name} has every voxel inside the shape, of {inside.shape}, so there is no surface to learn. "
            "Leave some voxels outside around the shape."
        )


def _checked_resolution(value: int) -> int:
    resolution = integer("resolution", value)
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise ValueError(
            f"resolution must be from {MIN_RESOLUTION} to {MAX_RESOLUTION}, but it is {resolution}. "
            "Pass a number in this range."
        )
    return resolution


def _refuse_unknown_target(target: str) -> None:
    if target not in get_args(ShapeTarget):
        raise ValueError(f'target must be "occupancy" or "distance", but it is {target!r}. Pass one of the two.')


def _wrong_ending(path: Path, endings: tuple[str, ...]) -> str:
    return f"Cannot read {path}: the ending {path.suffix!r} is none of {', '.join(endings)}. Convert the file."


def _refuse_unreadable(path: Path, endings: tuple[str, ...]) -> None:
    if path.suffix.lower() not in endings:
        raise ValueError(_wrong_ending(path, endings))
    if not path.is_file():
        raise ValueError(f"There is no file {path}. Check the path.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty. Download or export it again.")


# --- Meshes -----------------------------------------------------------------------------------------------------------


def read_mesh(path: Path) -> trimesh.Trimesh:
    """Read a triangle mesh, with vertices at the same position merged into one.

    Args:
        path: ``.ply``, ``.obj``, ``.stl`` or ``.glb``. The parts of a GLB scene are put together as they are placed
            there.

    Returns:
        The mesh in the file's units, without colours and materials.

    Raises:
        ValueError: If the file is missing, empty, damaged or of another kind, or if the mesh has no faces, vertices
            that are not finite, or no extent.
    """
    path = Path(path)
    _refuse_unreadable(path, MESH_ENDINGS)
    try:
        # Unprocessed, because processing drops vertices that are not finite without a word.
        mesh = trimesh.load_mesh(path, process=False)
    except Exception as error:  # trimesh's readers raise whatever a damaged file makes them stumble over
        raise ValueError(f"Cannot read {path} as a mesh ({error}). Download or export it again.") from error
    if len(mesh.faces) == 0:
        raise ValueError(f"{path} holds no faces: it is a point cloud, or cut short. Use a file with a surface.")
    lowest, highest = mesh.faces.min(), mesh.faces.max()
    if lowest < 0 or highest >= len(mesh.vertices):
        raise ValueError(
            f"The faces of {path} name vertices from {lowest} to {highest}, but it holds {len(mesh.vertices)}. "
            "Download or export it again."
        )
    not_finite = int((~np.isfinite(mesh.vertices)).any(axis=1).sum())
    if not_finite:
        raise ValueError(f"{path} has {not_finite} vertices with NaN or infinite coordinates. Repair the mesh first.")
    merged = _with_merged_vertices(mesh)
    if merged.extents.max() == 0:
        raise ValueError(f"All vertices of {path} are at one point, {merged.vertices[0].tolist()}. Use another mesh.")
    return merged


def _with_merged_vertices(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """One vertex per position, as a mesh read from a soup of triangles (STL) has three of its own for each face.

    Positions must be equal exactly, because any tolerance would depend on the file's units.
    """
    vertices, merged_index = np.unique(np.asarray(mesh.vertices), axis=0, return_inverse=True)
    merged = trimesh.Trimesh(vertices, merged_index.reshape(-1)[mesh.faces], process=False)
    merged.remove_unreferenced_vertices()
    return merged


def voxelise(
    mesh: trimesh.Trimesh, resolution: int, target: ShapeTarget, *, progress: Progress | None = None
) -> VoxelGrid:
    """Sample a mesh at the centres of a cube of voxels.

    The cube is centred on the mesh's bounding box. Along the longest side of the box the mesh takes up all layers of
    voxels but the first and the last, which are a margin.

    A point is inside where the generalised winding number (Barill et al. 2018, by libigl) is above one half, so holes
    that are small compared with the shape are closed. In these the distance changes its sign without getting small.

    Args:
        mesh: Mesh whose faces are turned outwards, or all of them inwards.
        resolution: Voxels along each side of the cube, from 8 to 1024.
        target: ``occupancy`` or ``distance``. Distances from the surface are in units of half the cube's side.
        progress: Called with the fraction done so far.

    Returns:
        Values ``(resolution, resolution, resolution)``, with origin and spacing in the mesh's units.

    Raises:
        ValueError: If an argument is out of range, if the mesh does not enclose a volume, or if no voxel's centre is
            inside it.
    """
    resolution = _checked_resolution(resolution)
    _refuse_unknown_target(target)
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
        self.faces = np.ascontiguousarray(mesh.faces, dtype=np.int64)
        self.is_closed = _is_closed(mesh)
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


def _is_closed(mesh: trimesh.Trimesh) -> bool:
    """Whether each edge is passed as often in one direction as in the other.

    Exactly then winding numbers are whole off the surface. Unlike ``is_watertight`` this allows edges of four faces,
    which merged vertices bring about where two closed parts touch.
    """
    direction = np.sign(mesh.edges[:, 1] - mesh.edges[:, 0])
    return not np.bincount(mesh.edges_unique_inverse, weights=direction).any()


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


# --- Cached samples of meshes -----------------------------------------------------------------------------------------


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


# --- Files of voxels --------------------------------------------------------------------------------------------------


def read_voxels(path: Path, target: ShapeTarget) -> VoxelGrid:
    """Read a grid of voxels.

    Args:
        path: ``.npy``; ``.npz`` with one array; or ``.mat`` of any version with one three-dimensional array. Of
            several arrays the one that is named after the target is read, ``occupancy`` or ``sdf``, or else
            ``voxels``.
        target: What the values are. Occupancy may be of any type as long as all values are 0 or 1; distances are
            negative inside and are taken as they are.

    Returns:
        The grid in voxel units: its origin is 0 and its spacing 1.

    Raises:
        ValueError: If the file is missing, empty, damaged or of another kind, if it is not clear which array is meant,
            or if that array is no grid of the target.
    """
    path = Path(path)
    _refuse_unknown_target(target)
    _refuse_unreadable(path, VOXEL_ENDINGS)
    values = _read_mat(path, target) if path.suffix.lower() == ".mat" else _read_numpy(path, target)
    if values.dtype.kind not in "buif":
        raise ValueError(f"{path} holds values of type {values.dtype}. Save real numbers.")
    if values.ndim != 3 or values.size == 0:
        raise ValueError(f"{path} must hold a grid of three axes, but its array is {values.shape}. Save (x, y, z).")
    not_finite = values.size - np.count_nonzero(np.isfinite(values))
    if not_finite:
        raise ValueError(f"{path} has {not_finite} NaN or infinite values of {values.size}. Fill them first.")
    grid = _as_occupancy(values, path) if target == "occupancy" else _as_distances(values, path)
    return VoxelGrid(grid, target, (0.0, 0.0, 0.0), 1.0)


def _as_occupancy(values: np.ndarray, path: Path) -> np.ndarray:
    if not ((values == 0) | (values == 1)).all():
        raise ValueError(
            f"Occupancy must be 0 or 1, but the values of {path} range from {values.min()} to {values.max()}. "
            "For signed distances use --target distance, or else apply a threshold first."
        )
    occupancy = np.ascontiguousarray(values, dtype=np.uint8)
    _refuse_uniform(occupancy > 0, str(path))
    return occupancy


def _as_distances(values: np.ndarray, path: Path) -> np.ndarray:
    lowest, highest = values.min(), values.max()
    if not lowest < 0 < highest:
        raise ValueError(
            f"Signed distances must be negative inside and positive outside, but the values of {path} range from "
            f"{lowest} to {highest}. For values of 0 and 1 use --target occupancy."
        )
    return np.ascontiguousarray(values, dtype=np.float32)


def _read_numpy(path: Path, target: ShapeTarget) -> np.ndarray:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content as archive:
            return archive[_choose(archive.files, target, path, "array")]
    except _UnclearChoiceError:
        raise
    except Exception as error:  # NumPy raises whatever a damaged file makes it stumble over
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path} holds pickled Python objects, which are not read because they can run any program. "
                "Save a plain array of numbers."
            ) from error
        raise ValueError(f"Cannot read {path} as an array ({error}). Download or save it again.") from error


def _read_mat(path: Path, target: ShapeTarget) -> np.ndarray:
    try:
        return _read_mat_7_3(path, target) if h5py.is_hdf5(path) else _read_mat_up_to_7_2(path, target)
    except _UnclearChoiceError:
        raise
    except Exception as error:  # both readers raise whatever a damaged file makes them stumble over
        raise ValueError(f"Cannot read {path} as a MATLAB file ({error}). Download or save it again.") from error


def _read_mat_up_to_7_2(path: Path, target: ShapeTarget) -> np.ndarray:
    names = [name for name, shape, _ in scipy.io.whosmat(path) if len(shape) == 3]
    name = _choose(names, target, path, "three-dimensional array")
    return scipy.io.loadmat(path, variable_names=[name])[name]


def _read_mat_7_3(path: Path, target: ShapeTarget) -> np.ndarray:
    with h5py.File(path, "r") as file:
        names = [name for name, entry in file.items() if isinstance(entry, h5py.Dataset) and entry.ndim == 3]
        # MATLAB counts the first axis fastest and HDF5 the last, so the axes are stored in reverse order.
        return file[_choose(names, target, path, "three-dimensional array")][()].T


class _UnclearChoiceError(ValueError):
    """A readable file does not tell which of its arrays is meant."""


def _choose(names: list[str], target: ShapeTarget, path: Path, kind: str) -> str:
    if len(names) == 1:
        return names[0]
    for name in ("occupancy" if target == "occupancy" else "sdf", "voxels"):
        if name in names:
            return name
    if not names:
        raise _UnclearChoiceError(f"{path} holds no {kind}. Save the grid of voxels in it.")
    raise _UnclearChoiceError(
        f'{path} holds several arrays: {", ".join(names)}. Save the grid alone, or under the name "voxels".'
    )
