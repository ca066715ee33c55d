"""Surfaces: extraction, files, Chamfer distance, overlap of voxels and pictures."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from igl import winding_number
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from iga_nerfstudio.data.meshes import read_mesh
from iga_nerfstudio.evaluation import meshes
from iga_nerfstudio.evaluation.meshes import chamfer_distance, mesh_picture, surface_from_grid, voxel_iou, write_mesh

SPHERE = trimesh.creation.icosphere(subdivisions=4)


def scaled(mesh: trimesh.Trimesh, factor: float) -> trimesh.Trimesh:
    copy = mesh.copy()
    copy.apply_scale(factor)
    return copy


def grid_positions(num: int, half_side: float) -> np.ndarray:
    """Centres of ``num`` voxels along each axis of a cube around the origin, ``(num, num, num, 3)``."""
    return half_side * ((2 * np.moveaxis(np.indices((num,) * 3), 0, -1) + 1) / num - 1)


def encloses(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int64)
    flat = np.ascontiguousarray(points.reshape(-1, 3), dtype=np.float64)
    numbers = winding_number(np.ascontiguousarray(mesh.vertices), faces, flat)
    return (numbers > 0.5).reshape(points.shape[:-1])


def is_closed(mesh: trimesh.Trimesh) -> bool:
    """Whether each edge is passed as often in one direction as in the other."""
    edges = sorted(map(tuple, mesh.edges.tolist()))
    return edges == sorted((end, start) for start, end in edges)


class TestSurfaceFromGrid:
    @settings(max_examples=40, deadline=None)
    @given(
        values=arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3), elements=st.integers(0, 1)),
        spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
        origin=st.tuples(*[st.floats(-5, 5)] * 3),
    )
    def test_the_same_voxels_are_inside_again(
        self, values: np.ndarray, spacing: tuple[float, ...], origin: tuple[float, ...]
    ) -> None:
        assume(values.any() and not values.all())
        mesh = surface_from_grid(values, 0.5, origin, spacing, inside_is_above=True)
        points = np.array(origin) + np.array(spacing) * np.moveaxis(np.indices(values.shape), 0, -1)
        assert voxel_iou(encloses(mesh, points), values > 0) == 1.0
        assert mesh.volume > 0

    @settings(max_examples=40, deadline=None)
    @given(
        steps=arrays(np.float64, st.tuples(*[st.integers(2, 5)] * 3), elements=st.sampled_from([-2.0, -0.1, 0.0, 3.0])),
        level=st.sampled_from([0.0, 0.1, -7.0]),
        inside_is_above=st.booleans(),
    )
    def test_every_surface_is_closed(self, steps: np.ndarray, level: float, inside_is_above: bool) -> None:
        assume((steps > 0).any() and (steps < 0).any())
        mesh = surface_from_grid(level + steps, level, (0, 0, 0), 1.0, inside_is_above)
        assert is_closed(mesh)
        inside = encloses(mesh, np.moveaxis(np.indices(steps.shape), 0, -1))
        assert_array_equal(inside[steps != 0], (steps > 0 if inside_is_above else steps < 0)[steps != 0])

    def test_an_edge_on_the_level_is_closed(self) -> None:
        # The distance is zero at the outermost centres of the first axis.
        values = np.abs(np.arange(-4.0, 5.0))[:, None, None] - 4 + np.zeros((1, 7, 7))
        mesh = surface_from_grid(values, 0.0, (0, 0, 0), 1.0, inside_is_above=False)
        assert is_closed(mesh)
        assert_allclose(mesh.bounds, [[0, -0.5, -0.5], [8, 6.5, 6.5]], atol=1e-3)
        assert mesh.volume == pytest.approx(8 * 7 * 7, rel=0.05)

    @pytest.mark.parametrize("inside_is_above", [False, True])
    def test_sphere(self, inside_is_above: bool) -> None:
        positions = grid_positions(32, 1.5)
        distances = np.linalg.norm(positions, axis=-1) - 1
        values = (0.3 - distances if inside_is_above else 0.3 + distances).astype(np.float32)
        mesh = surface_from_grid(values, 0.3, positions[0, 0, 0], 3.0 / 32, inside_is_above)
        assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 1.0, atol=0.003)
        assert mesh.is_watertight
        assert mesh.volume == pytest.approx(4 / 3 * np.pi, rel=0.01)

    def test_shapes_cut_by_the_edge_are_closed_half_a_voxel_beyond(self) -> None:
        values = np.zeros((4, 5, 6), np.uint8)
        values[:, 1:3, 2:] = 1
        mesh = surface_from_grid(values, 0.5, (10.0, 0.0, 0.0), (1.0, 2.0, 3.0), inside_is_above=True)
        assert mesh.is_watertight
        assert_allclose(mesh.bounds, [[9.5, 1.0, 4.5], [13.5, 5.0, 16.5]])

    def test_positions_are_in_double_precision(self) -> None:
        positions = grid_positions(24, 1.5)
        values = np.linalg.norm(positions, axis=-1) - 1
        origin = positions[0, 0, 0] + [447_000.0, 5_400_000.0, 120.0]
        mesh = surface_from_grid(values, 0.0, origin, 3.0 / 24, inside_is_above=False)
        assert mesh.vertices.dtype == np.float64
        radii = np.linalg.norm(mesh.vertices - [447_000.0, 5_400_000.0, 120.0], axis=1)
        assert_allclose(radii, 1.0, atol=0.004)

    @pytest.mark.parametrize(("value", "place"), [(0.0, "outside"), (1.0, "inside"), (0.5, "outside")])
    def test_no_surface(self, value: float, place: str) -> None:
        with pytest.raises(ValueError, match=rf"No surface: all values are {place} the level 0\.5"):
            surface_from_grid(np.full((3, 3, 3), value), 0.5, (0, 0, 0), 1.0, inside_is_above=True)

    def test_values_that_are_not_finite(self) -> None:
        values = np.zeros((3, 3, 3))
        values[1, 1, 1] = np.nan
        with pytest.raises(ValueError, match="NaN or infinite"):
            surface_from_grid(values, 0.5, (0, 0, 0), 1.0, inside_is_above=True)

    def test_not_three_axes(self) -> None:
        with pytest.raises(ValueError, match=r"grid of three axes, but they are \(3, 3\)"):
            surface_from_grid(np.zeros((3, 3)), 0.5, (0, 0, 0), 1.0, inside_is_above=True)


class TestWriteMesh:
    @pytest.mark.parametrize("name", ["mesh.ply", "mesh.obj", "mesh.glb", "mesh.stl", "mesh.PLY"])
    def test_formats(self, tmp_path: Path, name: str) -> None:
        write_mesh(SPHERE, tmp_path / name)
        mesh = trimesh.load_mesh(tmp_path / name)
        assert len(mesh.faces) == len(SPHERE.faces)
        assert mesh.volume == pytest.approx(SPHERE.volume, rel=1e-5)
        assert [path.name for path in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("ending", ["ply", "obj", "glb"])
    @pytest.mark.parametrize(
        ("scale", "offset"),
        [(5.0, (447_000.123, 5_400_000.7, 120.0)), (1e-8, (0.0, 0.0, 0.0)), (1e-3, (5e5, -5e5, 0.1))],
    )
    def test_far_from_the_origin_or_tiny(
        self, tmp_path: Path, ending: str, scale: float, offset: tuple[float, float, float]
    ) -> None:
        mesh = trimesh.Trimesh(scale * SPHERE.vertices + offset, SPHERE.faces, process=False)
        write_mesh(mesh, tmp_path / f"mesh.{ending}")
        for read in (lambda path: trimesh.load_mesh(path, process=False), read_mesh):
            back = read(tmp_path / f"mesh.{ending}")
            # GLB rounds to single precision, relative to the mesh's own size.
            tolerance = 1e-7 * scale if ending == "glb" else 0
            last_place = np.spacing(np.abs(offset).max())
            assert_allclose(back.triangles, mesh.triangles, rtol=0, atol=tolerance + last_place)

    def test_coordinates_to_the_last_digit(self, tmp_path: Path) -> None:
        points = np.random.default_rng(0).normal(size=(3, 3)) * [[1e-20], [1.0], [1e15]]
        for ending in ("ply", "obj"):
            write_mesh(trimesh.Trimesh(points, [[0, 1, 2]], process=False), tmp_path / f"mesh.{ending}")
            assert_array_equal(
                np.sort(read_mesh(tmp_path / f"mesh.{ending}").vertices, axis=0), np.sort(points, axis=0)
            )

    @pytest.mark.parametrize(("offset", "is_logged"), [(0.0, False), (5.0, False), (5e6, True)])
    def test_what_stl_loses_is_logged(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, offset: float, is_logged: bool
    ) -> None:
        mesh = trimesh.Trimesh(SPHERE.vertices + np.array([0, offset, 0]), SPHERE.faces, process=False)
        with caplog.at_level(logging.WARNING, "iga_nerfstudio"):
            write_mesh(mesh, tmp_path / "mesh.stl")
        # Single precision has steps of 0.5 there, and rounds to the nearest.
        logged = "STL has single precision only: it moves coordinates by up to 0.25, where the mesh is 2 wide"
        assert (logged in caplog.text) == is_logged

    def test_near_the_origin_a_glb_has_no_translation(self, tmp_path: Path) -> None:
        write_mesh(SPHERE, tmp_path / "mesh.glb")
        assert b"translation" not in (tmp_path / "mesh.glb").read_bytes()
        scene = trimesh.load_scene(tmp_path / "mesh.glb")
        assert all(np.array_equal(scene.graph[name][0], np.eye(4)) for name in scene.graph.nodes_geometry)

    def test_a_failure_keeps_the_file_that_was_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        write_mesh(SPHERE, tmp_path / "mesh.ply")
        before = (tmp_path / "mesh.ply").read_bytes()
        monkeypatch.setattr(Path, "write_bytes", fail)
        with pytest.raises(KeyboardInterrupt):
            write_mesh(scaled(SPHERE, 2.0), tmp_path / "mesh.ply")
        assert [path.name for path in tmp_path.iterdir()] == ["mesh.ply"]
        assert (tmp_path / "mesh.ply").read_bytes() == before

    def test_wrong_ending(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"'\.png' is none of \.ply, \.obj, \.glb, \.stl"):
            write_mesh(SPHERE, tmp_path / "mesh.png")
        assert list(tmp_path.iterdir()) == []

    def test_folders_that_are_missing_are_made_and_files_in_their_place_are_not_touched(self, tmp_path: Path) -> None:
        write_mesh(SPHERE, tmp_path / "missing" / "mesh.ply")
        assert (tmp_path / "missing" / "mesh.ply").exists()
        (tmp_path / "file").write_text("kept")
        with pytest.raises(ValueError, match=r"Cannot write .*mesh\.ply: .* Choose a folder"):
            write_mesh(SPHERE, tmp_path / "file" / "mesh.ply")
        assert (tmp_path / "file").read_text() == "kept"


class TestChamferDistance:
    @pytest.mark.parametrize("unit", [1.0, 1000.0])
    def test_concentric_spheres(self, unit: float) -> None:
        # Lengths are in units of the second sphere's radius.
        distances = chamfer_distance(scaled(SPHERE, 1.25 * unit), scaled(SPHERE, unit), num_points=10_000)
        assert distances["chamfer"] == pytest.approx(0.25, rel=0.01)
        assert distances["chamfer_squared"] == pytest.approx(2 * 0.25**2, rel=0.01)
        swapped = chamfer_distance(scaled(SPHERE, unit), scaled(SPHERE, 1.25 * unit), num_points=10_000)
        assert swapped["chamfer"] == pytest.approx(0.2, rel=0.01)

    def test_far_from_the_origin(self) -> None:
        offset = np.array([447_000.0, 5_400_000.0, 120.0])
        near = chamfer_distance(scaled(SPHERE, 1.25), SPHERE, num_points=2000)
        moved = [trimesh.Trimesh(s * SPHERE.vertices + offset, SPHERE.faces, process=False) for s in (1.25, 1.0)]
        assert chamfer_distance(*moved, num_points=2000) == pytest.approx(near, rel=1e-6)

    def test_both_directions_count(self) -> None:
        # A sphere far away is near nothing, but everything of the truth is near the prediction.
        other = SPHERE.copy()
        other.apply_translation([0.0, 0.0, 11.0])
        both = trimesh.util.concatenate([SPHERE, other])
        distances = chamfer_distance(both, SPHERE, num_points=4000)
        # Half of the first's points are on the far sphere, whose mean distance from the near one is a little over 10.
        assert distances["chamfer"] == pytest.approx((10.03 / 2 + 0.02) / 2, rel=0.02)
        assert distances["chamfer"] == pytest.approx(
            chamfer_distance(SPHERE, both, num_points=4000)["chamfer"] * both.extents.max() / 2, rel=0.05
        )

    def test_a_surface_and_itself(self) -> None:
        coarse = chamfer_distance(SPHERE, SPHERE, num_points=1000)
        fine = chamfer_distance(SPHERE, SPHERE, num_points=16_000)
        # Points are random, so their nearest neighbours are at half of 1 / sqrt(points per area) on average.
        assert fine["chamfer"] == pytest.approx(0.5 * np.sqrt(4 * np.pi / 16_000), rel=0.05)
        assert coarse["chamfer"] == pytest.approx(4 * fine["chamfer"], rel=0.1)
        assert 0 < fine["chamfer_squared"] < 0.001

    def test_seeds(self) -> None:
        other = scaled(SPHERE, 1.1)
        first = chamfer_distance(SPHERE, other, num_points=500, seed=3)
        assert chamfer_distance(SPHERE, other, num_points=500, seed=3) == first
        assert chamfer_distance(SPHERE, other, num_points=500, seed=4) != first

    def test_meshes_without_area(self) -> None:
        with pytest.raises(ValueError, match=r"The first mesh has no area .* 0 faces"):
            chamfer_distance(trimesh.Trimesh(), SPHERE)
        with pytest.raises(ValueError, match=r"The second mesh has no area"):
            chamfer_distance(SPHERE, trimesh.Trimesh([[0, 0, 0]] * 3, [[0, 1, 2]], process=False))

    def test_no_points(self) -> None:
        with pytest.raises(ValueError, match="num_points must be at least 1, but it is 0"):
            chamfer_distance(SPHERE, SPHERE, num_points=0)


class TestVoxelIou:
    @settings(deadline=None)
    @given(pair=arrays(np.bool_, st.tuples(st.just(2), *[st.integers(1, 4)] * 3)), chunk=st.integers(1, 70))
    def test_is_intersection_over_union(self, pair: np.ndarray, chunk: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(meshes, "_VOXELS_AT_ONCE", chunk)
            iou = voxel_iou(pair[0], torch.from_numpy(pair[1]))
        union = (pair[0] | pair[1]).sum()
        assert iou == pytest.approx((pair[0] & pair[1]).sum() / union if union else 1.0)

    def test_empty_shapes_agree(self) -> None:
        assert voxel_iou(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool)) == 1.0

    def test_an_empty_prediction_misses_everything(self) -> None:
        assert voxel_iou(np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)) == 0.0

    def test_shapes_that_differ(self) -> None:
        with pytest.raises(ValueError, match=r"one shape, but they have \(2, 2, 2\) and \(8,\)"):
            voxel_iou(np.ones((2, 2, 2), bool), np.ones(8, bool))

    def test_values_that_are_not_bool(self) -> None:
        with pytest.raises(ValueError, match=r"must be bool, but they are torch\.float32 and torch\.bool"):
            voxel_iou(torch.ones(2, 2, 2), torch.ones(2, 2, 2, dtype=torch.bool))


def picture_of(mesh: trimesh.Trimesh, path: Path, size: int = 120) -> np.ndarray:
    """Greys without the line of titles, ``(size, size)``."""
    mesh_picture([("mesh", mesh)], path, size)
    return np.asarray(Image.open(path).convert("L"))[-size:]


class TestMeshPicture:
    def test_one_view_beside_the_other(self, tmp_path: Path) -> None:
        mesh_picture([("truth", SPHERE), ("half the size", scaled(SPHERE, 0.5))], tmp_path / "view.png", size=120)
        picture = np.asarray(Image.open(tmp_path / "view.png").convert("L"))
        assert picture.shape == (120 + meshes._TITLE_HEIGHT, 240)
        shown = [(half < 250).sum() for half in np.split(picture[-120:], 2, axis=1)]
        # Both through one camera: discs of the sphere's outline and of a quarter of its area.
        assert shown[0] == pytest.approx(np.pi / 4 * (120 / meshes._ZOOM) ** 2, rel=0.03)
        assert shown[1] == pytest.approx(shown[0] / 4, rel=0.05)
        titles = picture[:-120]
        assert (titles[:, :120] < 100).any()
        assert (titles[:, 120:] < 100).any()

    def test_no_seams(self, tmp_path: Path) -> None:
        picture = picture_of(trimesh.creation.icosphere(subdivisions=5), tmp_path / "view.png")
        y, x = np.indices(picture.shape) - 59.5
        disc = np.hypot(x, y) < 54
        assert disc.sum() > 9000
        # White shows nowhere through the surface, and neighbouring greys are alike.
        assert picture[disc].max() < 240
        assert picture[disc].min() > 30
        assert np.abs(np.diff(picture.astype(int), axis=1))[disc[:, 1:] & disc[:, :-1]].max() < 30

    def test_what_is_nearer_hides_what_is_behind(self, tmp_path: Path) -> None:
        camera = meshes._camera()
        front, back = trimesh.creation.box((0.5, 0.5, 0.5)), SPHERE
        alone = picture_of(back, tmp_path / "alone.png")
        front.apply_translation(-5 * camera[2])
        hidden = picture_of(trimesh.util.concatenate([back, front]), tmp_path / "hidden.png")
        front.apply_translation(10 * camera[2])
        seen = picture_of(trimesh.util.concatenate([front, back]), tmp_path / "seen.png")
        assert_array_equal(hidden, alone)
        assert (seen[50:70, 50:70] != alone[50:70, 50:70]).mean() > 0.9
        assert_array_equal(seen[:20], alone[:20])

    def test_y_is_up_and_z_comes_towards_the_viewer(self, tmp_path: Path) -> None:
        right, up, towards = meshes._camera()
        assert_allclose(meshes._camera() @ meshes._camera().T, np.eye(3), atol=1e-12)
        assert np.linalg.det(meshes._camera()) == pytest.approx(1.0)
        assert right[1] == 0
        assert right[0] > 0.5
        assert up[1] > 0.9
        assert towards[2] > 0.5
        cone = trimesh.creation.cone(1.0, 2.0)
        cone.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0]))
        widths = (picture_of(cone, tmp_path / "view.png") < 250).sum(axis=1)
        shown = np.flatnonzero(widths)
        # The tip, along +y, is at the top.
        assert widths[shown[4]] < 0.5 * widths[shown[-40]]

    def test_lit_from_above_on_the_left(self, tmp_path: Path) -> None:
        picture = picture_of(SPHERE, tmp_path / "view.png")
        assert picture[35, 45] > picture[60, 60] > picture[85, 85]

    def test_inverted_meshes_look_the_same(self, tmp_path: Path) -> None:
        inverted = trimesh.Trimesh(SPHERE.vertices, SPHERE.faces[:, ::-1], process=False)
        expected = picture_of(SPHERE, tmp_path / "view.png").astype(int)
        # Rays that meet an edge may find either face.
        assert np.abs(picture_of(inverted, tmp_path / "inverted.png") - expected).mean() < 0.1

    def test_nothing_to_draw(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="at least one mesh"):
            mesh_picture([], tmp_path / "view.png")
        with pytest.raises(ValueError, match="'prediction' has no faces"):
            mesh_picture([("truth", SPHERE), ("prediction", trimesh.Trimesh())], tmp_path / "view.png")
