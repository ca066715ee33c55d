"""Ray casting, against the scene's geometry written once more, one point at a time in plain Python."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from iga_nerfstudio.scenes import CAMERA_ANGLE_X, circle_cameras, hemisphere_cameras, render_view
from iga_nerfstudio.scenes.composition import SCENE_RADIUS, SCENES, cast_rays, is_blocked
from iga_nerfstudio.scenes.render import pixel_directions
from iga_nerfstudio.scenes.shapes import Box, FloatArray, Frustum, Shape, Sphere, Torus

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
    """Distance at which a ray first changes between outside and inside, infinite if it never does.

    Marches in fixed steps and bisects the one found; crossings in and out within one step are overlooked.
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


SHAPES = [
    Sphere(0.7),
    Box((0.3, 0.5, 0.8)),
    Frustum(0.5, 0.5, 1.1),
    Frustum(0.6, 0.2, 0.9),
    Frustum(0.2, 0.6, 0.9),
    Frustum(0.6, 0.0, 0.8),
    Torus(0.6, 0.2),
]


def rays_towards_shape(target_radius: float, count: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Rays from distance 2, aimed at random points of a ball."""
    random = np.random.default_rng(seed)
    origins = random.normal(size=(count, 3))
    origins *= 2.0 / np.linalg.norm(origins, axis=1, keepdims=True)
    directions = random.uniform(-target_radius, target_radius, size=(count, 3)) - origins
    return origins, directions / np.linalg.norm(directions, axis=1, keepdims=True)


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_distances_match_brute_force_marching(shape: Shape) -> None:
    origins, directions = rays_towards_shape(0.8 * shape.bounding_radius, 80, seed=1)
    found = shape.intersect(origins, directions)
    inside = functools.partial(is_inside_shape, shape)
    expected = [
        first_crossing(inside, o, d, 0.0, 4.0, 0.002)
        for o, d in zip(origins.tolist(), directions.tolist(), strict=True)
    ]
    assert_allclose(found, expected, atol=2e-6)
    assert 10 < np.isfinite(found).sum() < 80


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_rays_from_inside_find_the_exit(shape: Shape) -> None:
    random = np.random.default_rng(2)
    candidates = random.uniform(-1, 1, size=(400, 3)) * shape.bounding_radius
    origins = np.array([p for p in candidates if is_inside_shape(shape, p)])[:20]
    directions = random.normal(size=origins.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    inside = functools.partial(is_inside_shape, shape)
    expected = [
        first_crossing(inside, o, d, 0.0, 4.0, 0.002)
        for o, d in zip(origins.tolist(), directions.tolist(), strict=True)
    ]
    assert_allclose(shape.intersect(origins, directions), expected, atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_nothing_is_hit_behind_the_origin(shape: Shape) -> None:
    origins, directions = rays_towards_shape(0.5 * shape.bounding_radius, 50, seed=3)
    assert np.all(np.isinf(shape.intersect(origins, -directions)))


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_rays_along_the_axes(shape: Shape) -> None:
    offset = 0.01
    origins = np.array([[-2.0, offset, offset], [offset, -2.0, offset], [offset, offset, -2.0]])
    found = shape.intersect(origins, np.eye(3))
    inside = functools.partial(is_inside_shape, shape)
    expected = [
        first_crossing(inside, o, d, 0.0, 4.0, 0.002) for o, d in zip(origins.tolist(), np.eye(3).tolist(), strict=True)
    ]
    assert_allclose(found, expected, atol=2e-6)


def test_sphere_matches_closed_form() -> None:
    # Aimed 0.3 beside the centre, a ray enters a ball of radius 0.5 by 0.4 before the closest point.
    found = Sphere(0.5).intersect(np.array([[0.3, 0.0, -3.0]]), np.array([[0.0, 0.0, 1.0]]))
    assert_allclose(found, [2.6], atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_normals_are_perpendicular_to_the_surface_and_point_outward(shape: Shape) -> None:
    origins, directions = rays_towards_shape(0.8 * shape.bounding_radius, 200, seed=4)
    step = 1e-4
    across = np.cross(directions, np.array([0.3, 0.5, 0.8]))
    across *= step / np.linalg.norm(across, axis=1, keepdims=True)
    # Three parallel rays close together give two tangents of the surface.
    starts = [origins, origins + across, origins + np.cross(directions, across)]
    distances = [shape.intersect(start, directions) for start in starts]
    hit = np.all(np.isfinite(distances), axis=0)
    points = [start[hit] + d[hit, None] * directions[hit] for start, d in zip(starts, distances, strict=True)]
    expected = np.cross(points[1] - points[0], points[2] - points[0])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    normals = shape.normals(points[0])
    assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-9)
    # Rays that straddle an edge are allowed to disagree, but must be few.
    assert np.mean(np.abs(np.sum(normals * expected, axis=1)) > 0.999) > 0.95
    for point, normal in zip(points[0], normals, strict=True):
        assert not is_inside_shape(shape, point + 1e-4 * normal)
        assert is_inside_shape(shape, point - 1e-4 * normal)


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_bounding_radius_is_tight(shape: Shape) -> None:
    points = np.random.default_rng(5).uniform(-1.2, 1.2, size=(20_000, 3)) * shape.bounding_radius
    reach = max(math.dist(p, (0, 0, 0)) for p in points.tolist() if is_inside_shape(shape, p))
    assert 0.9 * shape.bounding_radius < reach <= shape.bounding_radius


PLACES = {
    scene: [(part.shape, part.shape.bounding_radius, part.position.tolist(), part.rotation.tolist()) for part in parts]
    for scene, parts in SCENES.items()
}
every_scene = pytest.mark.parametrize("scene", SCENES)


def parts_around(point: Point, scene: str = "lighthouse") -> list[int]:
    """Indices of the parts that contain a point."""
    return [
        index
        for index, (shape, reach, position, axes) in enumerate(PLACES[scene])
        # Only for speed; that the bounding radius bounds is tested above.
        if math.dist(point, position) <= reach and is_inside_shape(shape, to_frame(point, position, axes))
    ]


def is_inside_scene(point: Point) -> bool:
    return bool(parts_around(point))


def march(origin: list[float], direction: list[float], end: float = 6.5) -> float:
    """Brute-force distance to the scene; rays are only marched where they are near it."""
    closest = -sum(o * d for o, d in zip(origin, direction, strict=True))
    start = max(0.0, closest - 1.4)
    return first_crossing(is_inside_scene, origin, direction, start, min(end, closest + 1.4), 0.004)


def random_rays(count: int, seed: int) -> tuple[FloatArray, FloatArray]:
    random = np.random.default_rng(seed)
    origins = random.normal(size=(count, 3))
    origins *= random.uniform(2.0, 4.5, size=(count, 1)) / np.linalg.norm(origins, axis=1, keepdims=True)
    directions = random.uniform(-1.0, 1.0, size=(count, 3)) - origins
    return origins, directions / np.linalg.norm(directions, axis=1, keepdims=True)


class TestRayCasting:
    def test_distances_match_brute_force_marching(self) -> None:
        origins, directions = random_rays(150, seed=0)
        hits = cast_rays(origins, directions)
        expected = [march(o, d) for o, d in zip(origins.tolist(), directions.tolist(), strict=True)]
        assert_allclose(hits.distances, expected, atol=2e-6)
        assert {-1, *range(6)} <= set(hits.parts)

    @every_scene
    def test_hits_name_the_part_they_lie_on(self, scene: str) -> None:
        origins, directions = random_rays(300, seed=1)
        hits = cast_rays(origins, directions, SCENES[scene])
        assert len(set(hits.parts)) > 6
        assert_array_equal(hits.parts >= 0, np.isfinite(hits.distances))
        for i in np.flatnonzero(hits.parts >= 0):
            beyond = along(origins[i].tolist(), directions[i].tolist(), float(hits.distances[i]) + 1e-5)
            assert parts_around(beyond, scene) == [hits.parts[i]]

    def test_shadows_match_brute_force_marching(self) -> None:
        origins, directions = random_rays(200, seed=2)
        hits = cast_rays(origins, directions)
        hit = hits.parts >= 0
        points = origins[hit] + (hits.distances[hit, None] - 1e-3) * directions[hit]
        light = np.array([0.4, -0.5, math.sqrt(1.0 - 0.41)])
        expected = [
            math.isfinite(first_crossing(is_inside_scene, p, light.tolist(), 0.0, 2.0, 0.004))
            for p in points[:60].tolist()
        ]
        assert_array_equal(is_blocked(points[:60], light), expected)
        assert 5 < sum(expected) < 55

    @every_scene
    def test_everything_lies_between_the_usual_near_and_far_planes(self, scene: str) -> None:
        for camera in (*hemisphere_cameras(6), *circle_cameras(3)):
            columns, rows = (places.ravel() + 0.5 for places in np.meshgrid(np.arange(48.0), np.arange(48.0)))
            directions = pixel_directions(camera, 48, CAMERA_ANGLE_X, columns, rows)
            origins = np.broadcast_to(camera[:3, 3], directions.shape)
            distances = cast_rays(origins, directions, SCENES[scene]).distances
            hit = np.isfinite(distances)
            points = origins[hit] + distances[hit, None] * directions[hit]
            assert 2.0 < distances[hit].min() < distances[hit].max() < 6.0
            assert np.abs(points).max() <= 1.2 + 1e-9
            assert np.linalg.norm(points, axis=1).max() < SCENE_RADIUS

    @pytest.mark.parametrize(("scene", "rays"), [("lighthouse", 4000), ("orrery", 30_000)])
    def test_every_part_can_be_seen(self, scene: str, rays: int) -> None:
        parts_seen = set(cast_rays(*random_rays(rays, seed=3), SCENES[scene]).parts)
        assert parts_seen == set(range(-1, len(SCENES[scene])))

    def test_no_part_lies_in_another(self) -> None:
        points = np.random.default_rng(4).uniform(-1.2, 1.2, size=(4000, 3)).tolist()
        assert max(len(parts_around(point)) for point in points) == 1


def covered_fraction(row: int, column: int, resolution: int) -> float:
    """Alpha of a pixel by plain trigonometry and marching, 30 degrees up and 45 degrees around."""
    elevation, azimuth = math.radians(30), math.radians(45)
    level, height = math.cos(elevation), math.sin(elevation)
    outward = [level * math.sin(azimuth), -level * math.cos(azimuth), height]
    right = [math.cos(azimuth), math.sin(azimuth), 0.0]
    up = [-height * math.sin(azimuth), height * math.cos(azimuth), level]
    half_width = math.tan(0.6911112 / 2)
    hits = 0
    for sample in range(9):
        u = (column + (sample % 3 + 0.5) / 3) / resolution * 2.0 - 1.0
        v = 1.0 - (row + (sample // 3 + 0.5) / 3) / resolution * 2.0
        toward = [half_width * (u * right[i] + v * up[i]) - outward[i] for i in range(3)]
        norm = math.hypot(*toward)
        hits += math.isfinite(march([4.0311 * c for c in outward], [c / norm for c in toward]))
    return hits / 9


def test_alpha_is_the_fraction_of_rays_that_hit() -> None:
    alpha = render_view(circle_cameras(8)[1], 32)[..., 3]
    kinds = [np.argwhere(alpha == 0.0), np.argwhere(alpha == 1.0), np.argwhere((alpha > 0) & (alpha < 1))]
    random = np.random.default_rng(5)
    for row, column in np.concatenate([random.permutation(kind)[:5] for kind in kinds]).tolist():
        assert alpha[row, column] == pytest.approx(covered_fraction(row, column, 32), abs=1e-12)
