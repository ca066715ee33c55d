"""Solid shapes with exact ray intersections: sphere, box, frustum (cylinder, cone, disc) and torus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Crossings nearer than this are taken for the surface that the ray starts on.
NEAREST_CROSSING = 1e-6
# Keeps divisions by a direction's zero component finite without changing any visible result.
_SMALLEST_DIVISOR = 1e-12
_MARCH_TOLERANCE = 1e-7
_MARCH_STEPS = 256


class Shape(Protocol):
    """A closed solid around the origin of its own coordinate frame."""

    @property
    def bounding_radius(self) -> float:
        """Radius of a ball around the origin that contains the solid."""
        ...

    def intersect(self, origins: FloatArray, directions: FloatArray) -> FloatArray:
        """Distance along each ray to its nearest crossing of the surface.

        Args:
            origins: Ray origins, ``(n, 3)``.
            directions: Unit ray directions, ``(n, 3)``.

        Returns:
            Distances, ``(n,)``; infinite where the ray misses.
        """
        ...

    def normals(self, points: FloatArray) -> FloatArray:
        """Outward unit normals at surface points; both ``(n, 3)``."""
        ...


def dot(a: FloatArray, b: FloatArray) -> FloatArray:
    """Row-wise scalar product of two ``(n, 3)`` arrays, ``(n,)``."""
    return np.einsum("ij,ij->i", a, b)


def length(x: FloatArray, y: FloatArray) -> FloatArray:
    """Length of the vectors (x, y), several times faster than :func:`numpy.hypot`; all ``(n,)``."""
    return np.sqrt(x * x + y * y)


def ball_crossings(origins: FloatArray, directions: FloatArray, radius: float) -> tuple[FloatArray, FloatArray]:
    """Where rays enter and leave the ball of ``radius`` around the origin.

    Args:
        origins: Ray origins, ``(n, 3)``.
        directions: Unit ray directions, ``(n, 3)``.
        radius: Radius of the ball.

    Returns:
        Entry and exit distances, ``(n,)`` each, negative behind the origin, infinite where the line misses.
    """
    middle = -dot(origins, directions)
    square = radius**2 - dot(origins, origins) + middle**2
    half = np.sqrt(np.maximum(square, 0.0))
    missed = square < 0.0
    return np.where(missed, np.inf, middle - half), np.where(missed, np.inf, middle + half)


def _nearest_valid(distances: FloatArray, valid: NDArray[np.bool_]) -> FloatArray:
    """Smallest valid distance of each column that lies in front of the origin, infinite if there is none."""
    return np.where(valid & (distances > NEAREST_CROSSING), distances, np.inf).min(axis=0)


def _away_from_zero(values: FloatArray) -> FloatArray:
    return np.where(np.abs(values) < _SMALLEST_DIVISOR, _SMALLEST_DIVISOR, values)


@dataclass(frozen=True)
class Sphere:
    """Ball of ``radius``."""

    radius: float

    @property
    def bounding_radius(self) -> float:
        """The radius itself."""
        return self.radius

    def intersect(self, origins: FloatArray, directions: FloatArray) -> FloatArray:
        """See :meth:`Shape.intersect`."""
        crossings = np.stack(ball_crossings(origins, directions, self.radius))
        return _nearest_valid(crossings, np.isfinite(crossings))

    def normals(self, points: FloatArray) -> FloatArray:
        """See :meth:`Shape.normals`."""
        return points / self.radius


@dataclass(frozen=True)
class Box:
    """Axis-aligned box with half edge lengths ``half_size`` along x, y and z."""

    half_size: tuple[float, float, float]

    @property
    def bounding_radius(self) -> float:
        """Distance from the centre to a corner."""
        return float(np.sqrt(np.sum(np.square(self.half_size))))

    def intersect(self, origins: FloatArray, directions: FloatArray) -> FloatArray:
        """See :meth:`Shape.intersect`."""
        divisors = _away_from_zero(directions)
        to_lower = (-np.array(self.half_size) - origins) / divisors
        to_upper = (np.array(self.half_size) - origins) / divisors
        crossings = np.stack([np.minimum(to_lower, to_upper).max(axis=1), np.maximum(to_lower, to_upper).min(axis=1)])
        return _nearest_valid(crossings, crossings[0] <= crossings[1])

    def normals(self, points: FloatArray) -> FloatArray:
        """See :meth:`Shape.normals`."""
        axes = np.argmax(np.abs(points) / np.array(self.half_size), axis=1)
        rows = np.arange(len(points))
        normals = np.zeros_like(points)
        normals[rows, axes] = np.sign(points[rows, axes])
        return normals


@dataclass(frozen=True)
class Frustum:
    """Capped cone around the z axis, centred in height; equal radii make a cylinder, top radius 0 a cone."""

    bottom_radius: float
    top_radius: float
    height: float

    @property
    def bounding_radius(self) -> float:
        """Distance from the centre to the wider rim."""
        return float(np.hypot(self.height / 2, max(self.bottom_radius, self.top_radius)))

    @property
    def slope(self) -> float:
        """Change of the radius per unit of height."""
        return (self.top_radius - self.bottom_radius) / self.height

    def radius_at(self, z: FloatArray) -> FloatArray:
        """Radius of the side surface (extended beyond the caps) at heights ``z``."""
        return (self.bottom_radius + self.top_radius) / 2 + self.slope * z

    def intersect(self, origins: FloatArray, directions: FloatArray) -> FloatArray:
        """See :meth:`Shape.intersect`."""
        side, side_valid = self._side_crossings(origins, directions)
        caps, caps_valid = self._cap_crossings(origins, directions)
        return _nearest_valid(np.concatenate([side, caps]), np.concatenate([side_valid, caps_valid]))

    def _side_crossings(self, origins: FloatArray, directions: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        x, y, z = origins.T
        dx, dy, dz = directions.T
        radius = self.radius_at(z)
        a = dx**2 + dy**2 - (self.slope * dz) ** 2
        half_b = x * dx + y * dy - self.slope * dz * radius
        c = x**2 + y**2 - radius**2
        square = half_b**2 - a * c
        # The two roots in the form that does not cancel when a is small (rays nearly parallel to the side).
        q = -(half_b + np.copysign(np.sqrt(np.maximum(square, 0.0)), half_b))
        crossings = np.stack([q / _away_from_zero(a), c / _away_from_zero(q)])
        within = np.abs(z + crossings * dz) <= self.height / 2
        return crossings, within & (square >= 0.0)

    def _cap_crossings(self, origins: FloatArray, directions: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        caps = np.array([[-self.height / 2], [self.height / 2]])
        radii = np.array([[self.bottom_radius], [self.top_radius]])
        crossings = (caps - origins[:, 2]) / _away_from_zero(directions[:, 2])
        x = origins[:, 0] + crossings * directions[:, 0]
        y = origins[:, 1] + crossings * directions[:, 1]
        return crossings, x**2 + y**2 <= radii**2

    def normals(self, points: FloatArray) -> FloatArray:
        """See :meth:`Shape.normals`."""
        across = length(points[:, 0], points[:, 1])
        to_cap = np.abs(np.abs(points[:, 2]) - self.height / 2)
        on_cap = to_cap < np.abs(across - self.radius_at(points[:, 2]))
        side = np.column_stack([points[:, :2] / _away_from_zero(across)[:, None], np.full(len(points), -self.slope)])
        side /= np.hypot(1.0, self.slope)
        cap = np.column_stack([np.zeros((len(points), 2)), np.sign(points[:, 2])])
        return np.where(on_cap[:, None], cap, side)


@dataclass(frozen=True)
class Torus:
    """Ring around the z axis: a tube of ``tube_radius`` along a circle of ``ring_radius`` in the xy plane."""

    ring_radius: float
    tube_radius: float

    @property
    def bounding_radius(self) -> float:
        """Outer radius of the ring."""
        return self.ring_radius + self.tube_radius

    def signed_distance(self, points: FloatArray) -> FloatArray:
        """Distance to the surface, negative inside the tube; ``(n, 3)`` to ``(n,)``."""
        from_circle = length(points[:, 0], points[:, 1]) - self.ring_radius
        return length(from_circle, points[:, 2]) - self.tube_radius

    def intersect(self, origins: FloatArray, directions: FloatArray) -> FloatArray:
        """See :meth:`Shape.intersect`."""
        # Marching by the exact distance is steadier than solving for the quartic's roots.
        entry, leave = ball_crossings(origins, directions, self.bounding_radius)
        distances = np.full(len(origins), np.inf)
        active = np.flatnonzero(np.isfinite(entry) & (leave > 0.0))
        travelled = np.maximum(entry[active], 0.0)
        for _ in range(_MARCH_STEPS):
            if not len(active):
                break
            step = np.abs(self.signed_distance(origins[active] + travelled[:, None] * directions[active]))
            arrived = step < _MARCH_TOLERANCE
            distances[active[arrived]] = travelled[arrived]
            travelled = travelled + step
            going_on = ~arrived & (travelled < leave[active])
            active, travelled = active[going_on], travelled[going_on]
        return distances

    def normals(self, points: FloatArray) -> FloatArray:
        """See :meth:`Shape.normals`."""
        across = _away_from_zero(length(points[:, 0], points[:, 1]))
        outward = 1.0 - self.ring_radius / across
        offsets = np.column_stack([points[:, :2] * outward[:, None], points[:, 2]])
        return offsets / np.sqrt(dot(offsets, offsets))[:, None]
