"""Who is chosen to stand for a group."""

from __future__ import annotations

import pytest
import torch

from iga_nerfstudio import Intervals, choose, layerwise_entk
from iga_nerfstudio.adjustment.representatives import validate_representative

SCORES = torch.tensor([[1.0, 5.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0], [2.0, 1.0, 9.0, 8.0]])
RAGGED = torch.tensor([[True] * 4, [True] * 4, [True, True, False, False]])


def test_largest_score():
    assert choose("largest_residual", 1, (3, 4), scores=SCORES).slots[[0, 2], 0].tolist() == [1, 2]
    assert choose("largest_residual", 1, (3, 4), scores=SCORES, mask=RAGGED).slots[2].item() == 0


@pytest.mark.parametrize("name", ["largest_residual", "previous_residual", "largest_weight", "all_maxima"])
def test_a_score_of_nan_stands_for_a_group_that_has_no_other_only(name):
    scores = SCORES.clone()
    scores[0, 1] = scores[2, 0] = torch.nan
    scores[1] = torch.nan
    chosen = choose(name, 1, (3, 4), scores=scores, mask=RAGGED).slots
    assert chosen[0].tolist()[0 if name != "all_maxima" else -1] == 2
    assert chosen[2, 0].item() == 1 or name == "all_maxima"
    scores[2, :2] = torch.nan  # all that this ragged group has
    chosen = choose(name, 1, (3, 4), scores=scores, mask=RAGGED).slots
    assert RAGGED.gather(1, chosen).all()
    assert choose("largest_residual", 1, (3, 4), scores=torch.tensor([[0, 2, 1, 0]]).expand(3, 4)).slots[0].item() == 1


def test_shares_of_scores_of_nan_are_zero():
    scores = SCORES.clone()
    scores[0, 0] = torch.nan
    weights = choose("largest_weight", 4, (3, 4), scores=scores).weights
    assert weights is not None
    assert torch.allclose(weights[0], torch.tensor([5 / 8, 3 / 8, 0, 0]))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float16])
@pytest.mark.parametrize("mask", [None, RAGGED])
def test_counts_and_truth_values_rank_as_the_same_numbers(dtype, mask):
    scores = SCORES.to(dtype)
    for name in ("largest_residual", "previous_residual", "largest_weight", "all_maxima"):
        for count in (1, 2) if name != "all_maxima" else (1,):
            found, expected = (choose(name, count, (3, 4), scores=one, mask=mask) for one in (scores, scores.float()))
            assert torch.equal(found.slots, expected.slots)
            assert (found.weights is None) == (expected.weights is None)
            assert found.weights is None or torch.allclose(found.weights.float(), expected.weights, atol=1e-3)


def test_scores_may_be_logarithms():
    """The empty slots of a ragged group are below any score."""
    assert choose("largest_weight", 1, (3, 4), scores=-5 - SCORES, mask=RAGGED).slots[2].item() in (0, 1)
    assert RAGGED.gather(1, choose("largest_weight", 1, (3, 4), scores=-5 - SCORES, mask=RAGGED).slots).all()


def test_heaviest_samples_count_in_proportion():
    chosen = choose("largest_weight", 2, (3, 4), scores=SCORES)
    assert chosen.slots[0].tolist() == [1, 2]
    assert chosen.weights is not None
    assert torch.allclose(chosen.weights[0], torch.tensor([5 / 8, 3 / 8]))
    # A ray through empty space has no weight anywhere: equal shares, nothing divided by zero.
    assert torch.allclose(chosen.weights[1], torch.tensor([0.5, 0.5]))


def test_middle_of_full_and_ragged_groups():
    assert choose("middle", 1, (3, 4)).slots[:, 0].tolist() == [2, 2, 2]
    assert choose("middle", 1, (3, 4), mask=RAGGED).slots[:, 0].tolist() == [2, 2, 1]
    late = torch.tensor([[False, True, True, True]])
    assert choose("middle", 1, (1, 4), mask=late).slots.item() == 2


@pytest.mark.parametrize("name", ["random", "random_once", "mean"])
def test_drawn_slots_are_distinct_filled_and_reproducible(name):
    count = 3
    mask = Intervals(18, 4).mask
    assert mask is not None
    draws = [choose(name, count, (5, 4), mask=mask, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(draws[0].slots, draws[1].slots)
    assert bool(mask.gather(1, draws[0].slots).all())
    assert all(len(set(row.tolist())) == count for row in draws[0].slots[:4])
    assert len(set(draws[0].slots[4].tolist())) == 2


def test_random_slots_are_uniform():
    generator = torch.Generator().manual_seed(0)
    slots = choose("random", 1, (4000, 5), generator=generator).slots
    assert (torch.bincount(slots[:, 0], minlength=5) - 800).abs().max() < 120


def test_gather_picks_rows():
    groups = torch.arange(24.0).reshape(3, 4, 2)
    one = choose("largest_residual", 1, (3, 4), scores=SCORES).gather(groups)
    assert one[0].tolist() == [2.0, 3.0]
    assert one.shape == (3, 2)
    assert choose("largest_weight", 2, (3, 4), scores=SCORES).gather(groups).shape == (3, 2, 2)


def test_the_places_of_all_maxima_in_every_group():
    chosen = choose("all_maxima", 1, (3, 4), scores=SCORES)  # maxima at 1, 0 and 2
    assert chosen.slots.tolist() == [[0, 1, 2]] * 3
    assert chosen.weights is not None
    assert torch.allclose(chosen.weights, torch.full((3, 3), 1 / 3))
    # Where two groups have theirs in one place, it counts twice.
    shifted = choose("all_maxima", 1, (3, 4), scores=torch.stack([SCORES[0], SCORES[0], SCORES[2]]))
    assert shifted.slots.tolist() == [[1, 2]] * 3
    assert shifted.weights is not None
    assert torch.allclose(shifted.weights, torch.tensor([2 / 3, 1 / 3]).expand(3, 2))
    # Nothing is filled there: the group's own best instead.
    ragged = choose("all_maxima", 1, (3, 4), scores=SCORES[[0, 2, 2]], mask=RAGGED)
    assert ragged.slots.tolist() == [[0, 1, 2], [0, 1, 2], [0, 1, 0]]
    alike = choose("all_maxima", 1, (2, 4), scores=SCORES[[0, 0]])
    assert alike.weights is None
    assert alike.gather(torch.arange(24.0).reshape(2, 4, 3)).shape == (2, 3)


def test_the_kernel_of_all_maxima_is_the_authors_sum_of_gradients():
    """Row i of their Jacobian: the gradients of n points of group i, where any group's residual is largest, summed."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    points, scores = torch.rand(6, 5, 2).double(), torch.rand(6, 5).double()
    columns = []
    for group in points:
        readout = network(group[scores.argmax(1)]).sum() / 3**0.5
        columns.append(torch.cat([g.flatten() for g in torch.autograd.grad(readout, list(network.parameters()))]))
    theirs = torch.stack(columns) @ torch.stack(columns).T
    chosen = choose("all_maxima", 1, (6, 5), scores=scores)
    ours = layerwise_entk(network, chosen.gather(points), shares=chosen.weights)
    assert torch.allclose(6**2 * ours, theirs, rtol=1e-10)


def test_missing_scores_and_too_many_points_are_refused():
    with pytest.raises(ValueError, match="needs a score"):
        choose("largest_weight", 1, (3, 4))
    with pytest.raises(ValueError, match="not to be chosen"):
        validate_representative("all_maxima", 2)
    with pytest.raises(ValueError, match="5 representative points in groups of 4"):
        choose("random", 5, (3, 4))
