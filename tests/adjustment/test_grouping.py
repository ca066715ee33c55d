"""Groups hold each input once, neighbours together, and give everything back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iga_nerfstudio import Blocks, Intervals, Patches, Rays


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
