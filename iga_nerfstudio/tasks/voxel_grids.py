"""The earlier place of what reads shapes, for code that imports it from here; see :mod:`iga_nerfstudio.data`."""

from iga_nerfstudio.data.meshes import read_mesh
from iga_nerfstudio.data.shapes import load_shape
from iga_nerfstudio.data.voxelisation import voxelise
from iga_nerfstudio.data.voxels import ShapeTarget, VoxelGrid, crop_to_shape, read_voxels

__all__ = ["ShapeTarget", "VoxelGrid", "crop_to_shape", "load_shape", "read_mesh", "read_voxels", "voxelise"]
