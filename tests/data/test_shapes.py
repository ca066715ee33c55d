"""Shapes as voxels: meshes and their inside, files of voxels, cropping and the cache."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from iga_nerfstudio.data import meshes, voxelisation
from iga_nerfstudio.data.meshes import read_mesh
from iga_nerfstudio.data.orientation import is_closed
from iga_nerfstudio.data.shapes import load_shape
from iga_nerfstudio.data.voxelisation import voxelise
from iga_nerfstudio.data.voxels import ShapeTarget, VoxelGrid, crop_to_shape, read_voxels

SPHERE = trimesh.creation.icosphere(subdivisions=4)


def centres(grid: VoxelGrid) -> np.ndarray:
    """Positions of all voxels, ``(n_x, n_y, n_z, 3)``."""
    return np.array(grid.origin) + grid.spacing * np.moveaxis(np.indices(grid.values.shape), 0, -1)


def without_cap(mesh: trimesh.Trimesh, height: float) -> trimesh.Trimesh:
    """The mesh without its faces above a height."""
    cut = mesh.copy()
    cut.update_faces(mesh.triangles_center[:, 1] < height)
    return cut


def inverted(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces[:, ::-1], process=False)


def exported(mesh: trimesh.Trimesh | trimesh.Scene, path: Path) -> Path:
    mesh.export(path)
    return path


def blob(seed: int) -> trimesh.Trimesh:
    """A closed bumpy surface, turned and stretched, with its box far from a cube."""
    random = np.random.default_rng(seed)
    mesh = trimesh.creation.icosphere(subdivisions=2)
    waves = random.normal(size=(3, 3)) * 3
    mesh.vertices *= 1 + 0.3 * np.sin(mesh.vertices @ waves).mean(axis=1, keepdims=True)
    mesh.vertices *= random.uniform(0.2, 1.0, 3)
    mesh.apply_transform(trimesh.transformations.random_rotation_matrix(random.random(3)))
    return mesh


class TestVoxelise:
    @pytest.mark.parametrize("offset", [0.0, 5e5])
    def test_volume_of_a_sphere(self, offset: float) -> None:
        sphere = SPHERE.copy()
        sphere.apply_scale(3.0)
        sphere.apply_translation([offset, -offset, 1.0])
        grid = voxelise(sphere, 40, "occupancy")
        assert grid.values.dtype == np.uint8
        assert grid.values.shape == (40, 40, 40)
        assert grid.inside.sum() * grid.spacing**3 == pytest.approx(4 / 3 * np.pi * 27, rel=0.01)
        middle = centres(grid)[grid.inside].mean(axis=0)
        assert_allclose(middle, [offset, -offset, 1.0], atol=0.02)

    def test_distances_of_a_sphere(self) -> None:
        sphere = SPHERE.copy()
        sphere.apply_translation([1.0, 2.0, 3.0])
        grid = voxelise(sphere, 20, "distance")
        assert grid.values.dtype == np.float32
        radii = np.linalg.norm(centres(grid) - [1.0, 2.0, 3.0], axis=-1)
        half_side = 10 * grid.spacing
        # The flat faces run up to 0.003 below the sphere.
        assert_allclose(grid.values * half_side, radii - 1.0, atol=0.004)
        assert_array_equal(grid.inside, voxelise(sphere, 20, "occupancy").inside)

    def test_voxels_of_a_box(self) -> None:
        box = trimesh.creation.box((10.0, 4.4, 2.6))
        box.apply_translation([7.0, 0.0, 0.0])
        grid = voxelise(box, 12, "occupancy")
        assert grid.spacing == pytest.approx(1.0)
        assert grid.origin == pytest.approx((1.5, -5.5, -5.5))
        # Centres are 0.5, 1.5, ... from the box's centre on both sides.
        expected = np.zeros((12, 12, 12), np.uint8)
        expected[1:11, 4:8, 5:7] = 1
        assert_array_equal(grid.values, expected)

    @pytest.mark.parametrize("resolution", [8, 17])
    def test_only_the_outermost_layers_are_free(self, resolution: int) -> None:
        box = trimesh.creation.box((2.0, 2.0, 2.0))
        grid = voxelise(box, resolution, "occupancy")
        expected = np.zeros((resolution,) * 3, np.uint8)
        expected[1:-1, 1:-1, 1:-1] = 1
        assert_array_equal(grid.values, expected)
        distances = voxelise(box, resolution, "distance")
        # Half a voxel beyond the face, in units of half of the cube's side.
        assert distances.values[0, resolution // 2, resolution // 2] == pytest.approx(1 / resolution)

    @settings(max_examples=10, deadline=None)
    @given(seed=st.integers(0, 10_000), resolution=st.integers(8, 40))
    def test_blocks_agree_with_the_test_of_every_voxel(self, seed: int, resolution: int) -> None:
        mesh = blob(seed)
        solid = voxelisation._Solid(mesh, mesh.bounds.mean(axis=0), mesh.extents.max() / 2 * 1.1)
        assert solid.is_closed
        by_blocks = voxelisation._inside_by_blocks(solid, resolution, lambda done: None)
        assert_array_equal(by_blocks, voxelisation._inside_of_every_voxel(solid, resolution, lambda done: None))

    def test_blocks_spare_most_tests(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tested = 0
        test = voxelisation._Solid.inside

        def count(solid: voxelisation._Solid, points: np.ndarray) -> np.ndarray:
            nonlocal tested
            tested += len(points)
            return test(solid, points)

        monkeypatch.setattr(voxelisation._Solid, "inside", count)
        voxelise(trimesh.creation.icosphere(subdivisions=1), 80, "occupancy")
        assert tested < 0.6 * 80**3

    def test_small_slabs_give_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = voxelise(SPHERE, 19, "distance")
        monkeypatch.setattr(voxelisation, "_SLAB", 1024)
        assert_array_equal(voxelise(SPHERE, 19, "distance").values, whole.values)

    @pytest.mark.parametrize("target", ["occupancy", "distance"])
    @pytest.mark.parametrize("mesh", [SPHERE, without_cap(SPHERE, 0.95)], ids=["closed", "open"])
    def test_progress_rises_to_one(
        self, monkeypatch: pytest.MonkeyPatch, mesh: trimesh.Trimesh, target: ShapeTarget
    ) -> None:
        monkeypatch.setattr(voxelisation, "_SLAB", 1024)
        calls: list[float] = []
        voxelise(mesh, 17, target, progress=calls.append)
        assert len(calls) > 3
        assert calls == sorted(calls)
        assert calls[0] > 0
        assert calls[-1] == pytest.approx(1.0)

    def test_small_holes_are_closed(self) -> None:
        cut = without_cap(SPHERE, 0.95)
        assert len(cut.faces) < len(SPHERE.faces)
        # Not cut off, but bulging or flat at the hole: at most the cap's few voxels differ.
        whole, filled = voxelise(SPHERE, 32, "occupancy"), voxelise(cut, 32, "occupancy")
        radii = np.linalg.norm(centres(filled), axis=-1)
        below = centres(filled)[..., 1] < 0.8
        assert filled.inside[below & (radii < 0.97)].all()
        assert not filled.inside[below & (radii > 1.03)].any()
        assert filled.inside.sum() == pytest.approx(whole.inside.sum(), rel=0.02)

    def test_scattered_missing_faces_are_filled(self) -> None:
        cut = SPHERE.copy()
        cut.update_faces(np.random.default_rng(0).random(len(SPHERE.faces)) > 0.03)
        filled = voxelise(cut, 24, "occupancy")
        assert (filled.inside != voxelise(SPHERE, 24, "occupancy").inside).mean() < 0.005

    @pytest.mark.parametrize("mesh", [SPHERE, without_cap(SPHERE, 0.95)], ids=["closed", "open"])
    @pytest.mark.parametrize("target", ["occupancy", "distance"])
    def test_inverted_meshes(
        self, mesh: trimesh.Trimesh, target: ShapeTarget, caplog: pytest.LogCaptureFixture
    ) -> None:
        expected = voxelise(mesh, 16, target)
        assert "inside out" not in caplog.text
        with caplog.at_level(logging.WARNING, "iga_nerfstudio"):
            grid = voxelise(inverted(mesh), 16, target)
        assert "inside out" in caplog.text
        assert_array_equal(grid.values, expected.values)

    def test_cavities_stay_empty(self) -> None:
        cavity = inverted(SPHERE)
        cavity.apply_scale(0.5)
        grid = voxelise(trimesh.util.concatenate([SPHERE, cavity]), 32, "occupancy")
        radii = np.linalg.norm(centres(grid), axis=-1)
        assert_array_equal(grid.inside[(radii < 0.99) & (radii > 0.51)], True)
        assert not grid.inside[radii < 0.49].any()

    def test_parts_that_overlap_are_united(self) -> None:
        other = SPHERE.copy()
        other.apply_translation([1.0, 0.0, 0.0])
        grid = voxelise(trimesh.util.concatenate([SPHERE, other]), 24, "occupancy")
        points = centres(grid)
        nearer = np.minimum(np.linalg.norm(points, axis=-1), np.linalg.norm(points - [1.0, 0.0, 0.0], axis=-1))
        assert grid.inside[nearer < 0.99].all()
        assert not grid.inside[nearer > 1.01].any()

    @pytest.mark.parametrize("bend", [0.0, 0.3])
    def test_sheets_are_refused(self, bend: float) -> None:
        sheet = trimesh.creation.box((2.0, 2.0, 2.0)).subdivide().subdivide().subdivide()
        sheet.update_faces(sheet.triangles_center[:, 1] > 0.99)
        sheet.vertices[:, 1] = bend * np.sin(3 * sheet.vertices[:, 0])
        with pytest.raises(ValueError, match=r"does not enclose a volume: it is an open sheet.*Close the mesh"):
            voxelise(sheet, 16, "occupancy")

    def test_large_holes_are_refused(self) -> None:
        with pytest.raises(ValueError, match="does not enclose a volume"):
            voxelise(without_cap(SPHERE, 0.3), 16, "distance")

    @pytest.mark.parametrize("target", ["occupancy", "distance"])
    def test_walls_thinner_than_a_voxel_are_refused(self, target: ShapeTarget) -> None:
        with pytest.raises(ValueError, match=r"No voxel's centre is inside .* resolution 8.* Raise the resolution"):
            voxelise(trimesh.creation.box((1.0, 1.0, 0.001)), 8, target)

    def test_touching_parts_count_as_closed(self) -> None:
        # Two cubes that share an edge, which then has four faces.
        first, second = trimesh.creation.box((1.0, 1.0, 1.0)), trimesh.creation.box((1.0, 1.0, 1.0))
        second.apply_translation([1.0, 1.0, 0.0])
        both = trimesh.util.concatenate([first, second])
        both = meshes._with_merged_vertices(both.vertices, both.faces)
        assert len(both.vertices) == 14
        assert not both.is_watertight
        assert is_closed(both.faces)
        assert voxelise(both, 18, "occupancy").inside.sum() == 2 * 8 * 8 * 8

    @pytest.mark.parametrize("resolution", [-1, 7, 1025])
    def test_resolution_out_of_range(self, resolution: int) -> None:
        with pytest.raises(ValueError, match=f"resolution must be from 8 to 1024, but it is {resolution}"):
            voxelise(SPHERE, resolution, "occupancy")

    def test_fractional_resolution(self) -> None:
        with pytest.raises(ValueError, match=r"resolution must be a whole number, but it is 16\.5"):
            voxelise(SPHERE, 16.5, "occupancy")  # type: ignore[arg-type]

    def test_unknown_target(self) -> None:
        with pytest.raises(ValueError, match=r'target must be "occupancy" or "distance", but it is \'density\''):
            voxelise(SPHERE, 16, "density")  # type: ignore[arg-type]


class TestReadMesh:
    @pytest.mark.parametrize("ending", ["ply", "obj", "stl", "glb", "PLY"])
    def test_formats(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"sphere.{ending}"
        path.write_bytes(_as_bytes(SPHERE, ending.lower()))
        mesh = read_mesh(path)
        # An STL file has three vertices of its own for each face.
        assert mesh.vertices.shape == SPHERE.vertices.shape
        assert mesh.faces.shape == SPHERE.faces.shape
        assert is_closed(mesh.faces)
        assert mesh.volume == pytest.approx(SPHERE.volume, rel=1e-5)

    def test_tiny_units(self, tmp_path: Path) -> None:
        tiny = SPHERE.copy()
        tiny.apply_scale(1e-9)
        mesh = read_mesh(exported(tiny, tmp_path / "tiny.stl"))
        assert len(mesh.vertices) == len(SPHERE.vertices)
        assert voxelise(mesh, 16, "occupancy").inside.sum() == voxelise(SPHERE, 16, "occupancy").inside.sum()

    def test_scenes_are_put_together_as_placed(self, tmp_path: Path) -> None:
        scene = trimesh.Scene()
        box = trimesh.creation.box((1.0, 2.0, 3.0))
        scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([10.0, 0.0, 0.0]))
        scene.add_geometry(box, transform=trimesh.transformations.scale_matrix(2.0) @ np.diag([-1.0, 1.0, 1.0, 1.0]))
        mesh = read_mesh(exported(scene, tmp_path / "scene.glb"))
        assert_allclose(mesh.bounds, [[-1.0, -2.0, -3.0], [10.5, 2.0, 3.0]])
        # The mirrored part is not turned inside out.
        assert mesh.volume == pytest.approx(6.0 + 8 * 6.0)

    def test_vertices_without_faces_do_not_count(self, tmp_path: Path) -> None:
        path = tmp_path / "stray.obj"
        path.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 99 99 99\nf 1 2 3\n")
        assert_allclose(read_mesh(path).bounds, [[0, 0, 0], [1, 1, 0]])

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"nowhere\.ply does not exist"):
            read_mesh(tmp_path / "nowhere.ply")

    @pytest.mark.parametrize("ending", ["ply", "obj", "stl", "glb"])
    def test_empty(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"mesh.{ending}"
        path.touch()
        with pytest.raises(ValueError, match=rf"mesh\.{ending} is empty"):
            read_mesh(path)

    @pytest.mark.parametrize("name", ["mesh.xyz", "mesh"])
    def test_wrong_ending(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("v 0 0 0")
        with pytest.raises(ValueError, match=r"is none of \.ply, \.obj, \.stl, \.glb"):
            read_mesh(tmp_path / name)

    @pytest.mark.parametrize("ending", ["ply", "stl", "glb"])
    def test_cut_short(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"mesh.{ending}"
        content = _as_bytes(SPHERE, ending)
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=r"(Cannot read .* as a mesh|cut short)"):
            read_mesh(path)

    @pytest.mark.parametrize("ending", ["ply", "obj", "stl", "glb"])
    def test_noise(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"mesh.{ending}"
        path.write_bytes(np.random.default_rng(0).bytes(500))
        with pytest.raises(ValueError, match=rf"mesh\.{ending}"):
            read_mesh(path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 7\n", r"faces of .*mesh\.obj name vertices from 0 to 6, but it holds 3"),
            *(
                (
                    f"v 0 0 {value}\nv 1 0 0\nv 0 1 0\nv 0 0 {value}\nf 1 2 3\nf 4 3 2\n",
                    r"mesh\.obj has 2 vertices with NaN or infinite coordinates",
                )
                for value in ("nan", "inf")
            ),
            ("v 1 2 3\nv 1 2 3\nv 1 2 3\nf 1 2 3\n", r"mesh\.obj are at one point, \[1\.0, 2\.0, 3\.0\]"),
        ],
        ids=["missing vertices", "nan", "inf", "no extent"],
    )
    def test_vertices_that_cannot_be(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "mesh.obj"
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_mesh(path)

    @pytest.mark.parametrize("face", [(0, 1, 7), (0, 1, -1)])
    def test_faces_of_missing_vertices_in_ply(self, tmp_path: Path, face: tuple[int, int, int]) -> None:
        path = tmp_path / "mesh.ply"
        header = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
        path.write_text(f"{header}0 0 0\n1 0 0\n0 1 0\n3 {face[0]} {face[1]} {face[2]}\n")
        with pytest.raises(ValueError, match=r"faces of .*mesh\.ply name vertices from .* but it holds 3"):
            read_mesh(path)

    def test_point_clouds(self, tmp_path: Path) -> None:
        trimesh.PointCloud(SPHERE.vertices).export(tmp_path / "cloud.ply")
        with pytest.raises(ValueError, match=r"cloud\.ply holds no faces: it is a point cloud"):
            read_mesh(tmp_path / "cloud.ply")


def _as_bytes(mesh: trimesh.Trimesh, ending: str) -> bytes:
    content = mesh.export(file_type=ending)
    return content.encode() if isinstance(content, str) else content


class TestCrop:
    @settings(deadline=None)
    @given(values=arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 1)))
    def test_tight_and_complete(self, values: np.ndarray) -> None:
        grid = VoxelGrid(values, "occupancy", (1.0, -2.0, 0.5), 0.25)
        if not values.any() or values.all():
            with pytest.raises(ValueError, match=r"The grid has (no|every) voxel inside"):
                crop_to_shape(grid)
            return
        cropped = crop_to_shape(grid)
        # The same points are inside, and none of the outermost slices is empty.
        assert_array_equal(centres(cropped)[cropped.inside], centres(grid)[grid.inside])
        for axis in range(3):
            for side in (0, -1):
                assert cropped.inside.take(side, axis=axis).any()

    def test_the_last_slices_are_kept(self) -> None:
        values = np.zeros((6, 7, 8), np.uint8)
        values[2:5, 1:4, 3:8] = 1
        cropped = crop_to_shape(VoxelGrid(values, "occupancy", (0.0, 0.0, 0.0), 2.0))
        assert cropped.values.shape == (3, 3, 5)
        assert cropped.values.all()
        assert cropped.origin == (4.0, 2.0, 6.0)
        assert cropped.spacing == 2.0

    def test_distances(self) -> None:
        cropped = crop_to_shape(voxelise(SPHERE, 16, "distance"))
        assert cropped.values.shape == (14, 14, 14)


OCCUPANCY = np.random.default_rng(0).integers(0, 2, (4, 5, 6))
DISTANCES = np.random.default_rng(0).normal(size=(4, 5, 6))


def write_mat_7_3(path: Path, contents: dict[str, np.ndarray]) -> None:
    """As MATLAB does: 512 bytes of its own first, and axes in reverse order."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in contents.items():
            file[name] = values.T
        file.create_group("#refs#")
    with path.open("r+b") as handle:
        handle.write(b"MATLAB 7.3 MAT-file".ljust(512))


def write_npz(path: Path, contents: dict[str, np.ndarray]) -> None:
    np.savez(path, **contents)


def write_mat(path: Path, contents: dict[str, np.ndarray]) -> None:
    scipy.io.savemat(path, contents)


Writer = Callable[[Path, dict[str, np.ndarray]], None]
CONTAINERS = pytest.mark.parametrize(
    ("ending", "write"), [("npz", write_npz), ("mat", write_mat), ("mat", write_mat_7_3)], ids=["npz", "v5", "v7.3"]
)


class TestReadVoxels:
    @pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", "f8", ">f4"])
    def test_occupancy_of_any_type(self, tmp_path: Path, dtype: str) -> None:
        np.save(tmp_path / "grid.npy", OCCUPANCY.astype(dtype))
        grid = read_voxels(tmp_path / "grid.npy", "occupancy")
        assert grid.values.dtype == np.uint8
        assert_array_equal(grid.values, OCCUPANCY)
        assert grid.origin == (0.0, 0.0, 0.0)
        assert grid.spacing == 1.0

    def test_distances_are_taken_as_they_are(self, tmp_path: Path) -> None:
        np.save(tmp_path / "grid.npy", DISTANCES)
        grid = read_voxels(tmp_path / "grid.npy", "distance")
        assert grid.values.dtype == np.float32
        assert_array_equal(grid.values, DISTANCES.astype(np.float32))
        assert_array_equal(grid.inside, DISTANCES < 0)

    @CONTAINERS
    def test_the_only_array(self, tmp_path: Path, ending: str, write: Writer) -> None:
        path = tmp_path / f"grid.{ending}"
        write(path, {"anything": DISTANCES})
        grid = read_voxels(path, "distance")
        assert_array_equal(grid.values, DISTANCES.astype(np.float32))
        assert grid.values.flags.c_contiguous

    @CONTAINERS
    @pytest.mark.parametrize(("target", "name"), [("occupancy", "occupancy"), ("distance", "sdf")])
    def test_the_array_named_after_the_target(
        self, tmp_path: Path, ending: str, write: Writer, target: ShapeTarget, name: str
    ) -> None:
        path = tmp_path / f"grid.{ending}"
        write(path, {"other": DISTANCES + 9, "occupancy": OCCUPANCY, "sdf": DISTANCES})
        expected = {"occupancy": OCCUPANCY, "sdf": DISTANCES.astype(np.float32)}[name]
        assert_array_equal(read_voxels(path, target).values, expected)

    @CONTAINERS
    def test_the_array_named_voxels(self, tmp_path: Path, ending: str, write: Writer) -> None:
        path = tmp_path / f"grid.{ending}"
        write(path, {"other": DISTANCES, "voxels": OCCUPANCY})
        assert_array_equal(read_voxels(path, "occupancy").values, OCCUPANCY)

    @CONTAINERS
    def test_several_arrays(self, tmp_path: Path, ending: str, write: Writer) -> None:
        path = tmp_path / f"grid.{ending}"
        write(path, {"first": OCCUPANCY, "second": OCCUPANCY})
        with pytest.raises(ValueError, match=r"grid\.\w+ holds several arrays: first, second\. Save the grid alone"):
            read_voxels(path, "occupancy")

    @CONTAINERS
    def test_arrays_that_are_no_grids_are_passed_over(self, tmp_path: Path, ending: str, write: Writer) -> None:
        path = tmp_path / f"grid.{ending}"
        write(path, {"scale": np.ones((1, 1)), "grid": OCCUPANCY, "origin": np.zeros((3, 1))})
        assert_array_equal(read_voxels(path, "occupancy").values, OCCUPANCY)

    def test_what_else_an_npz_file_may_hold(self, tmp_path: Path) -> None:
        path = tmp_path / "grid.npz"
        np.savez(path, unit="mm", grid=OCCUPANCY, spacing=0.1, notes=np.array([None]))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("README.txt", "by hand")
        assert_array_equal(read_voxels(path, "occupancy").values, OCCUPANCY)

    @pytest.mark.parametrize("write", [write_mat, write_mat_7_3])
    def test_mat_files_without_a_grid(self, tmp_path: Path, write: Writer) -> None:
        write(tmp_path / "grid.mat", {"scale": np.ones((3, 3))})
        with pytest.raises(ValueError, match=r"grid\.mat holds no three-dimensional array"):
            read_voxels(tmp_path / "grid.mat", "occupancy")

    def test_an_empty_npz(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "grid.npz")
        with pytest.raises(ValueError, match=r"grid\.npz holds no array"):
            read_voxels(tmp_path / "grid.npz", "occupancy")

    @pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 5), (0, 3, 3), ()])
    def test_not_three_axes(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        np.save(tmp_path / "grid.npy", np.ones(shape))
        with pytest.raises(ValueError, match=r"must hold a grid of three axes, but its array is \("):
            read_voxels(tmp_path / "grid.npy", "occupancy")

    @pytest.mark.parametrize("target", ["occupancy", "distance"])
    def test_not_finite(self, tmp_path: Path, target: ShapeTarget) -> None:
        values = OCCUPANCY.astype(np.float32)
        values[0, 0, :2] = np.nan
        values[1, 1, 1] = -np.inf
        np.save(tmp_path / "grid.npy", values)
        with pytest.raises(ValueError, match=r"has 3 NaN or infinite values of 120"):
            read_voxels(tmp_path / "grid.npy", target)

    @pytest.mark.parametrize("dtype", ["c8", "U3", "M8[s]"])
    def test_not_real_numbers(self, tmp_path: Path, dtype: str) -> None:
        np.save(tmp_path / "grid.npy", np.zeros((2, 2, 2), dtype))
        with pytest.raises(ValueError, match=r"holds values of type .*Save real numbers"):
            read_voxels(tmp_path / "grid.npy", "occupancy")

    def test_occupancy_that_is_not_binary(self, tmp_path: Path) -> None:
        np.save(tmp_path / "grid.npy", np.linspace(-0.5, 2, 27).reshape(3, 3, 3))
        with pytest.raises(ValueError, match=r"range from -0\.5 to 2\.0\. .*--target distance"):
            read_voxels(tmp_path / "grid.npy", "occupancy")

    @pytest.mark.parametrize(("value", "words"), [(0, "no voxel inside"), (1, "every voxel inside")])
    def test_occupancy_of_one_value(self, tmp_path: Path, value: int, words: str) -> None:
        np.save(tmp_path / "grid.npy", np.full((3, 3, 3), value))
        with pytest.raises(ValueError, match=rf"grid\.npy has {words}"):
            read_voxels(tmp_path / "grid.npy", "occupancy")

    @pytest.mark.parametrize("values", [OCCUPANCY, -1 - OCCUPANCY])
    def test_distances_of_one_sign(self, tmp_path: Path, values: np.ndarray) -> None:
        np.save(tmp_path / "grid.npy", values)
        with pytest.raises(ValueError, match=r"range from -?\d to -?\d\. .*--target occupancy"):
            read_voxels(tmp_path / "grid.npy", "distance")

    @pytest.mark.parametrize("ending", ["npy", "npz"])
    def test_pickled_objects_are_never_loaded(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"grid.{ending}"
        values = np.full((2, 2, 2), None)
        np.save(path, values, allow_pickle=True) if ending == "npy" else np.savez(path, values)
        with pytest.raises(ValueError, match=r"holds pickled Python objects, which are not read"):
            read_voxels(path, "occupancy")

    def test_plain_pickles_are_never_loaded(self, tmp_path: Path) -> None:
        OCCUPANCY.dump(tmp_path / "grid.npy")
        with pytest.raises(ValueError, match=r"holds pickled Python objects"):
            read_voxels(tmp_path / "grid.npy", "occupancy")

    @CONTAINERS
    def test_cut_short(self, tmp_path: Path, ending: str, write: Writer) -> None:
        path = tmp_path / f"grid.{ending}"
        write(path, {"grid": DISTANCES})
        path.write_bytes(path.read_bytes()[:900])
        with pytest.raises(ValueError, match=r"Cannot read .*grid\.\w+ as a"):
            read_voxels(path, "distance")

    def test_npy_cut_short(self, tmp_path: Path) -> None:
        path = tmp_path / "grid.npy"
        np.save(path, DISTANCES)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ValueError, match=r"Cannot read .*grid\.npy as an array"):
            read_voxels(path, "distance")

    def test_missing_and_empty_and_wrong_ending(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="does not exist"):
            read_voxels(tmp_path / "nowhere.npy", "occupancy")
        (tmp_path / "grid.npy").touch()
        with pytest.raises(ValueError, match=r"grid\.npy is empty"):
            read_voxels(tmp_path / "grid.npy", "occupancy")
        with pytest.raises(ValueError, match=r"'\.raw' is none of \.npy, \.npz, \.mat"):
            read_voxels(tmp_path / "grid.raw", "occupancy")


@pytest.fixture
def sphere_file(tmp_path: Path) -> Path:
    return exported(trimesh.creation.icosphere(subdivisions=1), tmp_path / "sphere.ply")


def unreachable(*_: object) -> None:
    raise AssertionError("sampled although the values were there")


class TestLoadShape:
    def test_meshes_come_with_the_truth(self, sphere_file: Path) -> None:
        grid, mesh = load_shape(sphere_file, 16, "occupancy", cache_dir=None, crop=False)
        assert mesh is not None
        assert_array_equal(mesh.vertices, read_mesh(sphere_file).vertices)
        assert_array_equal(grid.values, voxelise(mesh, 16, "occupancy").values)

    def test_files_of_voxels_come_alone(self, tmp_path: Path) -> None:
        np.save(tmp_path / "grid.npy", OCCUPANCY)
        grid, mesh = load_shape(tmp_path / "grid.npy", 16, "occupancy", cache_dir=tmp_path / "cache", crop=False)
        assert mesh is None
        assert_array_equal(grid.values, OCCUPANCY)
        assert not (tmp_path / "cache").exists()

    def test_crop_concerns_occupancy_only(self, sphere_file: Path, tmp_path: Path) -> None:
        occupancy, _ = load_shape(sphere_file, 16, "occupancy", cache_dir=tmp_path, crop=True)
        distance, _ = load_shape(sphere_file, 16, "distance", cache_dir=tmp_path, crop=True)
        assert occupancy.values.shape == (14, 14, 14)
        assert distance.values.shape == (16, 16, 16)

    def test_wrong_ending(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"'\.fbx' is none of \.ply.*\.mat"):
            load_shape(tmp_path / "mesh.fbx", 16, "occupancy", cache_dir=None, crop=False)

    def test_wrong_resolution_leaves_no_cache(self, sphere_file: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="resolution must be from 8 to 1024"):
            load_shape(sphere_file, 4, "occupancy", cache_dir=tmp_path / "cache", crop=False)
        assert not (tmp_path / "cache").exists()


class TestCache:
    @pytest.mark.parametrize("target", ["occupancy", "distance"])
    def test_a_second_time_nothing_is_sampled(
        self, sphere_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: ShapeTarget
    ) -> None:
        cache = tmp_path / "new" / "cache"
        calls: list[float] = []
        first, _ = load_shape(sphere_file, 16, target, cache_dir=cache, crop=False, progress=calls.append)
        assert calls[-1] == pytest.approx(1.0)
        assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".npy"]
        for name in ("fast_winding_number", "point_mesh_squared_distance"):
            monkeypatch.setattr(voxelisation.igl, name, unreachable)
        second, mesh = load_shape(sphere_file, 16, target, cache_dir=cache, crop=False, progress=unreachable)
        assert mesh is not None
        assert isinstance(second.values, np.memmap)
        assert not second.values.flags.writeable
        assert second.values.dtype == first.values.dtype
        assert_array_equal(second.values, first.values)
        assert (second.origin, second.spacing, second.target) == (first.origin, first.spacing, first.target)

    def test_other_requests_are_other_entries(self, sphere_file: Path, tmp_path: Path) -> None:
        other = exported(trimesh.creation.box((1.0, 2.0, 3.0)), tmp_path / "box.ply")
        requests: list[tuple[Path, int, ShapeTarget]] = [
            (sphere_file, 16, "occupancy"),
            (sphere_file, 17, "occupancy"),
            (sphere_file, 16, "distance"),
            (other, 16, "occupancy"),
        ]
        for path, resolution, target in requests:
            grid, mesh = load_shape(path, resolution, target, cache_dir=tmp_path / "cache", crop=False)
            assert mesh is not None
            assert_array_equal(grid.values, voxelise(mesh, resolution, target).values)
        assert len(list((tmp_path / "cache").glob("*.npy"))) == 4

    @pytest.mark.parametrize("damage", ["cut", "zeros", "junk", "gone", "note", "no entry", "list"])
    def test_damaged_entries_are_made_again(
        self, sphere_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
    ) -> None:
        cache = tmp_path / "cache"
        expected = voxelise(read_mesh(sphere_file), 16, "occupancy")
        load_shape(sphere_file, 16, "occupancy", cache_dir=cache, crop=False)
        (array,), (note,) = cache.glob("*.npy"), cache.glob("*.json")
        content = array.read_bytes()
        {
            "cut": lambda: array.write_bytes(content[:-500]),
            "zeros": lambda: array.write_bytes(content[:-4096].ljust(len(content), b"\0")),
            "junk": lambda: array.write_bytes(b"junk"),
            "gone": lambda: array.unlink(),
            "note": lambda: note.write_text("{"),
            "no entry": lambda: note.write_text(json.dumps({"origin": [0, 0, 0]})),
            "list": lambda: note.write_text("[]"),
        }[damage]()
        with caplog.at_level(logging.WARNING, "iga_nerfstudio"):
            grid, _ = load_shape(sphere_file, 16, "occupancy", cache_dir=cache, crop=False)
        assert "are damaged" in caplog.text
        assert "made again" in caplog.text
        assert_array_equal(grid.values, expected.values)
        caplog.clear()
        load_shape(sphere_file, 16, "occupancy", cache_dir=cache, crop=False)
        assert not caplog.text

    def test_an_interrupted_attempt_leaves_nothing(
        self, sphere_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(path: Path, values: np.ndarray) -> None:
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt

        cache = tmp_path / "cache"
        with monkeypatch.context() as patch:
            patch.setattr(np, "save", interrupt)
            with pytest.raises(KeyboardInterrupt):
                load_shape(sphere_file, 16, "occupancy", cache_dir=cache, crop=False)
        assert list(cache.iterdir()) == []
        load_shape(sphere_file, 16, "occupancy", cache_dir=cache, crop=False)
        assert len(list(cache.iterdir())) == 2

    def test_folders_that_cannot_be_written(self, sphere_file: Path, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("a file")
        with pytest.raises(ValueError, match=r"Cannot keep the voxels of .* Choose a cache folder"):
            load_shape(sphere_file, 16, "occupancy", cache_dir=tmp_path / "cache", crop=False)
        assert (tmp_path / "cache").read_text() == "a file"
