"""Groups hold each input once, neighbours together, and give everything back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iga_nerfstudio import Blocks, Intervals, Patches, Rays, order_by_place


@settings(max_examples=80, deadline=None)
@given(data=st.data(), axes=st.integers(1, 3), trailing=st.lists(st.integers(1, 3), max_size=2))
def test_round_trip_of_any_grid(data, axes, trailing):
    shape = data.draw(st.lists(st.integers(1, 9), min_size=axes, max_size=axes))
    block = [data.draw(st.integers(1, cells)) for cells in shape]
    grouping = Blocks(shape, block)
    values = torch.randn(grouping.num_inputs, *trailing)
    groups = grouping.split(values)
    assert groups.shape == (grouping.num_groups(grouping.num_inputs), grouping.group_size, *trailing)
    assert torch.equal(grouping.join(groups), values)
    filled = torch.ones(groups.shape[:2], dtype=torch.bool) if grouping.mask is None else grouping.mask
    assert int(filled.sum()) == grouping.num_inputs
    assert (groups[~filled] == 0).all()


def test_patches_hold_neighbours():
    rows, columns = torch.meshgrid(torch.arange(50), torch.arange(70), indexing="ij")
    grouping = Patches((50, 70), patch_size=16)
    groups = grouping.split(torch.stack([rows, columns], -1).reshape(-1, 2))
    assert groups.shape == (4 * 5, 256, 2)
    assert grouping.mask is not None
    for group, filled in zip(groups, grouping.mask, strict=True):
        members = group[filled]
        assert len({(int(r) // 16, int(c) // 16) for r, c in members}) == 1
    assert groups[0, 17].tolist() == [1, 1]


def test_exact_patches_need_no_mask():
    assert Patches((512, 768), patch_size=32).mask is None
    assert Patches((512, 768), patch_size=32).num_groups(512 * 768) == 384


def test_intervals_are_runs_with_a_ragged_end():
    grouping = Intervals(10, 4)
    assert grouping.split(torch.arange(10)).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 0]]
    assert grouping.mask is not None
    assert grouping.mask[2].tolist() == [True, True, False, False]


def test_rays_keep_their_samples():
    values = torch.randn(12, 3)
    grouping = Rays(4)
    assert torch.equal(grouping.split(values)[1, 2], values[6])
    assert torch.equal(grouping.join(grouping.split(values)), values)
    assert grouping.mask is None


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Patches((8, 8), 9), "larger than the grid"),
        (lambda: Patches((0, 8), 1), "must be positive"),
        (lambda: Patches((1, 1), 2), "larger than the grid"),
        (lambda: Blocks((4, 4), (2,)), "number of axes"),
        (lambda: Patches(512, 32), "one per axis in brackets"),
        (lambda: Intervals(5, 0), "must be positive"),
        (lambda: Rays(0), "must be positive"),
        (lambda: Rays(5).split(torch.zeros(12, 2)), "no whole number of rays"),
        (lambda: Intervals(5, 2).split(torch.zeros(6)), "Got 6 rows"),
    ],
)
def test_what_does_not_fit_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_sizes_are_whole_numbers_of_any_kind():
    assert Patches((np.int64(8), 8), np.int64(4)).num_inputs == Patches((8, 8), np.array([4, 4])).num_inputs == 64
    with pytest.raises(ValueError, match="whole numbers"):
        Patches((8, 8), 2.5)  # type: ignore[arg-type]


@settings(max_examples=80, deadline=None)
@given(data=st.data(), axes=st.integers(1, 4))
def test_points_come_in_the_order_of_their_interleaved_digits(data, axes):
    place = st.lists(st.integers(0, 1023), min_size=axes, max_size=axes)
    places = data.draw(st.lists(place, max_size=40))
    # With the box's corners, a cell is as wide as a unit.
    points = torch.tensor([[0] * axes, [1023] * axes, *places])

    def digits(point):
        # Of each axis the highest binary digit first, the last axis foremost.
        return "".join(f"{x:010b}"[digit] for digit in range(10) for x in reversed(point.tolist()))

    expected = sorted(range(len(points)), key=lambda row: digits(points[row]))
    assert order_by_place(points).tolist() == expected
    assert order_by_place(points.double() * 2 - 7).tolist() == expected


def test_points_on_one_place_keep_their_order_and_what_is_no_point_is_refused():
    assert order_by_place(torch.ones(5, 3)).tolist() == [0, 1, 2, 3, 4]
    for points in (torch.zeros(4), torch.zeros(0, 2), torch.zeros(4, 0), torch.zeros(4, 2, 1)):
        with pytest.raises(ValueError, match=r"coordinates of shape \(N, d\)"):
            order_by_place(points)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16])
def test_points_of_any_type_come_in_the_order_of_the_same_numbers(dtype):
    """Differences, and a thousand times those, are more than some types hold."""
    torch.manual_seed(0)
    low, high = (-60000, 60000) if dtype.is_floating_point else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    points = (low + (high - low) * torch.rand(200, 2, dtype=torch.float64)).to(dtype)
    points[:, 1] = points[0, 1]  # all alike along one axis
    points[:9, 1] = 1
    wide = points.to(torch.float32 if dtype.is_floating_point else torch.int64)
    assert torch.equal(order_by_place(points), order_by_place(wide))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_points_without_a_place_are_refused(value):
    with pytest.raises(ValueError, match="NaN or infinite have no place"):
        order_by_place(torch.tensor([[0.0, 1.0], [value, 2.0], [3.0, 4.0]]))
