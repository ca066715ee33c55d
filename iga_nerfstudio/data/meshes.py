"""Files of triangle meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh

from iga_nerfstudio.data.files import read_file, require_ending
from iga_nerfstudio.data.glb import read_glb
from iga_nerfstudio.data.obj import read_obj
from iga_nerfstudio.data.ply import read_ply
from iga_nerfstudio.data.polygons import PolygonMesh
from iga_nerfstudio.data.stl import read_stl

MESH_ENDINGS = (".ply", ".obj", ".stl", ".glb")


def read_mesh(path: Path) -> trimesh.Trimesh:
    """Read a triangle mesh, with vertices at the same position merged into one.

    Args:
        path: ``.ply``, ``.obj``, ``.stl`` or ``.glb``. The parts of a GLB scene are put together as they are placed
            there. Polygons are cut into triangles, concave ones too.

    Returns:
        The mesh in the file's units, without colours and materials.

    Raises:
        ValueError: If the file is missing, empty, damaged or of another kind, if a part of its surface is stored in a
            way that is not read (it is named), or if the mesh has no faces, vertices that are not finite, or no extent.
    """
    path = Path(path)
    require_ending(path, MESH_ENDINGS)
    polygons = _read_polygons(path)
    if not (polygons.sizes >= 3).any():
        raise ValueError(f"{path} holds no faces: it is a point cloud, or cut short. Use a file with a surface.")
    lowest, highest = polygons.corners.min(), polygons.corners.max()
    if lowest < 0 or highest >= len(polygons.vertices):
        raise ValueError(
            f"The faces of {path} name vertices from {lowest} to {highest}, but it holds {len(polygons.vertices)}. "
            "Download or export it again."
        )
    # Those that no face names too: they show that the file is damaged.
    not_finite = int((~np.isfinite(polygons.vertices)).any(axis=1).sum())
    if not_finite:
        raise ValueError(f"{path} has {not_finite} vertices with NaN or infinite coordinates. Repair the mesh first.")
    merged = _with_merged_vertices(polygons.vertices, polygons.triangles())
    if merged.extents.max() == 0:
        raise ValueError(f"All vertices of {path} are at one point, {merged.vertices[0].tolist()}. Use another mesh.")
    return merged


def _read_polygons(path: Path) -> PolygonMesh:
    content = read_file(path)
    try:
        match path.suffix.lower():
            case ".obj":
                return read_obj(content)
            case ".stl":
                return read_stl(content)
            case ".ply":
                return read_ply(content)
        return read_glb(content, path)
    except ValueError as error:
        raise ValueError(f"Cannot read {path} as a mesh: {error}") from error


def _with_merged_vertices(vertices: np.ndarray, faces: np.ndarray) -> trimesh.Trimesh:
    """One vertex per position, as a mesh read from a soup of triangles (STL) has three of its own for each face.

    Positions must be equal exactly, because any tolerance would depend on the file's units.
    """
    positions, merged_index = np.unique(vertices, axis=0, return_inverse=True)
    merged = trimesh.Trimesh(positions, merged_index.reshape(-1)[faces], process=False)
    merged.remove_unreferenced_vertices()
    return merged
