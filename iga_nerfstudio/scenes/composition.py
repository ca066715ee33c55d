"""The built-in scenes: which shapes stand where, and the casting of rays against all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from iga_nerfstudio.scenes import textures
from iga_nerfstudio.scenes.shapes import Box, FloatArray, Frustum, Shape, Sphere, Torus, dot
from iga_nerfstudio.scenes.textures import CHARCOAL, CREAM, NAVY, ORANGE, PLUM, RED, SKY, TEAL, YELLOW

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
        parts: Index into the scene's parts, ``(n,)``, -1 where nothing is hit.
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
_LIGHTHOUSE: tuple[Part, ...] = (
    Part(Frustum(1.2, 1.2, 0.16), textures.dial, _at(0.0, 0.0, -0.08), _turned(7.0)),
    Part(Box((0.27, 0.27, 0.27)), textures.printed_box, _at(0.47, -0.22, 0.27), _turned(28.0)),
    Part(Sphere(0.3), textures.ball, _at(-0.12, -0.52, 0.3), _turned(10.0), gloss=0.5),
    Part(Torus(0.28, 0.11), textures.ring, _at(-0.55, 0.12, 0.39), _upright(-60.0)),
    Part(Frustum(0.26, 0.17, 0.9), textures.lighthouse, _at(*_TOWER, 0.45), _turned(0.0)),
    Part(Frustum(0.24, 0.24, 0.06), textures.solid(NAVY), _at(*_TOWER, 0.93), _turned(0.0)),
    Part(Frustum(0.13, 0.13, 0.2), textures.lantern, _at(*_TOWER, 1.06), _turned(0.0)),
    Part(Frustum(0.2, 0.0, 0.22), textures.roof, _at(*_TOWER, 1.27), _turned(0.0)),
)

_UP = np.array([0.0, 0.0, 1.0])


def _tipped(degrees: float, towards: float) -> FloatArray:
    """Rotation that tips the z axis by ``degrees`` in direction ``towards``."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return _turned(towards) @ np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])


def _around(across: float, degrees: float, height: float) -> FloatArray:
    """World coordinates of a place at a distance from the z axis."""
    return np.array([across * np.cos(np.radians(degrees)), across * np.sin(np.radians(degrees)), height])


def _rod(
    start: FloatArray, end: FloatArray, radius: float, texture: textures.Texture, end_radius: float | None = None
) -> Part:
    """A round rod between two places, of one radius or narrowing to ``end_radius``."""
    x, y, z = end - start
    across = np.hypot(x, y)
    shape = Frustum(radius, radius if end_radius is None else end_radius, float(np.hypot(across, z)))
    rotation = _tipped(np.degrees(np.arctan2(across, z)), np.degrees(np.arctan2(y, x)))
    return Part(shape, texture, (start + end) / 2, rotation)


def _ball(radius: float, texture: textures.Texture, tip: float = 0.0, gloss: float = 0.0) -> Part:
    """A sphere at the origin, its poles tipped by some degrees."""
    return Part(Sphere(radius), texture, np.zeros(3), _tipped(tip, 37.0), gloss)


_IRON = textures.solid(CHARCOAL)
_MARKED = textures.bands(SKY, NAVY, 0.07)


def _planet(
    degrees: float, reach: float, height: float, post: float, ball: Part, weight: FloatArray
) -> tuple[Part, ...]:
    """A planet of the orrery with all that carries it.

    Args:
        degrees: Direction of the arm, which leaves the mast at ``height``.
        reach: Distance of the planet from the mast.
        height: World z coordinate of the arm.
        post: Height of the planet's centre above the arm, negative if it hangs below.
        ball: The planet, at the origin.
        weight: Colour of the counterweight's checks, ``(3,)``.

    Returns:
        Hub, arm, post, planet, counterweight.
    """
    radius = ball.shape.bounding_radius
    back, edge = 0.12 + 0.22 * reach, 0.035 + 0.25 * radius
    elbow, toward = _around(reach, degrees, height), np.sign(post) * _UP
    checks = textures.checks(CREAM, weight, 0.06)
    return (
        Part(Frustum(0.045, 0.045, 0.05), _IRON, height * _UP, _turned(0.0)),
        _rod(_around(-back, degrees, height), elbow, 0.012, _MARKED),
        _rod(elbow - 0.03 * toward, elbow + (abs(post) - radius) * toward, 0.012, _IRON),
        replace(ball, position=elbow + post * _UP),
        Part(Box((edge, edge, edge)), checks, _around(-back - edge, degrees, height), _turned(degrees)),
    )


_SUN = 0.66 * _UP
_MOON = _around(0.8, 252.0, 0.27) + 0.2 * _UP
_RINGED = _around(0.98, 325.0, 0.18)

# A thin thing in empty space, which is what most rays of a view go through.
_ORRERY: tuple[Part, ...] = (
    Part(Frustum(0.36, 0.32, 0.07), textures.clock_face, -1.08 * _UP, _turned(7.0)),
    _rod(-1.05 * _UP, 1.12 * _UP, 0.024, textures.bands(CREAM, RED, 0.1), 0.012),
    Part(Box((0.11, 0.008, 0.055)), textures.checks(CREAM, NAVY, 0.055), _around(0.13, 20.0, 1.125), _turned(20.0)),
    # The sun: a ball with rays in a cage of two rings.
    replace(_ball(0.16, textures.spots(YELLOW, ORANGE, 70, 0.12), gloss=0.3), position=_SUN),
    *(
        _rod(_SUN + _around(0.15, angle, 0.0), _SUN + _around(0.28, angle, 0.0), 0.03, textures.solid(ORANGE), 0.0)
        for angle in range(11, 360, 36)
    ),
    Part(Torus(0.36, 0.014), textures.ring, _SUN, _upright(25.0)),
    Part(Torus(0.36, 0.014), textures.ring, _SUN, _tipped(24.0, 70.0)),
    # The planets, the third with a moon, the fifth with rings.
    *_planet(25.0, 0.45, 0.20, 0.12, _ball(0.06, textures.spots(ORANGE, PLUM, 24, 0.26)), NAVY),
    *_planet(145.0, 0.62, 0.08, -0.20, _ball(0.09, textures.bands(TEAL, CREAM, 0.045), tip=30.0), RED),
    *_planet(252.0, 0.80, -0.05, 0.32, _ball(0.115, textures.ball, tip=23.0, gloss=0.4), TEAL),
    _rod(_MOON - 0.085 * _UP, _MOON, 0.01, _IRON),
    _rod(_MOON, _MOON + np.array([0.15, 0.05, 0.0]), 0.01, _IRON),
    replace(_ball(0.04, textures.solid(CREAM)), position=_MOON + np.array([0.18, 0.06, 0.0])),
    *_planet(80.0, 0.94, -0.34, 0.30, _ball(0.17, textures.bands(RED, CREAM, 0.07), tip=8.0), NAVY),
    *_planet(325.0, 0.98, -0.18, 0.36, _ball(0.125, textures.bands(YELLOW, ORANGE, 0.06), tip=26.0), PLUM),
    Part(Torus(0.19, 0.014), textures.ring, _RINGED, _tipped(26.0, 37.0)),
    Part(Torus(0.24, 0.014), textures.solid(CREAM), _RINGED, _tipped(26.0, 37.0)),
    # The great ring and its spokes.
    Part(Torus(1.12, 0.018), textures.ring, -0.58 * _UP, _turned(8.0)),
    *(_rod(_around(0.02, angle, -0.7), _around(1.11, angle, -0.58), 0.012, _MARKED) for angle in (50, 170, 290)),
)

SceneName = Literal["lighthouse", "orrery"]

SCENES: dict[str, tuple[Part, ...]] = {"lighthouse": _LIGHTHOUSE, "orrery": _ORRERY}
"""The parts of each built-in scene by its name; the names are those of ``SceneName``."""

# Everything in every scene lies within this distance of the origin.
SCENE_RADIUS = 1.4


def scene_parts(name: str) -> tuple[Part, ...]:
    """The parts of the built-in scene called ``name``.

    Raises:
        ValueError: If no scene has that name.
    """
    if name not in SCENES:
        raise ValueError(f"scene must be one of {', '.join(SCENES)}, but it is {name!r}. Choose one of these.")
    return SCENES[name]


def cast_rays(origins: FloatArray, directions: FloatArray, parts: Sequence[Part] = _LIGHTHOUSE) -> Hits:
    """First surface that each ray meets.

    Args:
        origins: Ray origins in world coordinates, ``(n, 3)``.
        directions: Unit ray directions, ``(n, 3)``.
        parts: The scene, those of the lighthouse by default.

    Returns:
        Distances and parts of the hits.
    """
    distances = np.full(len(origins), np.inf)
    hit_parts = np.full(len(origins), -1, dtype=np.int64)
    bundle = _RayBundle(origins, directions)
    for index, part in enumerate(parts):
        rays = bundle.near(part)
        found = _intersect_part(part, origins[rays], directions[rays])
        nearer = found < distances[rays]
        distances[rays[nearer]] = found[nearer]
        hit_parts[rays[nearer]] = index
    return Hits(distances, hit_parts)


def is_blocked(origins: FloatArray, direction: FloatArray, parts: Sequence[Part] = _LIGHTHOUSE) -> NDArray[np.bool_]:
    """Whether anything lies in a direction, for hard shadows.

    Args:
        origins: World coordinates just outside the surfaces, ``(n, 3)``.
        direction: Unit vector towards the light, ``(3,)``.
        parts: The scene, those of the lighthouse by default.

    Returns:
        True where the light is hidden, ``(n,)``.
    """
    blocked = np.zeros(len(origins), dtype=np.bool_)
    directions = np.broadcast_to(direction, origins.shape)
    bundle = _RayBundle(origins, directions)
    for part in parts:
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
