"""Chunked steps against whole ones, and both against Eq. 4 written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from iga_nerfstudio.adjustment import (
    Axes,
    AxesAdjuster,
    Blocks,
    Grouping,
    InductiveGradientAdjuster,
    Intervals,
    Patches,
    choose,
    per_sample_entk,
)
from iga_nerfstudio.adjustment.grouping import DrawnGroups
from iga_nerfstudio.networks import NetworkConfig, build_network
from iga_nerfstudio.tasks import samples as samples_module
from iga_nerfstudio.tasks import step as step_module
from iga_nerfstudio.tasks.samples import Batch, FullBatch, Grid, GridSamples, RandomGroups, RandomPoints
from iga_nerfstudio.tasks.step import accumulate_gradient, decode, decode_chunks


def gradient(network: nn.Module) -> Tensor:
    return torch.cat([p.grad.reshape(-1) for p in network.parameters() if p.grad is not None])


def step(network: nn.Module, batch: Batch, points_per_chunk: int, end: int = 5, **settings: object) -> Tensor:
    network.zero_grad()
    adjuster = InductiveGradientAdjuster(network, batch.grouping, end, **settings)  # type: ignore[arg-type]
    accumulate_gradient(network, adjuster, batch, points_per_chunk)
    assert adjuster.diagnostics.adjusted or end == 0
    return gradient(network)


def image_batch(height: int = 20, width: int = 30, channels: int = 3) -> Batch:
    torch.manual_seed(0)
    samples = GridSamples(Grid.unit((height, width)), torch.rand(height * width, channels))
    return FullBatch(samples, Patches((height, width), 4)).next()


@pytest.mark.parametrize("kind", ["relu", "pe", "siren", "gauss_finer", "wire_finer", "complex_wire"])
@pytest.mark.parametrize("chunk", [64, 250])
def test_chunks_add_up_to_the_whole_step(kind: str, chunk: int) -> None:
    torch.manual_seed(1)
    network = build_network(NetworkConfig(kind, hidden_dim=24, hidden_layers=2), 2, 3)  # type: ignore[arg-type]
    batch = image_batch()
    whole, chunked = step(network, batch, 10_000), step(network, batch, chunk)
    assert (chunked - whole).norm() < 1e-5 * whole.norm()


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(8, 17),
    width=st.integers(8, 17),
    patch=st.integers(2, 4),
    chunk=st.integers(7, 300),
    representative=st.sampled_from(["largest_residual", "previous_residual", "all_maxima", "middle", "random"]),
)
def test_chunks_in_float64_for_any_shape(height: int, width: int, patch: int, chunk: int, representative: str) -> None:
    torch.manual_seed(height * width)
    network = build_network(NetworkConfig("pe", hidden_dim=8, hidden_layers=2), 2, 1).double()
    samples = GridSamples(Grid.unit((height, width)), torch.rand(height * width, 1))
    plain = FullBatch(samples, Patches((height, width), patch)).next()
    batch = Batch(plain.inputs.double(), plain.target.double(), plain.grouping)
    # `end` stays below the number of groups, which is 4 for an 8x8 image in patches of 4.
    whole = step(network, batch, 10_000, end=2, representative=representative)
    chunked = step(network, batch, chunk, end=2, representative=representative)
    # float32 somewhere in between would show at 1e-7.
    assert (chunked - whole).norm() <= 1e-11 * whole.norm()


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(("points_per_chunk", "twice"), [(70, 530), (300, 320), (599, 40)])
def test_chunks_along_axes_add_up_to_the_whole_step(
    broken: bool, points_per_chunk: int, twice: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows whose activations are held until all residuals are known pass through the network once."""
    monkeypatch.setattr(step_module, "BLOCK", 70)
    torch.manual_seed(1)
    network = build_network(NetworkConfig("pe", hidden_dim=8, hidden_layers=2), 2, 3).double()
    plain = image_batch()
    batch = Batch(plain.inputs.double(), plain.target.double(), plain.grouping)
    found, counts = [], []
    for chunk in (10_000, points_per_chunk):
        adjuster = AxesAdjuster(network, Axes((20, 30)), 5)
        if broken:
            adjuster.adjusters[1].readout = lambda outputs: outputs.sum(-1) * torch.nan
        network.zero_grad()
        seen: list[int] = []
        handle = network.register_forward_hook(lambda *given, seen=seen: seen.append(len(given[1][0])))
        prediction = accumulate_gradient(network, adjuster, batch, chunk)
        handle.remove()
        counts.append(sum(seen))
        assert torch.allclose(prediction, network(batch.inputs))
        assert adjuster.diagnostics.adjusted is not broken
        found.append(gradient(network))
    assert counts[1] - counts[0] == twice
    assert (found[1] - found[0]).norm() <= 1e-11 * found[0].norm()
    assert ((found[0] - step(network, batch, 10_000, end=0)).norm() < 1e-11 * found[0].norm()) == broken


@pytest.mark.parametrize("points_per_chunk", [10_000, 300])
def test_blocks_for_the_caches_change_nothing(points_per_chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    network = build_network(NetworkConfig("pe", hidden_dim=8, hidden_layers=2), 2, 3).double()
    plain = image_batch()
    batch = Batch(plain.inputs.double(), plain.target.double(), plain.grouping)
    whole = [step(network, batch, 10_000, end) for end in (0, 5)]
    monkeypatch.setattr(step_module, "BLOCK", 70)
    seen: list[int] = []
    handle = network.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    blocks = [step(network, batch, points_per_chunk, end) for end in (0, 5)]
    assert max(seen) <= 70
    for found, expected in zip(blocks, whole, strict=True):
        assert (found - expected).norm() <= 1e-11 * expected.norm()
    grid = Grid.unit((20, 30))
    seen.clear()
    decode(network.float(), grid, 10_000)
    assert seen == [70] * 8 + [40]
    handle.remove()


def test_batch_statistics_are_those_of_the_whole_step(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(NetworkConfig("pe", hidden_dim=8, hidden_layers=2, batch_norm=True), 2, 3)
    whole = step(network, image_batch(), 10_000, end=0)
    monkeypatch.setattr(step_module, "BLOCK", 70)
    assert torch.equal(step(network, image_batch(), 10_000, end=0), whole)


@pytest.mark.parametrize("shape", [(20, 32), (21, 31)])
def test_the_previous_residual_is_that_of_the_step_before_in_chunks_or_not(shape: tuple[int, int]) -> None:
    torch.manual_seed(3)
    network = build_network(NetworkConfig("pe", hidden_dim=16, hidden_layers=2), 2, 3).double()
    plain = image_batch(*shape)
    batch = Batch(plain.inputs.double(), plain.target.double(), plain.grouping)
    before = batch.grouping.split((network(batch.inputs) - batch.target).detach().square().sum(-1)).argmax(1)
    for chunk in (10_000, 100):
        adjuster = InductiveGradientAdjuster(network, batch.grouping, 5, representative="previous_residual")
        p = batch.grouping.group_size
        size = (len(before), p)
        first = adjuster.choose(size, None, batch.inputs.device).slots
        assert torch.equal(first, choose("middle", 1, size, mask=batch.grouping.mask).slots)
        accumulate_gradient(network, adjuster, batch, chunk)
        assert torch.equal(adjuster.choose(size, None, batch.inputs.device).slots[:, 0], before)
        restored = InductiveGradientAdjuster(network, batch.grouping, 5, representative="previous_residual")
        restored.load_state_dict(adjuster.state_dict())
        assert torch.equal(restored.choose(size, None, batch.inputs.device).slots[:, 0], before)


@pytest.mark.parametrize(
    ("representative", "points"), [("largest_residual", 2 * 600), ("previous_residual", 600), ("middle", 600)]
)
def test_only_the_largest_residual_costs_chunked_steps_another_forward_pass(representative: str, points: int) -> None:
    network = build_network(NetworkConfig("pe", hidden_dim=16, hidden_layers=2), 2, 3)
    batch = image_batch()
    adjuster = InductiveGradientAdjuster(network, batch.grouping, 5, representative=representative)  # type: ignore[arg-type]
    accumulate_gradient(network, adjuster, batch, 128)  # the first step also checks the network
    seen: list[int] = []
    handle = network.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    accumulate_gradient(network, adjuster, batch, 128)
    handle.remove()
    assert sum(seen) == points + adjuster.grouping.num_groups(600)  # and the representatives


def test_the_previous_residual_needs_groups_that_stay() -> None:
    network = build_network(NetworkConfig("pe", hidden_dim=16, hidden_layers=2), 2, 3)
    samples = GridSamples(Grid.unit((20, 30)), torch.rand(600, 3))
    batch = RandomGroups(samples, Patches((20, 30), 5), 12, seed=0).next()
    adjuster = InductiveGradientAdjuster(network, batch.grouping, 5, representative="previous_residual")
    with pytest.raises(ValueError, match="'largest_residual'"):
        accumulate_gradient(network, adjuster, batch, 10_000)


@pytest.mark.parametrize("chunk", [10_000, 100])
def test_a_step_is_equation_4_written_out(chunk: int) -> None:
    torch.manual_seed(2)
    network = build_network(NetworkConfig("siren", hidden_dim=16, hidden_layers=2), 2, 3).double()
    plain = image_batch(16, 24)
    batch = Batch(plain.inputs.double(), plain.target.double(), plain.grouping)
    found = step(network, batch, chunk, end=6)

    prediction = network(batch.inputs)
    residual = 2 * (prediction - batch.target).detach() / prediction.numel()
    groups = batch.grouping.split(residual)
    worst = groups.square().sum(-1).argmax(1)
    points = batch.grouping.split(batch.inputs)[torch.arange(len(groups)), worst]
    values, vectors = torch.linalg.eigh(per_sample_entk(network, (points,)))
    values, vectors = values.flip(0), vectors.flip(1)
    transform = torch.eye(len(groups), dtype=torch.float64)
    for i in range(6):
        transform += (values[6] / values[i] - 1) * torch.outer(vectors[:, i], vectors[:, i])
    adjusted = batch.grouping.join(torch.einsum("ij,jpc->ipc", transform, groups))
    network.zero_grad()
    prediction.backward(adjusted)
    expected = gradient(network)
    assert (found - expected).norm() < 1e-9 * expected.norm()


@pytest.mark.parametrize("chunk", [10_000, 100])
def test_without_adjustment_the_step_is_autograds(chunk: int) -> None:
    network = build_network(NetworkConfig("pe", hidden_dim=16, hidden_layers=2), 2, 3)
    batch = image_batch()
    found = step(network, batch, chunk, end=0)
    network.zero_grad()
    nn.functional.mse_loss(network(batch.inputs), batch.target).backward()
    expected = gradient(network)
    if chunk >= len(batch.inputs):
        assert torch.equal(found, expected)
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_mixed_precision_keeps_the_kernel_and_the_loss_in_float32() -> None:
    torch.manual_seed(0)
    network = build_network(NetworkConfig("pe", hidden_dim=32, hidden_layers=2), 2, 3)
    batch = image_batch()
    exact = step(network, batch, 10_000)
    network.zero_grad()
    adjuster = InductiveGradientAdjuster(network, batch.grouping, 5)
    prediction = accumulate_gradient(network, adjuster, batch, 10_000, mixed_precision=True)
    assert prediction.dtype == torch.float32
    assert adjuster.diagnostics.eigenvalues.dtype == torch.float32
    difference = (gradient(network) - exact).norm() / exact.norm()
    # bfloat16 shows, and does no more than that.
    assert 1e-5 < difference < 0.1


@settings(deadline=None, max_examples=40)
@given(shape=st.lists(st.integers(1, 7), min_size=1, max_size=3), data=st.data())
def test_members_are_the_rows_that_split_puts_in_a_group(shape: list[int], data: st.DataObject) -> None:
    blocks = Blocks(shape, [data.draw(st.integers(1, n)) for n in shape])
    rows = torch.arange(blocks.num_inputs)
    table = blocks.split(rows + 1) - 1  # empty slots read as zero, so -1 here
    groups = torch.randperm(len(table))
    found, filled = blocks.members(groups)
    assert torch.equal(torch.where(filled, found, -1), table[groups])


@settings(deadline=None, max_examples=40)
@given(shape=st.lists(st.integers(1, 7), min_size=1, max_size=3), drawn=st.booleans(), data=st.data())
def test_rows_of_slots_are_those_that_split_puts_there(shape: list[int], drawn: bool, data: st.DataObject) -> None:
    grouping: Grouping = Blocks(shape, [data.draw(st.integers(1, n)) for n in shape])
    if drawn and grouping.mask is not None:
        grouping = DrawnGroups(grouping.mask)
    num_rows = math.prod(shape)
    table = grouping.split(torch.arange(num_rows))
    n, p = table.shape
    filled = torch.ones(n, p, dtype=torch.bool) if grouping.mask is None else grouping.mask
    rows = step_module._SlotRows(Batch(torch.zeros(num_rows, 1), torch.zeros(num_rows, 1), grouping))
    slots = torch.randint(p, (n, 3))
    assert torch.equal(rows.at(slots)[filled.gather(1, slots)], table.gather(1, slots)[filled.gather(1, slots)])
    same = torch.arange(p)[None, p // 2 :]
    assert rows.at(same).shape == (n, p - p // 2)
    assert torch.equal(rows.at(same)[filled[:, p // 2 :]], table[:, p // 2 :][filled[:, p // 2 :]])


def test_a_batch_of_a_grid_is_that_of_its_coordinates() -> None:
    grid = Grid.unit((5, 7))
    lazy, listed = (
        Batch(places, torch.rand(35, 2), Patches((5, 7), 2)) for places in (grid, grid.coordinates(torch.arange(35)))
    )
    assert torch.equal(lazy.inputs, listed.inputs)
    for rows in (torch.tensor([[3, 34], [0, 3]]), slice(4, 20)):
        assert torch.equal(lazy.inputs_at(rows), listed.inputs_at(rows))


def test_a_full_batch_holds_the_data_once() -> None:
    """No copy of a large picture, and no list of its coordinates."""
    samples = GridSamples(Grid.unit((8, 8)), torch.rand(64, 3))
    batch = FullBatch(samples, Patches((8, 8), 4)).next()
    assert batch.target.data_ptr() == samples.values.data_ptr()
    seen: list[int] = []
    coordinates = samples.grid.coordinates
    samples.grid.coordinates = lambda rows: seen.append(rows.numel()) or coordinates(rows)  # type: ignore[method-assign,func-returns-value]
    network = build_network(NetworkConfig("pe", hidden_dim=8, hidden_layers=2), 2, 3)
    adjuster = InductiveGradientAdjuster(network, batch.grouping, 2)
    accumulate_gradient(network, adjuster, batch, 16)
    assert max(seen) == 16


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 6), p=st.integers(1, 5), channels=st.integers(1, 3), data=st.data())
def test_drawn_groups_split_and_join(n: int, p: int, channels: int, data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(1, p), min_size=n, max_size=n))
    filled = torch.arange(p) < torch.tensor(counts)[:, None]
    grouping = DrawnGroups(filled)
    values = torch.arange(1.0, 1 + sum(counts) * channels).reshape(-1, channels)
    groups = grouping.split(values)
    assert groups.shape == (n, p, channels)
    assert (groups[~filled] == 0).all()
    assert torch.equal(groups[0, 0], values[0])
    assert torch.equal(grouping.join(groups), values)
    if grouping.mask is not None:
        assert torch.equal(grouping.mask, filled)


def test_drawn_groups_refuse_empty_groups_and_other_batches() -> None:
    with pytest.raises(ValueError, match="at least one filled slot"):
        DrawnGroups(torch.tensor([[True], [False]]))
    with pytest.raises(ValueError, match="Got 3 rows"):
        DrawnGroups(torch.ones(2, 2, dtype=torch.bool)).split(torch.zeros(3, 1))


def test_an_epoch_shows_every_group_once_in_an_order_of_its_own() -> None:
    samples = GridSamples(Grid.unit((40,)), torch.arange(40)[:, None])
    batches = RandomGroups(samples, Intervals(40, 4), groups_per_batch=5, seed=3)
    epochs = [torch.cat([batches.next().target for _ in range(2)]).flatten() for _ in range(2)]
    for seen in epochs:
        assert sorted(seen.tolist()) == list(range(40))
    assert not torch.equal(*epochs)
    assert batches.batches_per_epoch == 2


def test_a_ragged_group_comes_with_its_own_coordinates() -> None:
    samples = GridSamples(Grid.unit((10,)), torch.linspace(-1, 1, 10)[:, None])
    batch = RandomGroups(samples, Intervals(10, 4), groups_per_batch=3, seed=0).next()
    assert torch.equal(batch.inputs, batch.target)
    assert len(batch.inputs) == 10


def test_groups_found_some_after_the_other_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def batch() -> Batch:
        samples = GridSamples(Grid.unit((13, 11)), torch.arange(143 * 2).reshape(143, 2))
        return RandomGroups(samples, Patches((13, 11), 3), groups_per_batch=17, seed=1).next()

    whole = batch()
    monkeypatch.setattr(samples_module, "_CELLS_AT_ONCE", 20)
    parts = batch()
    assert torch.equal(parts.inputs, whole.inputs)
    assert torch.equal(parts.target, whole.target)
    assert parts.grouping.mask is not None
    assert torch.equal(parts.grouping.mask, whole.grouping.mask)
    # Coordinates and values are of the same cells.
    cells = parts.target[:, 0].long() // 2
    assert torch.equal(parts.inputs, Grid.unit((13, 11)).coordinates(cells))
    assert torch.equal(parts.inputs_at(torch.tensor([5, 3])), parts.inputs[[5, 3]])


def test_batches_larger_than_the_data_are_refused() -> None:
    samples = GridSamples(Grid.unit((10,)), torch.zeros(10, 1))
    with pytest.raises(ValueError, match="12 groups cannot be drawn from 3 groups of 4 points"):
        RandomGroups(samples, Intervals(10, 4), groups_per_batch=12, seed=0)


def test_random_points_come_with_their_values_and_near_ones_in_a_group() -> None:
    samples = GridSamples(Grid.unit((32, 32, 32)), torch.arange(32**3)[:, None])
    batches = RandomPoints(samples, num_groups=64, group_size=16, seed=0)
    batch = batches.next()
    cells = batch.target[:, 0].long()
    assert torch.equal(batch.inputs, samples.coordinates(cells))
    assert batches.batches_per_epoch == 32

    def spread(inputs: torch.Tensor) -> float:
        return batch.grouping.split(inputs).std(1).mean().item()

    # 64 groups of points all over the cube: about a quarter of its side each, where all of it would be 1.15 / 2.
    assert spread(batch.inputs) < 0.4 * spread(batch.inputs[torch.randperm(64 * 16)])
    state = batches.state_dict()
    following = batches.next()
    assert not torch.equal(following.target, batch.target)
    batches.load_state_dict(state)
    assert torch.equal(batches.next().target, following.target)
    with pytest.raises(ValueError, match="2049 groups of 16 points cannot be drawn from 32768"):
        RandomPoints(samples, num_groups=2049, group_size=16, seed=0)


@pytest.mark.parametrize(
    "batches",
    [
        lambda samples: FullBatch(samples, Patches((60, 60), 6)),
        lambda samples: RandomGroups(samples, Patches((60, 60), 6), 10, seed=0),
        lambda samples: RandomPoints(samples, 10, 6, seed=0),
    ],
)
def test_a_state_is_taken_up_by_the_same_data_alone(batches: Callable[[GridSamples], Any]) -> None:
    torch.manual_seed(0)
    values = torch.rand(3600, 2)

    def of(values: torch.Tensor, shape: tuple[int, int] = (60, 60)) -> Any:
        return batches(GridSamples(Grid.unit(shape), values))

    state = of(values).state_dict()
    assert state["traits"]["some"].numel() <= 2400
    # Decoded by another version of a library; and of a run begun before the data were known by anything.
    of(values + 0.002 * torch.randn(3600, 2)).load_state_dict(state)
    of(1 - values).load_state_dict({name: value for name, value in state.items() if name != "traits"})
    with pytest.raises(ValueError, match="its data are of the same sizes, but these differ"):
        of(1 - values).load_state_dict(state)
    state["traits"]["sizes"] = [30, 120, 2]
    with pytest.raises(ValueError, match=r"its data have the sizes \[30, 120, 2\], these \[60, 60, 2\]"):
        of(values).load_state_dict(state)


def test_grid_rows_run_in_row_major_order_and_values_must_fit() -> None:
    grid = Grid.unit((2, 3))
    expected = torch.cartesian_prod(torch.linspace(-1, 1, 2), torch.linspace(-1, 1, 3))
    assert torch.equal(grid.coordinates(torch.arange(6)), expected)
    assert torch.equal(Grid.unit((1,)).coordinates(torch.tensor([0])), torch.zeros(1, 1))
    assert torch.equal(grid.thinned(2).coordinates(torch.arange(2)), expected[[0, 2]])
    with pytest.raises(ValueError, match=r"needs \(6, C\) values"):
        GridSamples(grid, torch.zeros(5, 1))


def test_decoding_in_chunks_equals_decoding_at_once_and_keeps_the_mode() -> None:
    network = build_network(NetworkConfig("relu", hidden_dim=8, batch_norm=True), 2, 3).train()
    grid = Grid.unit((5, 7))
    assert torch.allclose(decode(network, grid, 4), decode(network, grid, 1000), atol=1e-6)
    assert decode(network, grid, 4).shape == (5, 7, 3)
    assert network.training
    chunks = list(decode_chunks(network, grid, 10))
    assert [len(rows) for rows, _ in chunks] == [10, 10, 10, 5]
    assert not chunks[0][1].requires_grad
