"""The earlier place of what reads pictures, for code that imports it from here; see :mod:`iga_nerfstudio.data`."""

from iga_nerfstudio.data.images import read_image, write_image

__all__ = ["read_image", "write_image"]
