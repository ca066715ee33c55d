"""Cameras around the built-in scenes and the rendering of views of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from iga_nerfstudio.scenes.composition import SCENE_RADIUS, Part, cast_rays, is_blocked, scene_parts
from iga_nerfstudio.scenes.shapes import FloatArray, ball_crossings, dot

CAMERA_ANGLE_X = 0.6911112
"""Horizontal field of view of the Blender NeRF-synthetic scenes, in radians."""
CAMERA_DISTANCE = 4.0311
"""Distance of their cameras from the origin, in scene units."""
MIN_RESOLUTION = 8
"""Smallest edge length of a view in pixels."""

_SAMPLES_PER_EDGE = 3
_RAYS_AT_ONCE = 1 << 16
_TEST_ELEVATION = 30.0
# Sines of the lowest and highest elevation; straight down, no direction of the picture would be up.
_ELEVATION_SINES = (0.08, 0.98)

_LIGHT = np.array([0.45, -0.62, 0.95]) / np.sqrt(0.45**2 + 0.62**2 + 0.95**2)
_LIGHT_COLOR = np.array([1.0, 0.97, 0.90]) * 0.8
_SKY_COLOR = np.array([0.40, 0.43, 0.48])
_BOUNCE_COLOR = np.array([0.24, 0.21, 0.18])
_HIGHLIGHT_EXPONENT = 40.0
_SHADOW_OFFSET = 1e-4


def look_at_origin(position: FloatArray) -> FloatArray:
    """Camera at a position, looking at the origin with the world's z axis up in the picture.

    Args:
        position: World coordinates, ``(3,)``, not on the z axis.

    Returns:
        Camera-to-world matrix, ``(4, 4)``, OpenGL convention (looks along -z, y up).

    Raises:
        ValueError: If the position lies on the z axis, where no picture direction is up.
    """
    if np.hypot(position[0], position[1]) < 1e-9:
        raise ValueError(f"A camera on the z axis has no upward direction: {position}. Move it off the axis.")
    backward = position / np.linalg.norm(position)
    right = np.cross(np.array([0.0, 0.0, 1.0]), backward)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([right, np.cross(backward, right), backward, position])
    return matrix


def hemisphere_cameras(count: int, turn: float = 0.0) -> FloatArray:
    """Cameras spread evenly over the upper hemisphere along a golden spiral.

    Args:
        count: Number of cameras.
        turn: Angle by which the spiral is turned around the z axis, in radians.

    Returns:
        Camera-to-world matrices, ``(count, 4, 4)``.

    Raises:
        ValueError: If the count is negative.
    """
    _validate_count(count)
    index = np.arange(count)
    low, high = _ELEVATION_SINES
    sines = low + (high - low) * (index + 0.5) / max(count, 1)
    return _cameras_at(np.arcsin(sines), turn + index * np.pi * (3.0 - np.sqrt(5.0)))


def circle_cameras(count: int) -> FloatArray:
    """Cameras at equal steps on a circle 30 degrees above the horizon.

    Args:
        count: Number of cameras.

    Returns:
        Camera-to-world matrices, ``(count, 4, 4)``.

    Raises:
        ValueError: If the count is negative.
    """
    _validate_count(count)
    azimuths = 2.0 * np.pi * np.arange(count) / max(count, 1)
    return _cameras_at(np.full(count, np.radians(_TEST_ELEVATION)), azimuths)


def _validate_count(count: int) -> None:
    if count < 0:
        raise ValueError(f"The number of cameras must not be negative, but it is {count}. Pass 0 or more.")


def _cameras_at(elevations: FloatArray, azimuths: FloatArray) -> FloatArray:
    across = np.cos(elevations)
    positions = np.column_stack([across * np.sin(azimuths), -across * np.cos(azimuths), np.sin(elevations)])
    return np.array([look_at_origin(CAMERA_DISTANCE * position) for position in positions]).reshape(-1, 4, 4)


def render_view(
    camera_to_world: FloatArray,
    resolution: int,
    camera_angle_x: float = CAMERA_ANGLE_X,
    scene: str = "lighthouse",
) -> FloatArray:
    """Render a view of a built-in scene.

    Args:
        camera_to_world: Camera matrix, ``(4, 4)``, OpenGL convention (looks along -z, y up).
        resolution: Width and height of the view in pixels, at least 8.
        camera_angle_x: Field of view in radians, between 0 and pi.
        scene: Name of the scene, a key of :data:`~iga_nerfstudio.scenes.composition.SCENES`.

    Returns:
        RGBA image, ``(resolution, resolution, 4)``, in [0, 1], rows from top to bottom: sRGB colour of the
        covered part of each pixel (not multiplied by alpha; 0 where alpha is 0), then the covered fraction.

    Raises:
        ValueError: If an argument has the wrong shape or lies outside its range, or no scene has that name.
    """
    camera_to_world = np.asarray(camera_to_world, dtype=np.float64)
    _validate_view(camera_to_world, resolution, camera_angle_x)
    parts = scene_parts(scene)
    rows_at_once = max(1, _RAYS_AT_ONCE // (resolution * _SAMPLES_PER_EDGE**2))
    bands = [
        _render_rows(parts, camera_to_world, resolution, camera_angle_x, first, min(first + rows_at_once, resolution))
        for first in range(0, resolution, rows_at_once)
    ]
    return np.concatenate(bands)


def pixel_directions(
    camera_to_world: FloatArray, resolution: int, camera_angle_x: float, columns: FloatArray, rows: FloatArray
) -> FloatArray:
    """Unit ray directions through places in the picture.

    Args:
        camera_to_world: Camera matrix, ``(4, 4)``.
        resolution: Width and height of the view in pixels.
        camera_angle_x: Field of view in radians.
        columns: Horizontal places in pixels from the left edge, ``(n,)``; pixel centres are at halves.
        rows: Vertical places in pixels from the top edge, ``(n,)``.

    Returns:
        World directions, ``(n, 3)``.
    """
    focal_length = 0.5 * resolution / np.tan(0.5 * camera_angle_x)
    x = (columns - 0.5 * resolution) / focal_length
    y = (0.5 * resolution - rows) / focal_length
    directions = np.column_stack([x, y, np.full_like(x, -1.0)]) @ camera_to_world[:3, :3].T
    return directions / np.sqrt(dot(directions, directions))[:, None]


def _validate_view(camera_to_world: FloatArray, resolution: int, camera_angle_x: float) -> None:
    if camera_to_world.shape != (4, 4):
        raise ValueError(f"camera_to_world must be a 4 x 4 matrix, but has shape {camera_to_world.shape}. Complete it.")
    if not np.all(np.isfinite(camera_to_world)):
        raise ValueError("camera_to_world has entries that are not finite numbers. Pass a finite camera matrix.")
    if resolution < MIN_RESOLUTION:
        raise ValueError(f"resolution must be at least {MIN_RESOLUTION} pixels, but it is {resolution}. Raise it.")
    if not 0.0 < camera_angle_x < np.pi:
        raise ValueError(f"camera_angle_x must lie between 0 and pi, but is {camera_angle_x}. Pass radians.")


def _render_rows(
    parts: Sequence[Part],
    camera_to_world: FloatArray,
    resolution: int,
    camera_angle_x: float,
    first: int,
    last: int,
) -> FloatArray:
    """Rows ``first`` to ``last - 1`` of a view, ``(last - first, resolution, 4)``."""
    fine_rows = (np.arange(first * _SAMPLES_PER_EDGE, last * _SAMPLES_PER_EDGE) + 0.5) / _SAMPLES_PER_EDGE
    fine_columns = (np.arange(resolution * _SAMPLES_PER_EDGE) + 0.5) / _SAMPLES_PER_EDGE
    rows, columns = (places.ravel() for places in np.meshgrid(fine_rows, fine_columns, indexing="ij"))
    directions = pixel_directions(camera_to_world, resolution, camera_angle_x, columns, rows)
    samples = _sample_colors(parts, np.broadcast_to(camera_to_world[:3, 3], directions.shape), directions)
    return _average(samples.reshape(last - first, _SAMPLES_PER_EDGE, resolution, _SAMPLES_PER_EDGE, 4))


def _average(samples: FloatArray) -> FloatArray:
    """Mean over each pixel's samples, ``(rows, s, columns, s, 4)`` to ``(rows, columns, 4)``.

    The colour's mean is over the samples that hit something only, as colours are not multiplied by alpha.
    """
    mean = samples.mean(axis=(1, 3))
    alpha = mean[..., 3]
    covered_color = mean[..., :3] / np.where(alpha > 0.0, alpha, 1.0)[..., None]
    return np.concatenate([covered_color, alpha[..., None]], axis=-1)


def _sample_colors(parts: Sequence[Part], origins: FloatArray, directions: FloatArray) -> FloatArray:
    """RGBA per ray, ``(n, 4)``: colour and 1 where it hits, zeros where it misses."""
    colors = np.zeros((len(origins), 4))
    # Most rays of a view miss everything; one ball test sorts them out before the parts are tried.
    rays = np.flatnonzero(np.isfinite(ball_crossings(origins, directions, SCENE_RADIUS)[0]))
    hits = cast_rays(origins[rays], directions[rays], parts)
    hit = np.flatnonzero(hits.parts >= 0)
    rays = rays[hit]
    points = origins[rays] + hits.distances[hit, None] * directions[rays]
    colors[rays, :3] = _shade(parts, hits.parts[hit], points, directions[rays])
    colors[rays, 3] = 1.0
    return colors


def _shade(parts: Sequence[Part], indices: NDArray[np.int64], points: FloatArray, directions: FloatArray) -> FloatArray:
    """sRGB colours ``(n, 3)`` of points on the parts named by ``(n,)`` indices, seen along ``directions``."""
    albedo, normals = np.empty_like(points), np.empty_like(points)
    for index in np.unique(indices):
        part, on_part = parts[index], np.flatnonzero(indices == index)
        local_points = (points[on_part] - part.position) @ part.rotation
        local_normals = part.shape.normals(local_points)
        normals[on_part] = local_normals @ part.rotation.T
        # Light adds up in linear units; the texture's sRGB colours are taken there and back with a plain gamma.
        albedo[on_part] = part.texture(local_points, local_normals) ** 2.2
    # One test of shadows for all parts: for each of them it would go through all the others anew.
    light = _light_reaching(parts, points, normals)
    upward = (0.5 + 0.5 * normals[:, 2])[:, None]
    ambient = _BOUNCE_COLOR + upward * (_SKY_COLOR - _BOUNCE_COLOR)
    color = albedo * (ambient + light[:, None] * _LIGHT_COLOR)
    gloss = np.array([part.gloss for part in parts])[indices]
    glossy = np.flatnonzero(gloss > 0.0)
    color[glossy] += (gloss[glossy] * _highlight(normals[glossy], directions[glossy], light[glossy]))[:, None]
    return np.clip(color, 0.0, 1.0) ** (1.0 / 2.2)


def _light_reaching(parts: Sequence[Part], points: FloatArray, normals: FloatArray) -> FloatArray:
    """Cosine of the light's angle of incidence, 0 in shadow, ``(n,)``."""
    cosines = np.maximum(normals @ _LIGHT, 0.0)
    lit = np.flatnonzero(cosines > 0.0)
    cosines[lit[is_blocked(points[lit] + _SHADOW_OFFSET * normals[lit], _LIGHT, parts)]] = 0.0
    return cosines


def _highlight(normals: FloatArray, directions: FloatArray, light: FloatArray) -> FloatArray:
    """Mirror-like reflection of the light towards the viewer (Blinn and Phong's), ``(n,)``."""
    halfway = _LIGHT - directions
    halfway /= np.sqrt(dot(halfway, halfway))[:, None]
    return np.where(light > 0.0, np.maximum(dot(normals, halfway), 0.0) ** _HIGHLIGHT_EXPONENT, 0.0)
