"""Files of triangle meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh

from iga_nerfstudio.data.files import require_ending, require_file

MESH_ENDINGS = (".ply", ".obj", ".stl", ".glb")


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
    require_ending(path, MESH_ENDINGS)
    require_file(path)
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
