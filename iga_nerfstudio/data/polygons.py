"""Polygons of mesh files and their triangles."""

from __future__ import annotations

from dataclasses import dataclass

import mapbox_earcut
import numpy as np


@dataclass(frozen=True, eq=False)
class PolygonMesh:
    """A surface as its file has it.

    Attributes:
        vertices: Positions ``(V, 3)``, float64.
        corners: Indices into the vertices, of all polygons one after the other, int64 ``(C,)``.
        sizes: Corners of each polygon, int64 ``(P,)``; they add up to C.
    """

    vertices: np.ndarray
    corners: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of_triangles(cls, vertices: np.ndarray, faces: np.ndarray) -> PolygonMesh:
        """The same as polygons: vertices ``(V, 3)`` and faces ``(F, 3)``."""
        return cls(np.asarray(vertices, np.float64), np.asarray(faces, np.int64).ravel(), np.full(len(faces), 3))

    def triangles(self) -> np.ndarray:
        """Triangles ``(F, 3)`` turned as the polygons are; polygons of less than three corners have none."""
        starts = np.cumsum(self.sizes) - self.sizes
        found = [np.empty((0, 3), np.int64)]
        for size in np.unique(self.sizes[self.sizes >= 3]):
            polygons = self.corners[starts[self.sizes == size, None] + np.arange(size)]
            fans = np.stack(
                [np.broadcast_to(polygons[:, :1], polygons[:, 2:].shape), polygons[:, 1:-1], polygons[:, 2:]]
            )
            fans = fans.transpose(1, 2, 0)
            folded = self._folded(fans)
            found.append(fans[~folded].reshape(-1, 3))
            found += [self._ears(polygon, fan) for polygon, fan in zip(polygons[folded], fans[folded], strict=True)]
        return np.concatenate(found)

    def _folded(self, fans: np.ndarray) -> np.ndarray:
        """Which fans ``(n, size - 2, 3)`` turn back, as those of concave polygons do: bool ``(n,)``."""
        areas = self._areas(fans)
        return ((areas * areas.sum(axis=1, keepdims=True)).sum(axis=-1) < 0).any(axis=1)

    def _areas(self, triangles: np.ndarray) -> np.ndarray:
        """Normals of triangles ``(..., 3)``, as long as twice their areas."""
        first, second, third = np.moveaxis(self.vertices[triangles], -2, 0)
        return np.cross(second - first, third - first)

    def _ears(self, polygon: np.ndarray, fan: np.ndarray) -> np.ndarray:
        """Triangles of a concave polygon; its fan where it crosses itself, which encloses the same."""
        area = self._areas(fan).sum(axis=0)
        # Seen along the axis that shows most of it. The order of the other two keeps the turn.
        axis = int(np.abs(area).argmax())
        points = self.vertices[polygon] - self.vertices[polygon[0]]
        plane = np.ascontiguousarray(points[:, [(axis + 1) % 3, (axis + 2) % 3]])
        ears = mapbox_earcut.triangulate_float64(plane, np.array([len(plane)], np.uint32)).reshape(-1, 3)
        triangles = polygon[ears.astype(np.int64)]
        found = self._areas(triangles).sum(axis=0)
        if found @ area < 0:
            triangles, found = triangles[:, ::-1], -found
        return triangles if np.allclose(found[axis], area[axis], rtol=1e-6, atol=0) else fan
