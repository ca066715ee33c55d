"""What voxels may hold, the same for files and for arrays."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from numpy.testing import assert_array_equal

from iga_nerfstudio.data.voxels import ShapeTarget, VoxelGrid, as_voxel_grid, read_voxels
from iga_nerfstudio.tasks import sdf

# A ball of radius 4 in the middle of a grid of 12 voxels on each side; 0 is no voxel's distance.
DISTANCES = np.linalg.norm(np.indices((12, 12, 12)) - 5.5, axis=0) - 4.03
BALL = DISTANCES < 0

Read = Callable[[np.ndarray, ShapeTarget], VoxelGrid]


def fitted(values: np.ndarray, target: ShapeTarget) -> VoxelGrid:
    """The grid that a fit of an array begins with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sdf, "fit", lambda *_: None)
        return sdf.fit_shape(values, sdf.SDFConfig(target=target))[1].voxels


@pytest.fixture(params=["file", "array"])
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Read:
    """Voxels by way of a file, and those given to a fit."""
    if request.param == "array":
        return fitted

    def by_file(values: np.ndarray, target: ShapeTarget) -> VoxelGrid:
        np.save(tmp_path / "grid.npy", values)
        return read_voxels(tmp_path / "grid.npy", target)

    return by_file


class TestOccupancy:
    @pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", "f8", ">f4"])
    def test_any_type(self, read: Read, dtype: str, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "iga_nerfstudio"):
            grid = read(BALL.astype(dtype), "occupancy")
        assert grid.values.dtype == np.uint8
        assert_array_equal(grid.values, BALL)
        assert not caplog.text

    @pytest.mark.parametrize(("inside", "dtype"), [(255, "u1"), (65535, "u2"), (7.5, "f4")])
    def test_another_number_inside(
        self, read: Read, inside: float, dtype: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "iga_nerfstudio"):
            grid = read((BALL * inside).astype(dtype), "occupancy")
        assert_array_equal(grid.values, BALL)
        assert f"has the values 0 and {inside}. They are read as 0 (outside) and 1 (inside)" in caplog.text

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (np.where(BALL, 1, -1), r"range from -1 to 1\. Occupancy must be 0 or 1"),
            (-1 * BALL, r"range from -1 to 0"),
            (BALL * np.linspace(0.1, 1, 12), r"range from 0\.0 to 0\.8.* apply a threshold"),
            (1 - BALL, r"every voxel at its border inside, and \d+ in its middle outside.*Swap 0 and 1"),
            (0 * BALL, r"no voxel inside"),
            (255 * np.ones((4, 4, 4)), r"every voxel inside"),
        ],
        ids=["signs", "negative", "graded", "inverted", "empty", "full"],
    )
    def test_refused(self, read: Read, values: np.ndarray, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            read(values, "occupancy")


class TestDistances:
    def test_negative_inside(self, read: Read, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "iga_nerfstudio"):
            grid = read(DISTANCES, "distance")
        assert_array_equal(grid.values, DISTANCES.astype(np.float32))
        assert not caplog.text

    def test_positive_inside(self, read: Read, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "iga_nerfstudio"):
            grid = read(-DISTANCES, "distance")
        assert_array_equal(grid.inside, BALL)
        assert (
            "is negative all along its border, so positive inside. The sign of its distances is changed" in caplog.text
        )

    def test_mostly_negative_along_the_border(self, read: Read, caplog: pytest.LogCaptureFixture) -> None:
        # A slab that is cut by four of the six sides.
        values = np.broadcast_to(np.abs(np.arange(12) - 5.5)[:, None, None] - 5.03, (12, 12, 12))
        with caplog.at_level(logging.WARNING, "iga_nerfstudio"):
            grid = read(values, "distance")
        assert_array_equal(grid.values, values.astype(np.float32))
        assert "inside, in 60 % of the voxels at its border" in caplog.text

    @pytest.mark.parametrize("values", [BALL, np.abs(DISTANCES), -np.abs(DISTANCES), 1e300 * DISTANCES])
    def test_refused(self, read: Read, values: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"has values that range from .* Signed distances must be negative inside"):
            read(values, "distance")


class TestLayout:
    @pytest.mark.parametrize("shape", [(1, 12, 12, 12), (12, 12, 12, 1), (1, 1, 12, 12, 12)])
    def test_axes_of_length_one_are_left_out(self, read: Read, shape: tuple[int, ...]) -> None:
        assert_array_equal(read(BALL.reshape(shape), "occupancy").values, BALL)

    @pytest.mark.parametrize("shape", [(12, 144), (1728,), (2, 6, 12, 12), (1, 12, 1, 144), (0, 3, 3), ()])
    @pytest.mark.parametrize("target", ["occupancy", "distance"])
    def test_not_three_axes(self, read: Read, shape: tuple[int, ...], target: ShapeTarget) -> None:
        values = np.zeros(shape) if 0 in shape or not shape else DISTANCES.reshape(shape)
        with pytest.raises(ValueError, match=r"must hold a grid of three axes, but its array is \("):
            read(values, target)

    def test_flat_grids_stay(self) -> None:
        values = np.zeros((4, 4, 1))
        values[1, 1:3] = 1
        assert_array_equal(as_voxel_grid(values, "occupancy").values, values)

    @pytest.mark.parametrize("dtype", ["c8", "U3", "M8[s]"])
    def test_not_real_numbers(self, read: Read, dtype: str) -> None:
        with pytest.raises(ValueError, match=r"holds values of type .*, \(2, 3, 4\)\. Save real numbers"):
            read(np.zeros((2, 3, 4), dtype), "occupancy")

    @pytest.mark.parametrize("target", ["occupancy", "distance"])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite(self, read: Read, target: ShapeTarget, value: float) -> None:
        values = DISTANCES.copy()
        values[0, 0, :2] = value
        with pytest.raises(ValueError, match="has 2 NaN or infinite values of 1728"):
            read(values, target)

    @pytest.mark.parametrize("version", ["5", "7.3"])
    def test_axes_of_length_one_in_mat_files(self, tmp_path: Path, version: str) -> None:
        values = BALL.reshape(1, 12, 12, 12).astype(np.uint8)
        if version == "5":
            scipy.io.savemat(tmp_path / "grid.mat", {"grid": values})
        else:
            with h5py.File(tmp_path / "grid.mat", "w") as file:
                file["grid"] = values.T
        assert_array_equal(read_voxels(tmp_path / "grid.mat", "occupancy").values, BALL)


class TestArrays:
    def test_masked(self) -> None:
        with pytest.raises(ValueError, match="The array has 864 masked values of 1728"):
            fitted(np.ma.masked_array(BALL, np.arange(1728).reshape(BALL.shape) % 2 == 0), "occupancy")
        assert_array_equal(fitted(np.ma.masked_array(BALL), "occupancy").values, BALL)

    def test_tensors_and_lists(self) -> None:
        assert_array_equal(fitted(torch.from_numpy(DISTANCES).requires_grad_(), "distance").inside, BALL)
        assert_array_equal(fitted(BALL.tolist(), "occupancy").values, BALL)
