"""The scene's geometry once more, one point at a time in plain Python, without the package's ray casting."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from iga_nerfstudio.scenes.shapes import Box, Frustum, Shape, Sphere, Torus

Point = Sequence[float]


def is_inside_shape(shape: Shape, point: Point) -> bool:
    """Whether a point of the shape's own frame lies in the solid."""
    x, y, z = point
    if isinstance(shape, Sphere):
        return math.dist(point, (0.0, 0.0, 0.0)) < shape.radius
    if isinstance(shape, Box):
        return all(abs(value) < half for value, half in zip(point, shape.half_size, strict=True))
    if isinstance(shape, Frustum):
        share = z / shape.height + 0.5
        radius = (1.0 - share) * shape.bottom_radius + share * shape.top_radius
        return 0.0 < share < 1.0 and math.hypot(x, y) < radius
    if isinstance(shape, Torus):
        return math.hypot(math.hypot(x, y) - shape.ring_radius, z) < shape.tube_radius
    raise TypeError(f"unknown shape {shape}")


def to_frame(point: Point, position: Point, rotation: Sequence[Point]) -> list[float]:
    """World coordinates to those of a frame whose axes are the columns of ``rotation``."""
    offset = [point[i] - position[i] for i in range(3)]
    return [sum(rotation[i][axis] * offset[i] for i in range(3)) for axis in range(3)]


def along(origin: Point, direction: Point, distance: float) -> list[float]:
    """The point at a distance along a ray."""
    return [origin[i] + distance * direction[i] for i in range(3)]


def first_crossing(
    is_inside: Callable[[Point], bool], origin: Point, direction: Point, start: float, end: float, step: float
) -> float:
    """Distance at which a ray first changes between outside and inside, infinite if it does not before ``end``.

    Marches in fixed steps, so crossings in and out within one step are overlooked, and bisects the step found.
    """
    began_inside = is_inside(along(origin, direction, start))
    for i in range(1, int((end - start) / step) + 1):
        if is_inside(along(origin, direction, start + i * step)) != began_inside:
            low, high = start + (i - 1) * step, start + i * step
            while high - low > 1e-10:
                middle = 0.5 * (low + high)
                if is_inside(along(origin, direction, middle)) == began_inside:
                    low = middle
                else:
                    high = middle
            return high
    return math.inf
