"""The layerwise kernel against per-sample gradients and against autograd written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from iga_nerfstudio import (
    Factors,
    UnsupportedNetworkError,
    layerwise_entk,
    per_sample_entk,
    register_layer_rule,
    sum_of_logits,
    sum_of_sigmoids,
)
from iga_nerfstudio.adjustment import kernel as kernel_module
from iga_nerfstudio.networks import NeRFMLP


def naive_entk(network: nn.Module, inputs: tuple[Tensor, ...], readout, shares: Tensor | None = None) -> Tensor:
    """J^T J, one backward pass per sample, nothing clever."""
    columns = []
    for i in range(inputs[0].shape[0]):
        scalars = readout(network(*(x[i : i + 1] for x in inputs)))[0]
        scalar = scalars.mean() if shares is None else (scalars * shares[i]).sum()
        parameters = [p for p in network.parameters() if p.requires_grad]
        found = torch.autograd.grad(scalar, parameters, allow_unused=True)
        columns.append(
            torch.cat(
                [(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(found, parameters, strict=True)]
            )
        )
    jacobian = torch.stack(columns)
    return jacobian @ jacobian.T


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


class Residual(nn.Module):
    """Skip connection, concatenation, an in-place activation and a layer without bias."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(3, 16, bias=bias)
        self.second = nn.Linear(16, 16)
        self.last = nn.Linear(19, 2, bias=bias)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(self.first(x))
        hidden = hidden + torch.tanh(self.second(hidden))
        return self.last(torch.cat([x, hidden], -1))


def nerf_inputs(n: int, *points: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    positions = torch.rand(n, *points, 3, generator=generator, dtype=dtype) * 2 - 1
    directions = nn.functional.normalize(torch.randn(n, *points, 3, generator=generator, dtype=dtype), dim=-1)
    return positions, directions


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("readout", [sum_of_logits, sum_of_sigmoids])
def test_full_nerf_field_matches_per_sample(dtype, bound, readout):
    torch.manual_seed(0)
    network = NeRFMLP().to(dtype)
    inputs = nerf_inputs(24, dtype=dtype)
    assert relative(layerwise_entk(network, inputs, readout), per_sample_entk(network, inputs, readout)) < bound


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [(), ("first.weight",), ("second.bias",), ("second.weight", "second.bias")])
@pytest.mark.parametrize("points", [(), (3,)])
@pytest.mark.parametrize("weighted", [False, True])
def test_small_networks_match_naive_autograd(bias, frozen, points, weighted):
    torch.manual_seed(1)
    network = Residual(bias).double()
    for name in frozen:
        network.get_parameter(name).requires_grad_(False)
    x = torch.randn(7, *points, 3, dtype=torch.float64)
    shares = None
    if weighted:
        shares = torch.rand(7, *(points or (1,)), dtype=torch.float64)
        shares = shares / shares.sum(1, keepdim=True) if points else None
    expected = naive_entk(network, (x,), sum_of_logits, shares)
    assert relative(layerwise_entk(network, x, shares=shares), expected) < 1e-12
    for limit in (1, 512):
        assert relative(per_sample_entk(network, x, shares=shares, memory_limit_mb=limit), expected) < 1e-12


def test_both_routes_for_several_points_agree(monkeypatch):
    """Samples that are means of points: pairs of points, explicit gradients, and both in small chunks."""
    torch.manual_seed(2)
    left, right = torch.randn(6, 5, 4, dtype=torch.float64), torch.randn(6, 5, 3, dtype=torch.float64)
    expected = torch.einsum("nsa,nsb->nab", left, right).flatten(1)
    expected = expected @ expected.T
    for chunk, rows in ((1, 1), (40, 4), (1 << 20, 128)):
        monkeypatch.setattr(kernel_module, "GRAM_CHUNK", chunk)
        monkeypatch.setattr(kernel_module, "GRAM_ROWS", rows)
        for add in (kernel_module._add_gram_of_points, kernel_module._add_gram_of_gradients):
            kernel = torch.zeros(6, 6, dtype=torch.float64)
            add(kernel, left, right)
            assert relative(kernel.tril(), expected.tril()) < 1e-12


def test_per_sample_in_chunks_of_samples_and_parameters():
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(3, 300), nn.Tanh(), nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 1)).double()
    x = torch.randn(9, 3, dtype=torch.float64)
    assert relative(per_sample_entk(network, x, memory_limit_mb=1), naive_entk(network, (x,), sum_of_logits)) < 1e-12


def test_kernel_is_symmetric_detached_and_leaves_no_trace():
    network = Residual()
    x = torch.randn(10, 3)
    state = torch.get_rng_state()
    kernel = layerwise_entk(network, x)
    assert torch.equal(kernel, kernel.T)
    assert not kernel.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in network.parameters())
    assert all(not module._forward_hooks for module in network.modules())


def test_kernel_ignores_autocast_and_no_grad():
    network = Residual()
    x = torch.randn(10, 3)
    expected = layerwise_entk(network, x)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert torch.equal(layerwise_entk(network, x), expected)


def test_a_layer_that_the_output_does_not_use_adds_nothing():
    network = Residual().double()
    network.unused = nn.Linear(4, 4).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    assert relative(layerwise_entk(network, x), naive_entk(network, (x,), sum_of_logits)) < 1e-12


class Reused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x)))


class UsedOutsideItsLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + nn.functional.linear(x, self.layer.weight).square()


class ChangesItsInputsLater(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        hidden = self.first(x)
        x.mul_(2)
        return self.second(hidden)


class FreeParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(3, 3), nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.scale


class RowsInfluenceEachOther(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layer(x)
        return hidden * hidden.mean(0, keepdim=True)


class MovesTheBatchAxis(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.T).T


class StrangeLinear(nn.Linear):
    pass


@pytest.mark.parametrize(
    ("network", "cause"),
    [
        (Reused(), "more than once"),
        (Tied(), "tied"),
        (UsedOutsideItsLayer(), "disagrees with autograd"),
        (FreeParameter(), "scale"),
        (ChangesItsInputsLater(), "changed in place"),
        (RowsInfluenceEachOther(), "disagrees with autograd"),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), "BatchNorm1d '1'"),
        (nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)), "Dropout '1'"),
        (nn.Sequential(StrangeLinear(3, 4)), "StrangeLinear"),
        (nn.Sequential(nn.Linear(3, 4), nn.PReLU()), "PReLU"),
    ],
)
def test_what_would_give_a_wrong_kernel_is_refused(network, cause):
    torch.manual_seed(4)
    with pytest.raises(UnsupportedNetworkError, match=cause):
        layerwise_entk(network, torch.randn(6, 3))
    assert all(not module._forward_hooks for module in network.modules())


def test_a_moved_batch_axis_is_refused():
    with pytest.raises(UnsupportedNetworkError, match="first axis"):
        layerwise_entk(MovesTheBatchAxis(), torch.randn(6, 3))


def test_batch_norm_with_fixed_statistics_is_covered_once_its_affine_part_is_frozen():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Tanh(), nn.Linear(4, 2)).double()
    network(torch.randn(50, 3, dtype=torch.float64))
    network.eval()
    x = torch.randn(6, 3, dtype=torch.float64)
    assert relative(layerwise_entk(network, x), naive_entk(network, (x,), sum_of_logits)) < 1e-12


def test_per_sample_refuses_batch_statistics_too():
    with pytest.raises(UnsupportedNetworkError, match="BatchNorm1d"):
        per_sample_entk(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), torch.randn(6, 3))


@pytest.mark.parametrize("inputs", [torch.randn(3), torch.empty(0, 3), (torch.randn(4, 3), torch.randn(5, 3))])
def test_inputs_of_wrong_shape_are_refused(inputs):
    for function in (layerwise_entk, per_sample_entk):
        with pytest.raises(ValueError, match="Inputs need shape"):
            function(Residual(), inputs)


def test_a_registered_rule_is_used():
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.rand(4, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.factor

    network = nn.Sequential(nn.Linear(3, 4).double(), Scale(), nn.Tanh(), nn.Linear(4, 1).double())
    x = torch.randn(6, 3, dtype=torch.float64)
    with pytest.raises(UnsupportedNetworkError, match="Scale"):
        layerwise_entk(network, x)
    register_layer_rule(Scale)(
        lambda layer, inputs, cotangents: [Factors(torch.ones_like(inputs[..., :1]), inputs * cotangents)]
    )
    assert relative(layerwise_entk(network, x), naive_entk(network, (x,), sum_of_logits)) < 1e-12


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 3), (2, 6)])
def test_shares_of_wrong_shape_are_refused(shape):
    for function in (layerwise_entk, per_sample_entk):
        with pytest.raises(ValueError, match=r"Shares need shape \(6, 2\)"):
            function(Residual(), torch.randn(6, 2, 3), shares=torch.ones(shape))


def test_a_readout_of_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="one scalar per row"):
        layerwise_entk(Residual(), torch.randn(6, 3), readout=lambda outputs: outputs)


@pytest.mark.parametrize("points", [(), (3,)])
def test_gradients_with_respect_to_outputs_take_the_readout_s_place(points):
    network = Residual().double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(6, *points, 3, generator=generator, dtype=torch.float64)
    gradients = torch.randn(6, *points, 2, generator=generator, dtype=torch.float64)
    columns = []
    for i in range(6):
        found = torch.autograd.grad((network(x[i]) * gradients[i]).sum(), list(network.parameters()))
        columns.append(torch.cat([g.flatten() for g in found]))
    jacobian = torch.stack(columns)
    for entk in (layerwise_entk, per_sample_entk):
        assert relative(entk(network, x, sum_of_sigmoids, gradients), jacobian @ jacobian.T) < 1e-12
    with pytest.raises(ValueError, match="need the outputs' shape"):
        layerwise_entk(network, x, sum_of_logits, gradients[..., :1])
    with pytest.raises(ValueError, match="Shares need shape"):
        layerwise_entk(network, x, sum_of_logits, gradients[..., None])
