"""Faces of a mesh turned one way: second sides dropped, parts that are inside out turned round."""

from __future__ import annotations

import logging
from collections.abc import Callable

import igl
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

logger = logging.getLogger("iga_nerfstudio")

# Faces of a part at which its surroundings are looked at.
_SAMPLES = 64
# How far outside the part that is, in units of half the cube's side: above single precision, below a voxel.
_STEP = 1e-4
# Vector area of a part, relative to its area, up to which it encloses something; it is 0 without a hole, 1 for a sheet.
_MAX_HOLE = 0.1
# Volume relative to the cube of a part's size that is nothing but rounding.
_NO_VOLUME = 1e-9


def is_closed(faces: np.ndarray) -> bool:
    """Whether each edge is passed as often in one direction as in the other.

    Exactly then winding numbers are whole off the surface. Unlike trimesh's ``is_watertight`` this allows edges of four
    faces, which merged vertices bring about where two closed parts touch.

    Args:
        faces: Vertex indices ``(F, 3)``.
    """
    starts, ends = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    edge = _pair(np.minimum(starts, ends), np.maximum(starts, ends))
    return not np.bincount(edge, weights=np.sign(ends - starts)).any()


def count_two_sided(faces: np.ndarray) -> int:
    """How many of the faces ``(F, 3)`` are there in both directions, so that they enclose nothing."""
    return int(_two_sided(faces)[0].sum())


def without_second_sides(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Drop one of each two equal faces in parts that are double-sided all over, as exporters of such materials write.

    Args:
        vertices: Positions ``(V, 3)``.
        faces: Vertex indices ``(F, 3)``.

    Returns:
        The faces that are left. Double-sided sheets and fins, which enclose nothing, stay: their two sides cancel.
    """
    two_sided, is_copy = _two_sided(faces)
    if not is_copy.any():
        return faces
    part = _parts(faces)
    single = _with_consistent_patches(vertices, faces[~is_copy])
    is_hollow = (np.bincount(part, ~two_sided) == 0) & (_holes(vertices, single, part[~is_copy]) <= _MAX_HOLE)
    dropped = is_copy & is_hollow[part]
    left = faces.copy()
    left[~is_copy & is_hollow[part]] = single[is_hollow[part[~is_copy]]]
    if dropped.any():
        logger.warning(
            "The mesh is double-sided: %d of its %d faces are there in both directions. One of each is left out.",
            np.count_nonzero(two_sided & is_hollow[part]),
            len(faces),
        )
    return left[~dropped]


def turned_outwards(
    vertices: np.ndarray, faces: np.ndarray, winding_numbers: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Turn faces that are inside out, singly or as whole parts.

    A part that is turned inwards is a cavity where it lies within another part, and else inside out.

    Args:
        vertices: Positions ``(V, 3)``, scaled to the cube [-1, 1].
        faces: Vertex indices ``(F, 3)``.
        winding_numbers: Winding numbers ``(N,)`` of faces, its first argument, at points ``(N, 3)``.

    Returns:
        The faces. They are all turned inwards where most of the mesh was.
    """
    consistent = _with_consistent_patches(vertices, faces)
    turned = (consistent != faces).any(axis=1)
    if turned.any():
        logger.warning("%d of the mesh's %d faces are turned against their neighbours'.", turned.sum(), len(faces))
    patch = igl.orientable_patches(consistent)
    volumes = _volumes(vertices, consistent, patch)
    encloses = (_holes(vertices, consistent, patch) <= _MAX_HOLE) & (volumes != 0)
    volumes[~encloses] = 0
    sign = -1.0 if volumes.sum() < 0 else 1.0
    if not (sign * volumes < 0).any():
        return consistent
    around = _around(vertices, consistent, patch, np.sign(volumes), winding_numbers) * sign
    inside_out = encloses & ((around < -0.5) | ((around < 0.5) & (sign * volumes < 0)))
    turned = inside_out[patch]
    if turned.any():
        logger.warning(
            "Parts of the mesh are inside out, with %d of its %d faces. They are turned as the others are.",
            turned.sum(),
            len(faces),
        )
    return np.where(turned[:, None], consistent[:, ::-1], consistent)


def _around(
    vertices: np.ndarray,
    faces: np.ndarray,
    patch: np.ndarray,
    signs: np.ndarray,
    winding_numbers: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Mean winding number just outside of each patch that encloses something, ``(P,)``; ``signs`` are 0 elsewhere."""
    order = np.argsort(patch, kind="stable")
    starts = np.searchsorted(patch[order], np.arange(len(signs)))
    sizes = np.bincount(patch)
    chosen = [
        order[start + np.unique(np.linspace(0, size - 1, min(size, _SAMPLES)).astype(int))]
        for start, size in zip(starts[signs != 0], sizes[signs != 0], strict=True)
    ]
    index = np.concatenate(chosen)
    normals = _normals(vertices, faces[index])
    lengths = np.linalg.norm(normals, axis=1)
    index, normals = index[lengths > 0], normals[lengths > 0] / lengths[lengths > 0, None]
    outside = vertices[faces[index]].mean(axis=1) + _STEP * signs[patch[index], None] * normals
    numbers = np.bincount(patch[index], winding_numbers(faces, outside), len(signs))
    return numbers / np.maximum(np.bincount(patch[index], minlength=len(signs)), 1)


def _with_consistent_patches(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Faces turned as most of the area of their patch is: faces that hang together by edges of two faces."""
    oriented, patch = igl.bfs_orient(np.ascontiguousarray(faces))
    differs = (oriented != faces).any(axis=1)
    areas = np.linalg.norm(_normals(vertices, faces), axis=1)
    mostly_differs = np.bincount(patch, areas * differs) > np.bincount(patch, areas * ~differs)
    return np.where((differs != mostly_differs[patch])[:, None], faces[:, ::-1], faces)


def _parts(faces: np.ndarray) -> np.ndarray:
    """Number of the part of each face; parts have no vertex in common."""
    starts, ends = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    size = int(faces.max()) + 1
    _, part = connected_components(
        coo_matrix((np.ones(len(starts), bool), (starts, ends)), (size, size)), directed=False
    )
    return np.unique(part[faces[:, 0]], return_inverse=True)[1].reshape(-1)


def _two_sided(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which faces are as often turned one way as the other, and which of those are not the first: bool ``(F,)``."""
    lowest, middle, highest = np.sort(faces, axis=1).T
    same = _pair(_pair(lowest, middle), highest)
    column = faces.argmin(axis=1)
    rows = np.arange(len(faces))
    turn = np.sign(faces[rows, (column + 2) % 3] - faces[rows, (column + 1) % 3])
    is_proper = (lowest < middle) & (middle < highest)
    two_sided = is_proper & (np.bincount(same, turn) == 0)[same]
    is_first = np.zeros(len(faces), bool)
    is_first[np.unique(same, return_index=True)[1]] = True
    return two_sided, two_sided & ~is_first


def _pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A number for each pair of numbers, counted from 0."""
    return np.unique(first.astype(np.int64) * (int(second.max()) + 1) + second, return_inverse=True)[1].reshape(-1)


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals ``(F, 3)``, as long as twice the areas."""
    first, second, third = np.moveaxis(vertices[faces], 1, 0)
    return np.cross(second - first, third - first)


def _holes(vertices: np.ndarray, faces: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Vector area of each part relative to its area, ``(P,)``."""
    normals = _normals(vertices, faces)
    vector = np.stack([np.bincount(part, column) for column in normals.T], axis=1)
    area = np.bincount(part, np.linalg.norm(normals, axis=1))
    return np.divide(np.linalg.norm(vector, axis=1), area, out=np.ones(len(area)), where=area > 0)


def _volumes(vertices: np.ndarray, faces: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Signed volume of each part ``(P,)``, seen from its middle; 0 where it is nothing but rounding."""
    centres = vertices[faces].mean(axis=1)
    middle = np.stack([np.bincount(part, column) for column in centres.T], axis=1) / np.bincount(part)[:, None]
    normals = _normals(vertices, faces)
    volumes = np.bincount(part, (normals * (centres - middle[part])).sum(axis=1)) / 6
    size = np.sqrt(np.bincount(part, np.linalg.norm(normals, axis=1)))
    return np.where(np.abs(volumes) > _NO_VOLUME * size**3, volumes, 0.0)
