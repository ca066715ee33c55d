"""Adjustment along axes against Kronecker products and per-cell gradients, all formed."""

from __future__ import annotations

import logging
import math
from functools import reduce

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from iga_nerfstudio import Axes, AxesAdjuster, SpectralTransform, choose
from iga_nerfstudio.adjustment import adjuster as adjuster_module
from iga_nerfstudio.adjustment.axes import AxesTransform

SHAPE = (6, 9)
shapes = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple).filter(lambda shape: max(shape) > 1)


def network(num_axes: int = 2, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(num_axes, 12), nn.Tanh(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 2)).to(dtype)


def data(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    axes = [torch.linspace(-1, 1, n, dtype=dtype) for n in shape]
    coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))
    return coordinates, torch.stack([(7 * coordinates).sin().sum(1), coordinates.prod(1)], 1)


def gradients(net: nn.Module, loss: Tensor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)])


def kronecker_mean(shape: tuple[int, ...], dense: dict[int, Tensor]) -> Tensor:
    """The mean over some axes of I x ... x S_a x ... x I."""
    terms = []
    for axis, matrix in dense.items():
        factors = [matrix if other == axis else torch.eye(n).double() for other, n in enumerate(shape)]
        terms.append(reduce(torch.kron, factors))
    return torch.stack(terms).mean(0)


@settings(deadline=None, max_examples=40)
@given(shape=shapes, channels=st.integers(1, 3), data=st.data())
def test_the_operator_is_a_mean_of_kronecker_products(
    shape: tuple[int, ...], channels: int, data: st.DataObject
) -> None:
    transforms = {}
    for axis in data.draw(st.sets(st.sampled_from(range(len(shape))), min_size=1)):
        vectors = torch.linalg.qr(torch.randn(shape[axis], shape[axis]).double())[0]
        values = torch.rand(shape[axis]).double().sort(descending=True).values + 0.1
        transforms[axis] = SpectralTransform.from_eigenpairs(values, vectors, end=shape[axis] - 1, power=0.7)
    operator = AxesTransform(shape, transforms)
    expected = kronecker_mean(shape, {axis: transform.dense() for axis, transform in transforms.items()})
    residual = torch.randn(math.prod(shape), channels).double()
    assert torch.allclose(operator.apply(residual), expected @ residual)
    assert torch.allclose(operator.dense(), expected)


@settings(deadline=None, max_examples=25)
@given(shape=shapes, points=st.integers(1, 5), seed=st.integers(0, 5))
def test_a_step_is_that_of_naive_kernels_of_the_means_of_points(shape: tuple[int, ...], points: int, seed: int) -> None:
    net, (coordinates, target) = network(len(shape)), data(shape)
    adjuster = AxesAdjuster(net, Axes(shape), end=1, num_representatives=points, seed=seed)
    prediction = net(coordinates)
    got = gradients(net, mse_loss(adjuster(prediction, coordinates, target), target))
    assert adjuster.diagnostics.adjusted

    per_cell = torch.stack([gradients(net, one.sum() / 2**0.5) for one in prediction])
    dense = {}
    for axis, cells in enumerate(shape):
        if cells == 1:
            continue
        slices = torch.arange(len(target)).reshape(shape).movedim(axis, 0).reshape(cells, -1)
        count = min(points, slices.shape[1])
        generator = torch.Generator().manual_seed(seed + axis)
        chosen = slices.gather(1, choose("random", count, tuple(slices.shape), generator=generator).slots)
        means = per_cell[chosen].mean(1)
        values, vectors = torch.linalg.eigh(means @ means.T)
        first = vectors[:, -1]
        dense[axis] = torch.eye(cells).double() + (values[-2] / values[-1] - 1) * torch.outer(first, first)
    residual = 2 * (prediction - target).detach() / prediction.numel()
    expected = gradients(net, (prediction * (kronecker_mean(shape, dense) @ residual)).sum())
    assert (got - expected).norm() < 1e-9 * expected.norm()


@pytest.mark.parametrize("shape", [SHAPE, (3, 4, 5)])
def test_forward_is_the_identity_and_end_0_is_plain_training(shape: tuple[int, ...]) -> None:
    net, (coordinates, target) = network(len(shape), torch.float32), data(shape, torch.float32)
    prediction = net(coordinates)
    assert torch.equal(AxesAdjuster(net, Axes(shape), 2)(prediction, coordinates), prediction)
    for off in ({"end": 0}, {"end": 2, "enabled": False}):
        assert AxesAdjuster(net, Axes(shape), **off)(prediction, coordinates, target) is prediction  # type: ignore[arg-type]


def test_a_kernel_of_one_axis_that_cannot_be_used_leaves_the_gradient_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = adjuster_module.layerwise_entk

    def broken(net: nn.Module, inputs: tuple[Tensor, ...], *others: object, **named: object) -> Tensor:
        kernel = original(net, inputs, *others, **named)  # type: ignore[arg-type]
        return kernel * torch.nan if len(kernel) == SHAPE[1] else kernel

    monkeypatch.setattr(adjuster_module, "layerwise_entk", broken)
    net, (coordinates, target) = network(), data(SHAPE)
    adjuster = AxesAdjuster(net, Axes(SHAPE), end=2)
    prediction = net(coordinates)
    with caplog.at_level(logging.WARNING, logger="iga_nerfstudio"):
        got = gradients(net, mse_loss(adjuster(prediction, coordinates, target), target))
    assert torch.equal(got, gradients(net, mse_loss(prediction, target)))
    seen = adjuster.diagnostics
    assert (seen.adjusted, dict(seen.unadjusted)) == (False, {"kernel_not_finite": 1})
    assert "NaN or infinite" in caplog.text


def test_a_residual_that_is_not_finite_is_left_and_counted_once() -> None:
    net, (coordinates, _target) = network(), data(SHAPE)
    adjuster = AxesAdjuster(net, Axes(SHAPE), end=2)
    prediction = net(coordinates)
    cotangents = torch.ones_like(prediction)
    cotangents[3, 1] = torch.inf
    (got,) = torch.autograd.grad(adjuster(prediction, coordinates), prediction, cotangents)
    assert torch.equal(got, cotangents)
    assert adjuster.diagnostics.unadjusted == {"residual_not_finite": 1}


@pytest.mark.parametrize("interval", [1, 2, 3])
@pytest.mark.parametrize("shape", [SHAPE, (3, 1, 4), (3, 4, 5), (7,)])
def test_axes_take_turns(shape: tuple[int, ...], interval: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All have a kernel at the first step, then one axis after the other, an interval apart; every step is adjusted."""
    sizes: list[int] = []
    original = adjuster_module.layerwise_entk

    def counted(net: nn.Module, inputs: tuple[Tensor, ...], *others: object, **named: object) -> Tensor:
        sizes.append(len(inputs[0]))
        return original(net, inputs, *others, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(adjuster_module, "layerwise_entk", counted)
    net, (coordinates, target) = network(len(shape)), data(shape)
    adjuster = AxesAdjuster(net, Axes(shape), 1, refresh_interval=interval)
    turns = [cells for cells in shape if cells > 1]
    for step in range(4 * interval * len(turns)):
        sizes.clear()
        adjuster(net(coordinates), coordinates, target)
        assert adjuster.diagnostics.adjusted
        one = [] if step % interval else [turns[step // interval % len(turns)]]
        assert sizes == (turns if step == 0 else one)
    assert not adjuster.diagnostics.steps_unadjusted
    assert adjuster.diagnostics.step == 4 * interval * len(turns)


def test_state_goes_on_where_it_stopped(tmp_path) -> None:
    net, (coordinates, target) = network(), data(SHAPE)
    first, second = (AxesAdjuster(net, Axes(SHAPE), 2, refresh_interval=2, seed=seed) for seed in (0, 9))
    for _ in range(3):
        first(net(coordinates), coordinates, target)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(3):
        found = [gradients(net, mse_loss(one(net(coordinates), coordinates), target)) for one in (first, second)]
        assert torch.equal(*found)


def test_settings_change_for_all_axes_or_none() -> None:
    net, (coordinates, target) = network(), data(SHAPE)
    middle = {"representative": "middle", "num_representatives": 1}
    changed, fresh = (AxesAdjuster(net, Axes(SHAPE), end, **middle) for end in (2, 4))  # type: ignore[arg-type]
    for _ in range(3):
        changed(net(coordinates), coordinates, target)
    changed.reconfigure(end=4)
    assert changed.end == 4
    found = [gradients(net, mse_loss(one(net(coordinates), coordinates), target)) for one in (changed, fresh)]
    assert torch.equal(*found)
    for refused in ({"end": 6}, {"start": 5}, {"representative": "nobody"}):
        with pytest.raises(ValueError, match=r"end|representative"):
            changed.reconfigure(**refused)  # type: ignore[arg-type]
        assert {(one.start, one.end, one.representative) for one in changed.adjusters.values()} == {(1, 4, "middle")}
    changed.reconfigure(enabled=False)
    assert not changed.active


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="two cells or more"):
        Axes((1, 1))
    for shape in ((), (3, 0)):
        with pytest.raises(ValueError, match="must be positive"):
            Axes(shape)
    for no_shape in (12, (3.5, 4), ("3", "4")):
        with pytest.raises(ValueError, match="whole numbers, one per axis in brackets"):
            Axes(no_shape)  # type: ignore[arg-type]
    net, (coordinates, _target) = network(), data(SHAPE)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        AxesAdjuster(net, Axes(SHAPE), end=2, refresh_interval=0)
    with pytest.raises(ValueError, match=r"the axes of a grid, as Axes\(\(512, 768\)\), got tuple"):
        AxesAdjuster(net, SHAPE, end=2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_representatives must be a whole number, got '4'"):
        AxesAdjuster(net, Axes(SHAPE), end=2, num_representatives="4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Lower end to 5"):
        AxesAdjuster(net, Axes(SHAPE), end=6)
    adjuster = AxesAdjuster(net, Axes(SHAPE), end=2, representative="largest_residual", num_representatives=1)
    with pytest.raises(ValueError, match="Got 53 rows for a grid of"):
        adjuster(net(coordinates[1:]), coordinates[1:], coordinates[1:])
    with pytest.raises(ValueError, match="needs the target"):
        adjuster(net(coordinates), coordinates)
