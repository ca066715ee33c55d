"""Cameras, ray casting against the whole scene, and the pixels of its views."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from iga_nerfstudio.scenes import (
    CAMERA_ANGLE_X,
    CAMERA_DISTANCE,
    circle_cameras,
    hemisphere_cameras,
    look_at_origin,
    render,
    render_view,
)
from iga_nerfstudio.scenes.composition import PARTS, SCENE_RADIUS, cast_rays, is_blocked
from iga_nerfstudio.scenes.shapes import Box, FloatArray, Sphere
from iga_nerfstudio.scenes.textures import solid

from .reference import along, first_crossing, is_inside_shape, to_frame

SAMPLES = 3
PLACES = [(part.shape, part.position.tolist(), part.rotation.tolist()) for part in PARTS]


def is_inside_scene(point) -> bool:
    return any(is_inside_shape(shape, to_frame(point, position, axes)) for shape, position, axes in PLACES)


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


def on_white(image: FloatArray) -> FloatArray:
    return image[..., :3] * image[..., 3:] + 1.0 - image[..., 3:]


ALL_CAMERAS = np.concatenate([hemisphere_cameras(30), circle_cameras(10)])


class TestCameras:
    def test_rotations_are_proper(self) -> None:
        rotations = ALL_CAMERAS[:, :3, :3]
        assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (40, 1, 1)), atol=1e-12)
        assert_allclose(np.linalg.det(rotations), 1.0, atol=1e-12)
        assert_array_equal(ALL_CAMERAS[:, 3], np.tile([0.0, 0.0, 0.0, 1.0], (40, 1)))

    def test_they_look_at_the_origin_from_the_right_distance(self) -> None:
        reached = ALL_CAMERAS[:, :3, 3] + CAMERA_DISTANCE * -ALL_CAMERAS[:, :3, 2]
        assert_allclose(reached, 0.0, atol=1e-12)

    def test_the_horizon_is_level_and_up_is_up(self) -> None:
        assert_allclose(ALL_CAMERAS[:, 2, 0], 0.0, atol=1e-12)
        assert np.all(ALL_CAMERAS[:, 2, 1] > 0.0)

    def test_hemisphere_cameras_spread_over_the_upper_half(self) -> None:
        outward = hemisphere_cameras(50)[:, :3, 3] / CAMERA_DISTANCE
        assert outward[:, 2].min() > 0.0
        assert outward[:, 2].min() < 0.15 and outward[:, 2].max() > 0.95
        cosines = outward @ outward.T - 2.0 * np.eye(50)
        # 50 caps that tile a hemisphere have a radius of 0.2, so the nearest neighbour is about 0.4 away.
        assert np.arccos(cosines.max()) > 0.25
        assert np.linalg.norm(outward[:, :2].mean(axis=0)) < 0.05

    def test_turned_cameras_are_others(self) -> None:
        train, val = hemisphere_cameras(50)[:, :3, 3], hemisphere_cameras(4, turn=math.pi / 3)[:, :3, 3]
        assert np.linalg.norm(train[:, None] - val[None], axis=-1).min() > 0.1

    def test_circle_cameras_keep_their_elevation(self) -> None:
        positions = circle_cameras(8)[:, :3, 3]
        assert_allclose(positions[:, 2], CAMERA_DISTANCE * math.sin(math.radians(30)), atol=1e-12)
        steps = np.linalg.norm(np.roll(positions, -1, axis=0) - positions, axis=1)
        assert_allclose(steps, steps[0])

    def test_no_cameras(self) -> None:
        assert hemisphere_cameras(0).shape == circle_cameras(0).shape == (0, 4, 4)

    @pytest.mark.parametrize("cameras", [hemisphere_cameras, circle_cameras])
    def test_negative_counts_are_refused(self, cameras) -> None:
        with pytest.raises(ValueError, match="-2"):
            cameras(-2)

    def test_a_camera_straight_above_is_refused(self) -> None:
        with pytest.raises(ValueError, match="z axis"):
            look_at_origin(np.array([0.0, 0.0, 4.0]))


class TestRayCasting:
    def test_distances_match_brute_force_marching(self) -> None:
        origins, directions = random_rays(150, seed=0)
        hits = cast_rays(origins, directions)
        expected = [march(o, d) for o, d in zip(origins.tolist(), directions.tolist(), strict=True)]
        assert_allclose(hits.distances, expected, atol=2e-6)
        assert set(range(6)) <= set(hits.parts) and -1 in hits.parts

    def test_hits_name_the_part_they_lie_on(self) -> None:
        origins, directions = random_rays(300, seed=1)
        hits = cast_rays(origins, directions)
        assert_array_equal(hits.parts >= 0, np.isfinite(hits.distances))
        for i in np.flatnonzero(hits.parts >= 0):
            shape, position, axes = PLACES[hits.parts[i]]
            beyond = along(origins[i].tolist(), directions[i].tolist(), hits.distances[i] + 1e-5)
            assert is_inside_shape(shape, to_frame(beyond, position, axes))

    def test_shadows_match_brute_force_marching(self) -> None:
        origins, directions = random_rays(200, seed=2)
        hits = cast_rays(origins, directions)
        hit = hits.parts >= 0
        # Only points above the base: rays out of a surface towards the light must not start inside it.
        points = origins[hit] + (hits.distances[hit, None] - 1e-3) * directions[hit]
        light = np.array([0.4, -0.5, math.sqrt(1.0 - 0.41)])
        expected = [
            math.isfinite(first_crossing(is_inside_scene, p, light.tolist(), 0.0, 2.0, 0.004))
            for p in points[:60].tolist()
        ]
        assert_array_equal(is_blocked(points[:60], light), expected)
        assert 5 < sum(expected) < 55

    def test_everything_lies_between_the_usual_near_and_far_planes(self) -> None:
        for camera in ALL_CAMERAS[::4]:
            columns, rows = (places.ravel() + 0.5 for places in np.meshgrid(np.arange(48.0), np.arange(48.0)))
            directions = render.pixel_directions(camera, 48, CAMERA_ANGLE_X, columns, rows)
            origins = np.broadcast_to(camera[:3, 3], directions.shape)
            distances = cast_rays(origins, directions).distances
            hit = np.isfinite(distances)
            points = origins[hit] + distances[hit, None] * directions[hit]
            assert distances[hit].min() > 2.0 and distances[hit].max() < 6.0
            assert np.abs(points).max() <= 1.2 + 1e-9
            assert np.linalg.norm(points, axis=1).max() < SCENE_RADIUS

    def test_every_part_can_be_seen_and_none_lie_in_another(self) -> None:
        parts_seen = set(cast_rays(*random_rays(4000, seed=3)).parts)
        assert parts_seen == set(range(-1, len(PARTS)))
        points = np.random.default_rng(4).uniform(-1.2, 1.2, size=(4000, 3)).tolist()
        counts = [
            sum(is_inside_shape(s, to_frame(p, position, axes)) for s, position, axes in PLACES)
            for p in points
        ]
        assert max(counts) == 1


class TestView:
    view: FloatArray

    @pytest.fixture(autouse=True, scope="class")
    def rendered(self, request: pytest.FixtureRequest) -> None:
        request.cls.view = render_view(circle_cameras(8)[1], 32, CAMERA_ANGLE_X)

    def test_shape_type_and_range(self) -> None:
        assert self.view.shape == (32, 32, 4)
        assert self.view.dtype == np.float64
        assert np.all(np.isfinite(self.view)) and self.view.min() >= 0.0 and self.view.max() <= 1.0

    def test_two_renders_are_identical(self) -> None:
        np.random.seed(1)
        assert_array_equal(render_view(circle_cameras(8)[1], 32, CAMERA_ANGLE_X), self.view)

    def test_bands_of_rows_do_not_show(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(render, "_RAYS_AT_ONCE", 5 * 32 * SAMPLES**2)
        assert_allclose(render_view(circle_cameras(8)[1], 32, CAMERA_ANGLE_X), self.view, atol=1e-12)

    def test_background_is_black_and_transparent(self) -> None:
        background = self.view[..., 3] == 0.0
        assert 0.2 < background.mean() < 0.8
        assert_array_equal(self.view[background], 0.0)
        # The content keeps clear of the frame, so no camera cuts it off.
        assert np.all(background[[0, -1]]) and np.all(background[:, [0, -1]])

    def test_alpha_is_the_fraction_of_rays_that_hit(self) -> None:
        alpha = self.view[..., 3]
        kinds = [np.argwhere(alpha == 0.0), np.argwhere(alpha == 1.0), np.argwhere((alpha > 0) & (alpha < 1))]
        random = np.random.default_rng(5)
        for row, column in np.concatenate([random.permutation(kind)[:7] for kind in kinds]).tolist():
            assert alpha[row, column] == pytest.approx(covered_fraction(row, column, 32), abs=1e-12)

    def test_alpha_is_fractional_only_at_silhouettes(self) -> None:
        alpha = np.pad(self.view[..., 3], 1)
        fractional = np.argwhere((alpha > 0.0) & (alpha < 1.0))
        assert len(fractional) > 20
        for row, column in fractional:
            around = alpha[row - 1 : row + 2, column - 1 : column + 2]
            assert around.min() < 0.5 < around.max()

    def test_color_is_not_multiplied_by_alpha(self) -> None:
        finer = render_view(circle_cameras(8)[1], 96, CAMERA_ANGLE_X).reshape(32, 3, 32, 3, 4)
        covered = (finer[..., :3] * finer[..., 3:]).mean(axis=(1, 3))
        edge = (self.view[..., 3] > 0.0) & (self.view[..., 3] < 0.7)
        color, alpha = self.view[edge][:, :3], self.view[edge][:, 3:]
        assert np.abs(color * alpha - covered[edge]).mean() < 0.03
        assert np.abs(color - covered[edge]).mean() > 0.08

    def test_the_sphere_appears_where_a_pinhole_camera_puts_it(self) -> None:
        camera = circle_cameras(8)[1]
        index = next(i for i, part in enumerate(PARTS) if isinstance(part.shape, Sphere))
        x, y, depth = to_frame(
            PARTS[index].position.tolist(), camera[:3, 3].tolist(), camera[:3, :3].tolist()
        )
        scale = 16.0 / math.tan(CAMERA_ANGLE_X / 2)
        place = np.array([16.0 + scale * x / -depth]), np.array([16.0 - scale * y / -depth])
        direction = render.pixel_directions(camera, 32, CAMERA_ANGLE_X, *place)
        hits = cast_rays(camera[None, :3, 3], direction)
        assert hits.parts.tolist() == [index]
        assert_allclose(hits.distances, math.dist((x, y, depth), (0, 0, 0)) - 0.3, atol=1e-9)

    def test_the_tower_stands_upright(self) -> None:
        rows = np.flatnonzero(self.view[..., 3].any(axis=1))
        # The base is wide and below, the roof is narrow and above.
        widths = (self.view[..., 3] > 0.0).sum(axis=1)
        assert widths[rows[0] : rows[0] + 4].max() < 8
        assert widths[rows[-1] - 8 : rows[-1]].max() > 20


def covered_fraction(row: int, column: int, resolution: int) -> float:
    """Alpha of a pixel by plain trigonometry and marching, seen from the second of eight cameras on the circle."""
    elevation, azimuth = math.radians(30), math.radians(45)
    outward = [
        math.cos(elevation) * math.sin(azimuth),
        -math.cos(elevation) * math.cos(azimuth),
        math.sin(elevation),
    ]
    right = [math.cos(azimuth), math.sin(azimuth), 0.0]
    up = [
        -math.sin(elevation) * math.sin(azimuth),
        math.sin(elevation) * math.cos(azimuth),
        math.cos(elevation),
    ]
    hits = 0
    for sample in range(SAMPLES**2):
        u = (column + (sample % SAMPLES + 0.5) / SAMPLES) / resolution * 2.0 - 1.0
        v = 1.0 - (row + (sample // SAMPLES + 0.5) / SAMPLES) / resolution * 2.0
        half = math.tan(CAMERA_ANGLE_X / 2)
        toward = [u * half * right[i] + v * half * up[i] - outward[i] for i in range(3)]
        norm = math.hypot(*toward)
        hits += math.isfinite(march([4.0311 * c for c in outward], [c / norm for c in toward]))
    return hits / SAMPLES**2


class TestTextures:
    def test_fine_detail_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        camera = circle_cameras(8)[1]
        detailed = high_frequency_energy(on_white(render_view(camera, 64, CAMERA_ANGLE_X)))
        blurred = high_frequency_energy(blur(on_white(render_view(camera, 64, CAMERA_ANGLE_X))))
        plain_parts = [dataclasses.replace(part, texture=solid(np.full(3, 0.6))) for part in PARTS]
        monkeypatch.setattr(render, "PARTS", plain_parts)
        plain = high_frequency_energy(on_white(render_view(camera, 64, CAMERA_ANGLE_X)))
        assert detailed > 10.0 * blurred
        # Silhouettes and shadows have high frequencies of their own; the textures must add to them.
        assert detailed > 3.0 * plain

    def test_lettering_reads_from_left_to_right(self) -> None:
        box = next(part for part in PARTS if isinstance(part.shape, Box))
        camera = np.eye(4)
        facing = box.rotation[:, 0]
        camera[:3, 0], camera[:3, 1], camera[:3, 2] = (
            np.cross([0.0, 0.0, 1.0], facing),
            [0.0, 0.0, 1.0],
            facing,
        )
        camera[:3, 3] = box.position + (0.27 + 1.5) * facing
        # A pixel covers a tenth of a letter's dot, 0.0026 units at distance 1.5.
        resolution = 256
        view = render_view(camera, resolution, 2.0 * math.atan(0.0026 * resolution / 2 / 1.5))
        word = [
            "###...###....###.",
            ".#...#...#..#...#",
            ".#...#......#...#",
            ".#...#.####.#####",
            ".#...#....#.#...#",
            ".#...#...#..#...#",
            "###...###...#...#",
        ]
        word = [f"{i}.{g}.{a}" for i, g, a in zip(GLYPH_I, GLYPH_G, GLYPH_A, strict=True)]
        for row, line in enumerate(word):
            for column, mark in enumerate(line):
                # The word's centre is 0.07 above the centre of the side.
                y = round(resolution / 2 - 0.07 / 0.0026 + 10 * (row - 3))
                x = round(resolution / 2 + 10 * (column - (len(line) - 1) / 2))
                assert (view[y, x, :3].mean() < 0.35) == (mark == "#"), (row, column)

    def test_highlight_depends_on_the_view(self) -> None:
        sphere = next(i for i, part in enumerate(PARTS) if isinstance(part.shape, Sphere))
        assert PARTS[sphere].gloss > 0.0
        assert view_dependence(sphere) > 0.05
        assert view_dependence(0) < 1e-9


GLYPH_I = ["###", ".#.", ".#.", ".#.", ".#.", ".#.", "###"]
GLYPH_G = [".###.", "#...#", "#....", "#.###", "#...#", "#...#", ".###."]
GLYPH_A = [".###.", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"]


def view_dependence(index: int) -> float:
    """Largest difference between the colours of a part's points as seen from two sides."""
    part = PARTS[index]
    points = (
        part.position + np.random.default_rng(6).normal(size=(500, 3)) * 0.01 + part.shape.bounding_radius * 0
    )
    directions = points - part.position
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    distances = part.shape.intersect(np.zeros((500, 3)), directions @ part.rotation)
    surface = part.position + distances[:, None] * directions
    views = [
        render._shade(part, surface, np.broadcast_to(d, (500, 3))) for d in (-np.eye(3)[2], np.eye(3)[1])
    ]
    return float(np.abs(views[0] - views[1]).max())


def high_frequency_energy(image: FloatArray) -> float:
    """Energy of the grey picture above a quarter of a cycle per pixel."""
    grey = image.mean(axis=-1)
    spectrum = np.abs(np.fft.fft2(grey - grey.mean())) ** 2
    frequency = np.abs(np.fft.fftfreq(grey.shape[0]))
    return float(spectrum[np.maximum(frequency[:, None], frequency[None]) > 0.25].sum())


def blur(image: FloatArray) -> FloatArray:
    """Mean over 3 x 3 neighbourhoods, around the edges too."""
    shifted = [np.roll(image, (i, j), axis=(0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return np.mean(shifted, axis=0)


class TestArguments:
    camera = circle_cameras(1)[0]

    @pytest.mark.parametrize("resolution", [7, 0, -3])
    def test_small_resolutions_are_refused(self, resolution: int) -> None:
        with pytest.raises(ValueError, match=rf"at least 8 .*{resolution}"):
            render_view(self.camera, resolution, CAMERA_ANGLE_X)

    @pytest.mark.parametrize("angle", [0.0, -0.5, math.pi, math.nan])
    def test_impossible_angles_are_refused(self, angle: float) -> None:
        with pytest.raises(ValueError, match="camera_angle_x"):
            render_view(self.camera, 8, angle)

    def test_wrong_matrices_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"\(3, 4\)"):
            render_view(self.camera[:3], 8, CAMERA_ANGLE_X)
        with pytest.raises(ValueError, match="finite"):
            render_view(np.full((4, 4), np.nan), 8, CAMERA_ANGLE_X)

    def test_smallest_view(self) -> None:
        assert render_view(self.camera, 8, CAMERA_ANGLE_X).shape == (8, 8, 4)
