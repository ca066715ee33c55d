"""Meshes whose faces are turned both ways, or are there for both sides."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import trimesh

from iga_nerfstudio.data.orientation import count_two_sided, is_closed, without_second_sides
from iga_nerfstudio.data.voxelisation import voxelise
from iga_nerfstudio.data.voxels import ShapeTarget, VoxelGrid

BALL = trimesh.creation.icosphere(subdivisions=3)


def ball(radius: float = 1.0, x: float = 0.0, inverted: bool = False) -> trimesh.Trimesh:
    faces = BALL.faces[:, ::-1] if inverted else BALL.faces
    return trimesh.Trimesh(radius * BALL.vertices + [x, 0, 0], faces, process=False)


def united(*meshes: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.util.concatenate(list(meshes))


def double_sided(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:, [1, 0, 2]]]), process=False)


def volume(grid: VoxelGrid) -> float:
    return float(grid.inside.sum() * grid.spacing**3)


def of_radii(*radii: float) -> float:
    return 4 / 3 * np.pi * sum(np.sign(radius) * abs(radius) ** 3 for radius in radii)


class TestParts:
    @pytest.mark.parametrize(
        ("mesh", "expected", "is_logged"),
        [
            (united(ball(), ball(0.44, 2, inverted=True)), of_radii(1, 0.44), True),
            (united(ball(), ball(0.8, 3, inverted=True)), of_radii(1, 0.8), True),
            (united(ball(inverted=True), ball(0.44, 2)), of_radii(1, 0.44), True),
            (united(ball(), ball(0.6, inverted=True)), of_radii(1, -0.6), False),
            (united(ball(inverted=True), ball(0.6)), of_radii(1, -0.6), False),
            # A cavity in a part that is inside out, and a ball in that cavity.
            (united(ball(1.2), ball(1, 3, True), ball(0.7, 3), ball(0.4, 3, True)), of_radii(1.2, 1, -0.7, 0.4), True),
            (united(ball(), ball(0.9, 2.5, True), ball(0.8, 5, True)), of_radii(1, 0.9, 0.8), True),
        ],
        ids=["small", "large", "larger", "cavity", "inverted-cavity", "nested", "most"],
    )
    @pytest.mark.parametrize("offset", [0.0, 5e5])
    def test_inside_out(
        self, mesh: trimesh.Trimesh, expected: float, is_logged: bool, offset: float, caplog: pytest.LogCaptureFixture
    ) -> None:
        mesh = mesh.copy()
        mesh.apply_translation([offset, -offset, 0])
        with caplog.at_level(logging.WARNING, "iga_nerfstudio"):
            grid = voxelise(mesh, 64, "occupancy")
        assert volume(grid) == pytest.approx(expected, rel=0.03)
        assert ("Parts of the mesh are inside out" in caplog.text) == is_logged

    @pytest.mark.parametrize("target", ["occupancy", "distance"])
    def test_a_part_with_a_hole(self, target: ShapeTarget) -> None:
        small = ball(0.44, 2, inverted=True)
        small.update_faces(np.arange(len(small.faces)) >= 5)
        assert volume(voxelise(united(ball(), small), 48, target)) == pytest.approx(of_radii(1, 0.44), rel=0.03)

    def test_overlapping_parts_are_united(self) -> None:
        grid = voxelise(united(ball(), ball(1, 1, inverted=True)), 48, "occupancy")
        # Two balls less their common lens of two caps of height 1/2.
        assert volume(grid) == pytest.approx(of_radii(1, 1) - 2 * np.pi * 0.25 / 3 * 2.5, rel=0.03)

    @pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
    def test_single_faces(self, share: float, caplog: pytest.LogCaptureFixture) -> None:
        mesh = ball()
        turned = np.random.default_rng(0).random(len(mesh.faces)) < share
        mesh.faces = np.where(turned[:, None], mesh.faces[:, ::-1], mesh.faces)
        with caplog.at_level(logging.WARNING, "iga_nerfstudio"):
            assert volume(voxelise(mesh, 32, "occupancy")) == pytest.approx(of_radii(1), rel=0.02)
        assert "are turned against their neighbours'" in caplog.text

    def test_meshes_that_are_right_are_not_remarked_on(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "iga_nerfstudio"):
            voxelise(united(ball(), ball(0.5, 2), ball(0.5, inverted=True)), 16, "occupancy")
        assert not caplog.text


class TestDoubleSided:
    @pytest.mark.parametrize("target", ["occupancy", "distance"])
    @pytest.mark.parametrize("shuffle", [False, True])
    def test_one_side_is_taken(self, target: ShapeTarget, shuffle: bool, caplog: pytest.LogCaptureFixture) -> None:
        mesh = double_sided(ball())
        assert count_two_sided(mesh.faces) == len(mesh.faces)
        if shuffle:
            mesh.faces = np.random.default_rng(0).permutation(mesh.faces)
        with caplog.at_level(logging.WARNING, "iga_nerfstudio"):
            grid = voxelise(mesh, 32, target)
        assert volume(grid) == pytest.approx(of_radii(1), rel=0.02)
        assert f"{len(mesh.faces)} of its {len(mesh.faces)} faces are there in both directions" in caplog.text

    def test_one_part_of_two(self) -> None:
        grid = voxelise(united(ball(), double_sided(ball(0.44, 2))), 64, "occupancy")
        assert volume(grid) == pytest.approx(of_radii(1, 0.44), rel=0.03)

    def test_a_part_with_a_hole(self) -> None:
        small = ball(0.44, 2)
        small.update_faces(np.arange(len(small.faces)) >= 5)
        grid = voxelise(united(ball(), double_sided(small)), 64, "occupancy")
        assert volume(grid) == pytest.approx(of_radii(1, 0.44), rel=0.03)

    def test_fins_enclose_nothing(self) -> None:
        fin = trimesh.Trimesh([BALL.vertices[0], BALL.vertices[1], 2 * BALL.vertices[0]], [[0, 1, 2]], process=False)
        both = united(ball(), double_sided(fin))
        both.merge_vertices()
        assert len(both.vertices) == len(BALL.vertices) + 1
        assert is_closed(both.faces)
        assert len(without_second_sides(both.vertices, np.asarray(both.faces))) == len(both.faces)
        assert volume(voxelise(both, 32, "occupancy")) == pytest.approx(of_radii(1), rel=0.03)

    def test_sheets_alone_are_refused_by_their_reason(self) -> None:
        sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0.1], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
        with pytest.raises(ValueError, match="encloses nothing: 4 of its 4 faces are there in both directions"):
            voxelise(double_sided(sheet), 16, "occupancy")

    def test_faces_that_are_there_twice_in_one_direction(self) -> None:
        mesh = ball()
        mesh.faces = np.concatenate([mesh.faces, mesh.faces[:, [1, 2, 0]]])
        assert count_two_sided(mesh.faces) == 0
        assert volume(voxelise(mesh, 32, "occupancy")) == pytest.approx(of_radii(1), rel=0.02)
