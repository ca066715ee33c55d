"""The built-in scene: which shapes stand where, and the casting of rays against all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iga_nerfstudio.scenes import textures
from iga_nerfstudio.scenes.shapes import Box, FloatArray, Frustum, Shape, Sphere, Torus, dot

_GROUND = -0.4
# Above the rounding of the culling's arithmetic.
_CULLING_SLACK = 1e-6


# Compared by identity: arrays have no single truth value.
@dataclass(frozen=True, eq=False)
class Part:
    """One textured shape at its place in the world.

    Attributes:
        shape: The solid in its own frame.
        texture: Colour of its surface in that frame.
        position: World coordinates of the frame's origin, ``(3,)``.
        rotation: Rotation from the frame to the world, ``(3, 3)``.
        gloss: Strength of the mirror-like highlight, 0 for a matte surface.
    """

    shape: Shape
    texture: textures.Texture
    position: FloatArray
    rotation: FloatArray
    gloss: float = 0.0


@dataclass(frozen=True)
class Hits:
    """Where rays meet the scene first.

    Attributes:
        distances: Distance from each ray's origin, ``(n,)``, infinite where nothing is hit.
        parts: Index into :data:`PARTS`, ``(n,)``, -1 where nothing is hit.
    """

    distances: FloatArray
    parts: NDArray[np.int64]


def _at(x: float, y: float, height: float) -> FloatArray:
    """World coordinates of a place ``height`` above the base."""
    return np.array([x, y, _GROUND + height])


def _turned(degrees: float) -> FloatArray:
    """Rotation around the vertical."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _upright(degrees: float) -> FloatArray:
    """Rotation that lays the z axis down in direction ``degrees`` and stands the y axis up."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[-sin, 0.0, cos], [cos, 0.0, sin], [0.0, 1.0, 0.0]])


_TOWER = (0.08, 0.42)

# The odd angles keep edges of the textures off the cameras' planes of symmetry, where rounding would decide.
PARTS: tuple[Part, ...] = (
    Part(Frustum(1.2, 1.2, 0.16), textures.dial, _at(0.0, 0.0, -0.08), _turned(7.0)),
    Part(Box((0.27, 0.27, 0.27)), textures.printed_box, _at(0.47, -0.22, 0.27), _turned(28.0)),
    Part(Sphere(0.3), textures.ball, _at(-0.12, -0.52, 0.3), _turned(10.0), gloss=0.5),
    Part(Torus(0.28, 0.11), textures.ring, _at(-0.55, 0.12, 0.39), _upright(-60.0)),
    Part(Frustum(0.26, 0.17, 0.9), textures.lighthouse, _at(*_TOWER, 0.45), _turned(0.0)),
    Part(Frustum(0.24, 0.24, 0.06), textures.solid(textures.NAVY), _at(*_TOWER, 0.93), _turned(0.0)),
    Part(Frustum(0.13, 0.13, 0.2), textures.lantern, _at(*_TOWER, 1.06), _turned(0.0)),
    Part(Frustum(0.2, 0.0, 0.22), textures.roof, _at(*_TOWER, 1.27), _turned(0.0)),
)

# Everything lies within this distance of the origin.
SCENE_RADIUS = 1.4


def cast_rays(origins: FloatArray, directions: FloatArray) -> Hits:
    """First surface that each ray meets.

    Args:
        origins: Ray origins in world coordinates, ``(n, 3)``.
        directions: Unit ray directions, ``(n, 3)``.

    Returns:
        Distances and parts of the hits.
    """
    distances = np.full(len(origins), np.inf)
    parts = np.full(len(origins), -1, dtype=np.int64)
    bundle = _RayBundle(origins, directions)
    for index, part in enumerate(PARTS):
        rays = bundle.near(part)
        found = _intersect_part(part, origins[rays], directions[rays])
        nearer = found < distances[rays]
        distances[rays[nearer]] = found[nearer]
        parts[rays[nearer]] = index
    return Hits(distances, parts)


def is_blocked(origins: FloatArray, direction: FloatArray) -> NDArray[np.bool_]:
    """Whether anything lies in a direction, for hard shadows.

    Args:
        origins: World coordinates just outside the surfaces, ``(n, 3)``.
        direction: Unit vector towards the light, ``(3,)``.

    Returns:
        True where the light is hidden, ``(n,)``.
    """
    blocked = np.zeros(len(origins), dtype=np.bool_)
    directions = np.broadcast_to(direction, origins.shape)
    bundle = _RayBundle(origins, directions)
    for part in PARTS:
        rays = bundle.near(part)
        rays = rays[~blocked[rays]]
        blocked[rays] = np.isfinite(_intersect_part(part, origins[rays], directions[rays]))
    return blocked


class _RayBundle:
    """Rays, sorted out cheaply by the parts' bounding balls: most rays are nowhere near most parts."""

    def __init__(self, origins: FloatArray, directions: FloatArray) -> None:
        self._origins = origins
        self._directions = directions
        self._along = dot(origins, directions)
        self._square = dot(origins, origins)

    def near(self, part: Part) -> NDArray[np.int64]:
        """Indices of the rays that meet the part's bounding ball in front of their origins."""
        center = part.position
        radius = part.shape.bounding_radius + _CULLING_SLACK
        # |o - c|^2 and (c - o) . d, expanded so that only products of matrices and vectors remain.
        square = self._square - 2.0 * (self._origins @ center) + center @ center
        ahead = self._directions @ center - self._along
        return np.flatnonzero((square - ahead**2 < radius**2) & (ahead > -radius))


def _intersect_part(part: Part, origins: FloatArray, directions: FloatArray) -> FloatArray:
    local_origins = (origins - part.position) @ part.rotation
    return part.shape.intersect(local_origins, directions @ part.rotation)
