"""Ray intersections and normals of the single shapes."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from iga_nerfstudio.scenes.shapes import Box, FloatArray, Frustum, Shape, Sphere, Torus

from .reference import first_crossing, is_inside_shape

SHAPES = [
    Sphere(0.7),
    Box((0.3, 0.5, 0.8)),
    Frustum(0.5, 0.5, 1.1),
    Frustum(0.6, 0.2, 0.9),
    Frustum(0.2, 0.6, 0.9),
    Frustum(0.6, 0.0, 0.8),
    Torus(0.6, 0.2),
]


def rays_at(target_radius: float, count: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Rays from distance 2, aimed at random points of a ball."""
    random = np.random.default_rng(seed)
    origins = random.normal(size=(count, 3))
    origins *= 2.0 / np.linalg.norm(origins, axis=1, keepdims=True)
    directions = random.uniform(-target_radius, target_radius, size=(count, 3)) - origins
    return origins, directions / np.linalg.norm(directions, axis=1, keepdims=True)


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_distances_match_brute_force_marching(shape: Shape) -> None:
    origins, directions = rays_at(0.8 * shape.bounding_radius, 80, seed=1)
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
    origins, directions = rays_at(0.5 * shape.bounding_radius, 50, seed=3)
    assert np.all(np.isinf(shape.intersect(origins, -directions)))


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_rays_along_the_axes(shape: Shape) -> None:
    offset = 0.01
    origins = np.array([[-2.0, offset, offset], [offset, -2.0, offset], [offset, offset, -2.0]])
    found = shape.intersect(origins, np.eye(3))
    inside = functools.partial(is_inside_shape, shape)
    expected = [
        first_crossing(inside, o, d, 0.0, 4.0, 0.002)
        for o, d in zip(origins.tolist(), np.eye(3).tolist(), strict=True)
    ]
    assert_allclose(found, expected, atol=2e-6)


def test_sphere_matches_closed_form() -> None:
    # Aimed 0.3 beside the centre, a ray enters a ball of radius 0.5 at a depth of 0.4 before the closest point.
    found = Sphere(0.5).intersect(np.array([[0.3, 0.0, -3.0]]), np.array([[0.0, 0.0, 1.0]]))
    assert_allclose(found, [2.6], atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_normals_are_perpendicular_to_the_surface_and_point_outward(shape: Shape) -> None:
    origins, directions = rays_at(0.8 * shape.bounding_radius, 200, seed=4)
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
