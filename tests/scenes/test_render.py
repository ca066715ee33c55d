"""Cameras around the scene and the pixels of its views."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import get_args

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
from iga_nerfstudio.scenes.composition import SCENES, SceneName, cast_rays, is_blocked
from iga_nerfstudio.scenes.shapes import Box, FloatArray, Sphere
from iga_nerfstudio.scenes.textures import solid

LIGHTHOUSE = SCENES["lighthouse"]


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
        assert 0.0 < outward[:, 2].min() < 0.15
        assert outward[:, 2].max() > 0.95
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
    def test_negative_counts_are_refused(self, cameras: Callable[[int], FloatArray]) -> None:
        with pytest.raises(ValueError, match="-2"):
            cameras(-2)

    def test_a_camera_straight_above_is_refused(self) -> None:
        with pytest.raises(ValueError, match="z axis"):
            look_at_origin(np.array([0.0, 0.0, 4.0]))


@pytest.fixture(scope="module")
def view() -> FloatArray:
    return render_view(circle_cameras(8)[1], 32, CAMERA_ANGLE_X)


class TestView:
    def test_shape_type_and_range(self, view: FloatArray) -> None:
        assert view.shape == (32, 32, 4)
        assert view.dtype == np.float64
        assert 0.0 <= view.min() < view.max() <= 1.0

    def test_two_renders_are_identical(self, view: FloatArray) -> None:
        assert_array_equal(render_view(circle_cameras(8)[1], 32, CAMERA_ANGLE_X), view)

    def test_bands_of_rows_do_not_show(self, view: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(render, "_RAYS_AT_ONCE", 5 * 32 * 9)
        assert_allclose(render_view(circle_cameras(8)[1], 32, CAMERA_ANGLE_X), view, atol=1e-12)

    def test_background_is_black_and_transparent(self, view: FloatArray) -> None:
        background = view[..., 3] == 0.0
        assert 0.2 < background.mean() < 0.8
        assert_array_equal(view[background], 0.0)
        # The content keeps clear of the frame, so no camera cuts it off.
        assert np.all(background[[0, -1]])
        assert np.all(background[:, [0, -1]])

    def test_alpha_is_fractional_only_at_silhouettes(self, view: FloatArray) -> None:
        alpha = np.pad(view[..., 3], 1)
        fractional = np.argwhere((alpha > 0.0) & (alpha < 1.0))
        assert len(fractional) > 20
        for row, column in fractional:
            around = alpha[row - 1 : row + 2, column - 1 : column + 2]
            assert around.min() < 0.5 < around.max()

    def test_color_is_not_multiplied_by_alpha(self, view: FloatArray) -> None:
        finer = render_view(circle_cameras(8)[1], 96, CAMERA_ANGLE_X).reshape(32, 3, 32, 3, 4)
        covered = (finer[..., :3] * finer[..., 3:]).mean(axis=(1, 3))
        edge = (view[..., 3] > 0.0) & (view[..., 3] < 0.7)
        color, alpha = view[edge][:, :3], view[edge][:, 3:]
        assert np.abs(color * alpha - covered[edge]).mean() < 0.03
        assert np.abs(color - covered[edge]).mean() > 0.08

    def test_the_sphere_appears_where_a_pinhole_camera_puts_it(self) -> None:
        camera = circle_cameras(8)[1]
        index = next(i for i, part in enumerate(LIGHTHOUSE) if isinstance(part.shape, Sphere))
        x, y, depth = camera[:3, :3].T @ (LIGHTHOUSE[index].position - camera[:3, 3])
        scale = 16.0 / math.tan(CAMERA_ANGLE_X / 2)
        place = np.array([16.0 + scale * x / -depth]), np.array([16.0 - scale * y / -depth])
        direction = render.pixel_directions(camera, 32, CAMERA_ANGLE_X, *place)
        hits = cast_rays(camera[None, :3, 3], direction)
        assert hits.parts.tolist() == [index]
        assert_allclose(hits.distances, math.dist((x, y, depth), (0, 0, 0)) - 0.3, atol=1e-9)

    def test_the_tower_stands_upright(self, view: FloatArray) -> None:
        rows = np.flatnonzero(view[..., 3].any(axis=1))
        # The base is wide and below, the roof is narrow and above.
        widths = (view[..., 3] > 0.0).sum(axis=1)
        assert widths[rows[0] : rows[0] + 4].max() < 8
        assert widths[rows[-1] - 8 : rows[-1]].max() > 20


class TestScenes:
    @pytest.mark.parametrize(("scene", "least", "most"), [("lighthouse", 0.3, 0.5), ("orrery", 0.1, 0.15)])
    def test_views_differ_and_are_covered_as_much_as_they_should_be(
        self, scene: str, least: float, most: float
    ) -> None:
        views = np.array([render_view(camera, 24, scene=scene) for camera in hemisphere_cameras(8)])
        assert least < views[..., 3].mean() < most
        colors = on_white(views)
        assert min(np.abs(a - b).mean() for a, b in itertools.combinations(colors, 2)) > 0.02

    def test_every_scene_has_a_name_to_choose_it_by(self) -> None:
        assert get_args(SceneName) == tuple(SCENES)

    def test_unknown_scenes_are_refused(self) -> None:
        with pytest.raises(ValueError, match="one of lighthouse, orrery, but it is 'lego'"):
            render_view(circle_cameras(1)[0], 8, scene="lego")


class TestTextures:
    def test_fine_detail_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        camera = circle_cameras(8)[1]
        detailed = high_frequency_energy(on_white(render_view(camera, 64, CAMERA_ANGLE_X)))
        blurred = high_frequency_energy(blur(on_white(render_view(camera, 64, CAMERA_ANGLE_X))))
        plain_parts = tuple(dataclasses.replace(part, texture=solid(np.full(3, 0.6))) for part in LIGHTHOUSE)
        monkeypatch.setitem(SCENES, "lighthouse", plain_parts)
        plain = high_frequency_energy(on_white(render_view(camera, 64, CAMERA_ANGLE_X)))
        assert detailed > 10.0 * blurred
        # Silhouettes and shadows have high frequencies of their own; the textures must add to them.
        assert detailed > 3.0 * plain

    def test_lettering_reads_from_left_to_right(self) -> None:
        box = next(part for part in LIGHTHOUSE if isinstance(part.shape, Box))
        up, facing = np.array([0.0, 0.0, 1.0]), box.rotation[:, 0]
        camera = np.eye(4)
        camera[:3, :3] = np.column_stack([np.cross(up, facing), up, facing])
        camera[:3, 3] = box.position + (0.27 + 1.5) * facing
        # From 1.5 away, a pixel covers 0.0052 units: a fifth of one of the letters' dots.
        view = render_view(camera, 96, 2.0 * math.atan(0.0052 * 96 / 2 / 1.5))
        # The word's centre lies 0.07 above that of the side.
        rows = np.floor(48 - 0.07 / 0.0052 + 5.0 * np.arange(-3, 4)).astype(int)
        columns = 48 + 5 * np.arange(-7, 8)
        dark = view[rows][:, columns, :3].mean(axis=-1) < 0.35
        assert ["".join(" #"[mark] for mark in line) for line in dark.astype(int)] == IGA

    def test_shadows_are_darker(self) -> None:
        base = dataclasses.replace(LIGHTHOUSE[0], texture=solid(np.full(3, 0.6)))
        points = np.random.default_rng(8).uniform(-0.8, 0.8, size=(500, 3))
        points[:, 2] = base.position[2] + 0.08
        on_base, looks = np.zeros(len(points), dtype=np.int64), np.broadcast_to([0.0, 0.0, -1.0], points.shape)
        brightness = render._shade((base, *LIGHTHOUSE[1:]), on_base, points, looks).mean(axis=1)
        # Alone, the base lies in the light everywhere.
        alone = render._shade((base,), on_base, points, looks).mean(axis=1)
        shadowed = is_blocked(points + np.array([0.0, 0.0, 1e-4]), render._LIGHT)
        assert 0.1 < shadowed.mean() < 0.9
        assert brightness[shadowed].max() < 0.8 * brightness[~shadowed].min()
        assert_allclose(alone, brightness[~shadowed].max())

    def test_only_the_glossy_sphere_depends_on_the_view(self) -> None:
        sphere = next(i for i, part in enumerate(LIGHTHOUSE) if isinstance(part.shape, Sphere))
        outward = np.random.default_rng(6).normal(size=(500, 3))
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        assert view_dependence(sphere, 0.3 * outward) > 0.1
        on_base = np.random.default_rng(7).uniform(-0.8, 0.8, size=(500, 3))
        on_base[:, 2] = 0.08
        assert view_dependence(0, on_base) == 0.0


IGA = [
    "###  ###   ### ",
    " #  #   # #   #",
    " #  #     #   #",
    " #  # ### #####",
    " #  #   # #   #",
    " #  #   # #   #",
    "###  ###  #   #",
]


def view_dependence(index: int, local_points: FloatArray) -> float:
    """Largest difference between the colours of a part's surface points, ``(n, 3)``, seen from two sides."""
    part, indices = LIGHTHOUSE[index], np.full(len(local_points), index)
    points = part.position + local_points @ part.rotation.T
    looks = [np.array([0.0, 0.0, -1.0]), np.array([0.0, 0.8, -0.6])]
    colors = [render._shade(LIGHTHOUSE, indices, points, np.broadcast_to(look, points.shape)) for look in looks]
    return float(np.abs(colors[0] - colors[1]).max())


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
