"""Grids of voxels: occupancy or signed distances, and the files that hold them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import h5py
import numpy as np
import scipy.io

from iga_nerfstudio.data.files import require_ending, require_file
from iga_nerfstudio.data.kinds import ShapeTarget

logger = logging.getLogger("iga_nerfstudio")

VOXEL_ENDINGS = (".npy", ".npz", ".mat")


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


def require_known_target(target: str) -> None:
    """Check what voxels are to hold.

    Args:
        target: Its name.

    Raises:
        ValueError: If there is none of that name.
    """
    if target not in get_args(ShapeTarget):
        raise ValueError(f'target must be "occupancy" or "distance", but it is {target!r}. Pass one of the two.')


def read_voxels(path: Path, target: ShapeTarget) -> VoxelGrid:
    """Read a grid of voxels.

    Args:
        path: ``.npy``; or ``.npz``, or ``.mat`` of any version, with one three-dimensional array. Of
            several arrays the one that is named after the target is read, ``occupancy`` or ``sdf``, or else
            ``voxels``.
        target: What the values are; see :func:`as_voxel_grid` for what is read.

    Returns:
        The grid in voxel units: its origin is 0 and its spacing 1.

    Raises:
        ValueError: If the file is missing, empty, damaged or of another kind, if it is not clear which array is meant,
            or if that array is no grid of the target.
    """
    path = Path(path)
    require_known_target(target)
    require_ending(path, VOXEL_ENDINGS)
    require_file(path)
    values = _read_mat(path, target) if path.suffix.lower() == ".mat" else _read_numpy(path, target)
    return as_voxel_grid(values, target, str(path))


def as_voxel_grid(values: np.ndarray, target: ShapeTarget, name: str = "The array") -> VoxelGrid:
    """Check an array of voxels and bring it to one form.

    Args:
        values: Voxels ``(n_x, n_y, n_z)`` of any real type. Further axes of length one are left out.

            Occupancy is 0 outside and, inside, 1 or any other positive number (255, say), which is then read as 1 and
            logged. Distances are negative inside; if all voxels at the grid's border are negative and others are not,
            they are positive inside, and their sign is changed and logged.
        target: What the values are.
        name: What the array is called in messages.

    Returns:
        The grid in voxel units: its origin is 0 and its spacing 1.

    Raises:
        ValueError: If the array is no grid of the target: of another type or shape, with values that are masked, not
            finite or out of range, with a shape that is nowhere or everywhere, or with occupancy all along its border.
    """
    require_known_target(target)
    if values.dtype.kind not in "buif":
        raise ValueError(f"{name} holds values of type {values.dtype}, {values.shape}. Save real numbers.")
    if not _is_grid(values.shape):
        raise ValueError(f"{name} must hold a grid of three axes, but its array is {values.shape}. Save (x, y, z).")
    if np.ma.is_masked(values):
        raise ValueError(f"{name} has {np.ma.count_masked(values)} masked values of {values.size}. Fill them first.")
    values = np.asarray(values)
    if values.ndim > 3:
        values = values.reshape([length for length in values.shape if length != 1])
    not_finite = values.size - np.count_nonzero(np.isfinite(values))
    if not_finite:
        raise ValueError(f"{name} has {not_finite} NaN or infinite values of {values.size}. Fill them first.")
    grid = _as_occupancy(values, name) if target == "occupancy" else _as_distances(values, name)
    return VoxelGrid(grid, target, (0.0, 0.0, 0.0), 1.0)


def _is_grid(shape: tuple[int, ...]) -> bool:
    """Whether an array has three axes, or three beside those of length one."""
    return 0 not in shape and (len(shape) == 3 or (len(shape) > 3 and sum(length != 1 for length in shape) == 3))


def _as_occupancy(values: np.ndarray, name: str) -> np.ndarray:
    inside = values != 0
    if not inside.any():
        _refuse_uniform(inside, name)
    lowest, highest = values[inside].min(), values[inside].max()
    if lowest != highest or highest <= 0:
        raise ValueError(
            f"{name} has values that range from {values.min()} to {values.max()}. Occupancy must be 0 or 1: "
            "for signed distances use --target distance, or else apply a threshold first."
        )
    _refuse_uniform(inside, name)
    if _border(inside).all():
        raise ValueError(
            f"{name} has every voxel at its border inside, and {inside.size - np.count_nonzero(inside)} in its middle "
            "outside, as if 1 was outside. Swap 0 and 1, or put a layer of 0 around the shape."
        )
    if highest != 1:
        logger.warning("%s has the values 0 and %s. They are read as 0 (outside) and 1 (inside).", name, highest)
    return np.ascontiguousarray(inside, dtype=np.uint8)


def _as_distances(values: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        distances = np.ascontiguousarray(values, dtype=np.float32)
    if not distances.min() < 0 < distances.max() or not np.isfinite(distances).all():
        raise ValueError(
            f"{name} has values that range from {values.min()} to {values.max()}. Signed distances must be negative "
            "inside, positive outside and within single precision. For values of 0 and 1 use --target occupancy."
        )
    share_inside = float((_border(distances) < 0).mean())
    if _border(distances).max() <= 0:
        logger.warning(
            "%s is negative all along its border, so positive inside. The sign of its distances is changed.", name
        )
        return -distances
    if share_inside > 0.5:
        logger.warning(
            "%s is negative, that is, inside, in %.0f %% of the voxels at its border. If its distances are positive "
            "inside, change their sign.",
            name,
            100 * share_inside,
        )
    return distances


def _border(values: np.ndarray) -> np.ndarray:
    """The outermost voxels on all sides, in one row."""
    is_border = np.ones(values.shape, bool)
    is_border[1:-1, 1:-1, 1:-1] = False
    return values[is_border]


def _read_numpy(path: Path, target: ShapeTarget) -> np.ndarray:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content as archive:
            # Beside others that say where the grid is.
            grids = [name for name in archive.files if _is_grid(_shape_within(archive, name))]
            return archive[_choose(grids or archive.files, target, path, "array")]
    except _UnclearChoiceError:
        raise
    except Exception as error:  # NumPy raises whatever a damaged file makes it stumble over
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path} holds pickled Python objects, which are not read because they can run any program. "
                "Save a plain array of numbers."
            ) from error
        raise ValueError(f"Cannot read {path} as an array ({error}). Download or save it again.") from error


def _shape_within(archive: np.lib.npyio.NpzFile, name: str) -> tuple[int, ...]:
    """The shape of an array of an archive, which is not read for it; of what is no array, that of none."""
    if f"{name}.npy" not in archive.zip.namelist():
        return ()
    with archive.zip.open(f"{name}.npy") as file:
        is_first = np.lib.format.read_magic(file) == (1, 0)
        read_header = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
        shape: tuple[int, ...] = read_header(file)[0]
        return shape


def _read_mat(path: Path, target: ShapeTarget) -> np.ndarray:
    try:
        return _read_mat_7_3(path, target) if h5py.is_hdf5(path) else _read_mat_up_to_7_2(path, target)
    except _UnclearChoiceError:
        raise
    except Exception as error:  # both readers raise whatever a damaged file makes them stumble over
        raise ValueError(f"Cannot read {path} as a MATLAB file ({error}). Download or save it again.") from error


def _read_mat_up_to_7_2(path: Path, target: ShapeTarget) -> np.ndarray:
    names = [name for name, shape, _ in scipy.io.whosmat(path) if _is_grid(shape)]
    name = _choose(names, target, path, "three-dimensional array")
    return scipy.io.loadmat(path, variable_names=[name])[name]


def _read_mat_7_3(path: Path, target: ShapeTarget) -> np.ndarray:
    with h5py.File(path, "r") as file:
        names = [name for name, entry in file.items() if isinstance(entry, h5py.Dataset) and _is_grid(entry.shape)]
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
