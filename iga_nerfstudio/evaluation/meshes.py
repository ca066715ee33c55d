"""Surfaces of learnt shapes: extraction, files, distances from the truth and pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import igl
import numpy as np
import torch
import trimesh
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes
from torch import Tensor
from torchmetrics.classification import BinaryJaccardIndex

from iga_nerfstudio.files import write_bytes

logger = logging.getLogger("iga_nerfstudio")

MESH_ENDINGS = (".ply", ".obj", ".glb", ".stl")

# What single precision may move of a mesh, relative to its size: some times what it does about the origin.
_MAX_ROUNDING = 1e-6
# Voxels compared at once: torchmetrics needs some 30 bytes for each.
_VOXELS_AT_ONCE = 1 << 22
# Rays per pixel along each axis of a picture.
_RAYS_PER_PIXEL = 2
# Dots per inch of a picture, by which matplotlib turns pixels into its lengths and back.
_DPI = 100
# Height of the line of titles in pixels.
_TITLE_HEIGHT = 36
# Half the width of a view in units of the half extent of what is in it, which leaves a rim.
_ZOOM = 1.05


def surface_from_grid(
    values: np.ndarray,
    level: float,
    origin: Sequence[float],
    spacing: float | Sequence[float],
    inside_is_above: bool,
) -> trimesh.Trimesh:
    """Surface on which the values of a grid cross a level, by marching cubes (Lewiner et al. 2003).

    The grid is taken to be surrounded by outside. A shape cut by its edge is closed half a voxel beyond the outermost
    centres, so the mesh is always closed.

    Args:
        values: Values at the voxels' centres ``(n_x, n_y, n_z)``, of any real type.
        level: Value on the surface.
        origin: Position of the centre of voxel (0, 0, 0), three numbers in the file's units.
        spacing: Distance between neighbouring centres in the file's units, one number or one per axis.
        inside_is_above: True where values above the level are inside, as for occupancy; False where values below it
            are, as for signed distances.

    Returns:
        The mesh in the file's units, its faces turned outwards.

    Raises:
        ValueError: If the values are no grid or not finite, or if they do not cross the level.
    """
    if values.ndim != 3:
        raise ValueError(f"values must be a grid of three axes, but they are {values.shape}. Pass (n_x, n_y, n_z).")
    if not np.isfinite(values).all():
        raise ValueError("Some of the values are NaN or infinite, so they have no surface. Check the training.")
    # The precision of marching cubes, so that all comparisons with the level come out the same.
    values, level = values.astype(np.float32), float(np.float32(level))
    inside = values > level if inside_is_above else values < level
    if not inside.any() or inside.all():
        place = "inside" if inside.any() else "outside"
        raise ValueError(
            f"No surface: all values are {place} the level {level}, they range from {values.min()} to {values.max()}. "
            "Choose another level or train longer."
        )
    vertices, faces, _, _ = marching_cubes(
        _with_outside_around(values, level, inside_is_above),
        level,
        # scikit-image turns faces by the left hand, trimesh by the right, hence the contrary of what the names say.
        gradient_direction="ascent" if inside_is_above else "descent",
    )
    steps = np.broadcast_to(np.asarray(spacing, dtype=np.float64), 3)
    return trimesh.Trimesh(np.asarray(origin) + (vertices.astype(np.float64) - 1) * steps, faces, process=False)


def _with_outside_around(values: np.ndarray, level: float, inside_is_above: bool) -> np.ndarray:
    """One more layer of voxels on each side, float32 ``(n_x + 2, n_y + 2, n_z + 2)``.

    The layer repeats the edge, mirrored at the level where the edge is inside: this puts the surface midway.
    """
    padded = np.pad(values, 1, mode="edge")
    outwards = np.float32(-1.0 if inside_is_above else 1.0)
    for axis in range(3):
        for side in (0, -1):
            layer = np.moveaxis(padded, axis, 0)[side]
            layer[:] = level + outwards * np.abs(layer - level)
    # Marching cubes leaves gaps around values that equal the level, so they go to the side they are counted to.
    padded[padded == level] = np.nextafter(np.float32(level), outwards * np.float32(np.inf))
    return padded


def write_mesh(mesh: trimesh.Trimesh, path: Path) -> None:
    """Write a mesh; an existing file is replaced only once the new one is complete.

    PLY and OBJ keep coordinates as they are, in double precision. GLB has single precision only: of a mesh that lies
    far from the origin it holds the coordinates from the mesh's middle on, and that middle as a translation. STL has
    single precision and no translation; what that loses of such a mesh is logged.

    Args:
        mesh: Mesh to write, without its colours.
        path: ``.ply``, ``.obj``, ``.glb`` or ``.stl``.

    Raises:
        ValueError: If the ending is another one, or if the file cannot be written.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in MESH_ENDINGS:
        raise ValueError(f"Cannot write {path}: the ending {path.suffix!r} is none of {', '.join(MESH_ENDINGS)}.")
    content = {".ply": _as_ply, ".obj": _as_obj, ".glb": _as_glb, ".stl": _as_stl}[ending](mesh)
    try:
        write_bytes(path, content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"Cannot write {path}: {reason}. Choose a folder that you may write to.") from error


def _as_ply(mesh: trimesh.Trimesh) -> bytes:
    """Binary PLY. trimesh writes single precision."""
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(mesh.vertices)}\n"
        "property double x\nproperty double y\nproperty double z\n"
        f"element face {len(mesh.faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    faces = np.empty(len(mesh.faces), [("size", "u1"), ("corners", "<i4", 3)])
    faces["size"], faces["corners"] = 3, mesh.faces
    return header.encode() + mesh.vertices.astype("<f8").tobytes() + faces.tobytes()


def _as_obj(mesh: trimesh.Trimesh) -> bytes:
    """OBJ with as many digits as each coordinate needs. trimesh writes a fixed number behind the point."""
    lines = [f"v {x!r} {y!r} {z!r}\n" for x, y, z in np.asarray(mesh.vertices, np.float64).tolist()]
    lines += [f"f {first} {second} {third}\n" for first, second, third in (np.asarray(mesh.faces) + 1).tolist()]
    return "".join(lines).encode()


def _as_glb(mesh: trimesh.Trimesh) -> bytes:
    """GLB, with the middle of a mesh far from the origin as the translation of its node."""
    is_far = _single_precision_error(mesh.vertices) > _MAX_ROUNDING * mesh.extents.max()
    middle = mesh.bounds.mean(axis=0) if is_far else np.zeros(3)
    near = trimesh.Trimesh(mesh.vertices - middle, mesh.faces, process=False)
    scene = trimesh.Scene()
    scene.add_geometry(near, transform=trimesh.transformations.translation_matrix(middle))
    return trimesh.exchange.gltf.export_glb(scene)


def _as_stl(mesh: trimesh.Trimesh) -> bytes:
    error, size = _single_precision_error(mesh.vertices), mesh.extents.max()
    if error > _MAX_ROUNDING * size:
        logger.warning(
            "STL has single precision only: it moves coordinates by up to %.2g, where the mesh is %.2g wide. "
            "Write PLY, OBJ or GLB to keep them.",
            error,
            size,
        )
    return trimesh.exchange.stl.export_stl(mesh)


def _single_precision_error(positions: np.ndarray) -> float:
    """How far single precision moves a coordinate at most."""
    return float(np.abs(positions - positions.astype(np.float32)).max())


def chamfer_distance(
    first: trimesh.Trimesh, second: trimesh.Trimesh, num_points: int = 100_000, seed: int = 0
) -> dict[str, float]:
    """Distances between two surfaces by points drawn evenly from each of them.

    With d(p) the distance of a point of one surface from the nearest point drawn from the other, and lengths such
    that half of the longest side of the second mesh's box is 1:

    * ``chamfer`` is the mean of the two directions' means of d.
    * ``chamfer_squared`` is the sum of the two directions' means of d squared.

    The points are drawn independently, so two equal surfaces are apart by about half the mean distance between
    neighbouring points, and not by zero.

    Args:
        first: Mesh to judge, in the units and the frame of the second.
        second: The truth.
        num_points: Points drawn from each surface, at least 1.
        seed: The same seed draws the same points.

    Returns:
        ``chamfer`` and ``chamfer_squared``.

    Raises:
        ValueError: If a mesh has no area, or if num_points is not positive.
    """
    if num_points < 1:
        raise ValueError(f"num_points must be at least 1, but it is {num_points}. Pass a larger number.")
    for name, mesh in (("first", first), ("second", second)):
        if not mesh.area > 0:
            raise ValueError(f"The {name} mesh has no area to draw points from. It has {len(mesh.faces)} faces.")
    scale = 2.0 / float(second.extents.max())
    seeds = np.random.SeedSequence(seed).generate_state(2)
    middle = second.bounds.mean(axis=0)
    points = [
        scale * (trimesh.sample.sample_surface(mesh, num_points, seed=int(own_seed))[0] - middle)
        for mesh, own_seed in zip((first, second), seeds, strict=True)
    ]
    there = cKDTree(points[1]).query(points[0])[0]
    back = cKDTree(points[0]).query(points[1])[0]
    return {
        "chamfer": float((there.mean() + back.mean()) / 2),
        "chamfer_squared": float((there**2).mean() + (back**2).mean()),
    }


def voxel_iou(prediction: Tensor | np.ndarray, truth: Tensor | np.ndarray) -> float:
    """Intersection over union of the voxels inside two shapes.

    Args:
        prediction: Voxels inside, bool of any shape.
        truth: Voxels inside, bool of the same shape.

    Returns:
        A number in [0, 1]; 1 where both shapes are empty, as they agree.

    Raises:
        ValueError: If the shapes differ or the values are not bool.
    """
    first, second = torch.as_tensor(prediction), torch.as_tensor(truth)
    if first.dtype != torch.bool or second.dtype != torch.bool:
        raise ValueError(f"Voxels inside must be bool, but they are {first.dtype} and {second.dtype}. Threshold them.")
    if first.shape != second.shape:
        raise ValueError(
            f"Both grids must have one shape, but they have {tuple(first.shape)} and {tuple(second.shape)}."
        )
    if not (first.any() or second.any()):
        return 1.0
    metric = BinaryJaccardIndex(validate_args=False).to(first.device)
    for part, true_part in zip(
        first.reshape(-1).split(_VOXELS_AT_ONCE), second.reshape(-1).split(_VOXELS_AT_ONCE), strict=True
    ):
        metric.update(part.int(), true_part.to(first.device).int())
    return float(metric.compute())


def mesh_picture(meshes: list[tuple[str, trimesh.Trimesh]], path: Path, size: int = 480) -> None:
    """Shaded pictures of some meshes side by side, from above and aside with the y axis up.

    All are seen through one orthographic camera whose view holds every mesh, so that they can be compared.

    Args:
        meshes: Title and mesh of each view, all in one frame.
        path: PNG to write.
        size: Width and height of a view in pixels.

    Raises:
        ValueError: If there is no mesh, or one of them has no faces.
    """
    if not meshes:
        raise ValueError("Need at least one mesh to draw.")
    for title, mesh in meshes:
        if len(mesh.faces) == 0:
            raise ValueError(f"The mesh {title!r} has no faces to draw.")
    camera = _camera()
    in_view = np.concatenate([mesh.vertices @ camera.T for _, mesh in meshes])
    lowest, highest = in_view.min(axis=0), in_view.max(axis=0)
    height = size + _TITLE_HEIGHT
    figure = Figure(figsize=(len(meshes) * size / _DPI, height / _DPI), dpi=_DPI)
    greys: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
    for column, (title, mesh) in enumerate(meshes):
        axis = figure.add_axes((column / len(meshes), 0, 1 / len(meshes), size / height))
        axis.imshow(_shaded_view(mesh, camera, lowest, highest, size), **greys)
        axis.set_axis_off()
        axis.set_title(title)
    figure.savefig(path, format="png")


def _camera() -> np.ndarray:
    """Rows right, up and towards the viewer, ``(3, 3)``: 30 degrees round the y axis, 20 degrees above the ground."""
    turn, lift = np.radians(30), np.radians(20)
    towards = np.array([np.sin(turn) * np.cos(lift), np.sin(lift), np.cos(turn) * np.cos(lift)])
    right = np.array([np.cos(turn), 0.0, -np.sin(turn)])
    return np.stack([right, np.cross(towards, right), towards])


def _shaded_view(
    mesh: trimesh.Trimesh, camera: np.ndarray, lowest: np.ndarray, highest: np.ndarray, size: int
) -> np.ndarray:
    """Greys in [0, 1], ``(size, size)``, by casting rays at the faces; ``lowest`` and ``highest`` bound the view."""
    half = float((highest - lowest)[:2].max()) / 2 * _ZOOM
    # Scaled to [-1, 1] before it gets to libigl, whose tolerances are absolute.
    vertices = np.ascontiguousarray((mesh.vertices @ camera.T - (lowest + highest) / 2) / half)
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int64)
    num_rays = size * _RAYS_PER_PIXEL
    across = (2 * np.arange(num_rays) + 1) / num_rays - 1
    x, y = np.meshgrid(across, -across)
    origins = np.stack([x, y, np.full_like(x, vertices[:, 2].max() + 1)], axis=-1).reshape(-1, 3)
    directions = np.broadcast_to([0.0, 0.0, -1.0], origins.shape)
    tree = igl.AABB()
    tree.init(vertices, faces)
    hit, _, _ = tree.intersect_ray_first(vertices, faces, origins, np.ascontiguousarray(directions))
    greys = np.append(_lambert(vertices, faces), 1.0)  # -1, no face hit, finds the white at the end
    return greys[hit].reshape(size, _RAYS_PER_PIXEL, size, _RAYS_PER_PIXEL).mean(axis=(1, 3))


def _lambert(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Grey of each face ``(F,)`` under a light from above the viewer's left shoulder."""
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    # Whichever side is seen is lit, so open meshes have no black faces.
    normals *= np.where(normals[:, 2:] < 0, -1.0, 1.0)
    light = np.array([-0.4, 0.5, 0.77])
    return 0.2 + 0.7 * np.clip(normals @ (light / np.linalg.norm(light)), 0, 1)
