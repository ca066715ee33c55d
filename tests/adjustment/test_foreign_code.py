"""Networks and training loops as other people write them: right, or refused with what is wrong and the way out."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

from iga_nerfstudio import (
    InductiveGradientAdjuster,
    Intervals,
    Patches,
    Rays,
    UnsupportedNetworkError,
    layerwise_entk,
    per_sample_entk,
)
from iga_nerfstudio.adjustment import adjuster as adjuster_module
from iga_nerfstudio.adjustment import layer_rules
from iga_nerfstudio.adjustment.precision import full_precision

N, P = 48, 4


def mlp(out: int = 3, width: int = 12) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, out))


def data(out: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(N, 2, dtype=torch.float64) * 2 - 1, torch.rand(N, out, dtype=torch.float64)


def adjuster_of(network: nn.Module, **settings: Any) -> InductiveGradientAdjuster:
    settings = {"end": 4, "representative": "middle"} | settings
    return InductiveGradientAdjuster(network, settings.pop("grouping", Intervals(N, P)), **settings)


def by_definition(network: nn.Module, x: Tensor, y: Tensor, end: int = 4, part: Callable[[Any], Tensor] = lambda o: o):
    """The gradient of paper Eq. 4 from a Jacobian, all eigenpairs, and S_e written out."""
    parameters = [p for p in network.parameters() if p.requires_grad]

    def flat(scalar: Tensor) -> Tensor:
        found = torch.autograd.grad(scalar, parameters, retain_graph=True, allow_unused=True)
        return torch.cat(
            [(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(found, parameters, strict=True)]
        )

    representatives = x.reshape(N // P, P, -1)[:, P // 2]
    outputs = part(network(representatives))
    jacobian = torch.stack([flat(row.sum() / row.numel() ** 0.5) for row in outputs])
    values, vectors = torch.linalg.eigh(jacobian @ jacobian.T)
    values, vectors = values.flip(0), vectors.flip(1)
    scale = torch.ones_like(values)
    scale[:end] = values[end] / values[:end]
    transform = vectors @ torch.diag(scale) @ vectors.T
    prediction = part(network(x))
    residual = 2 * (prediction.detach() - y) / y.numel()
    moved = (transform @ residual.reshape(N // P, -1)).reshape(residual.shape)
    return flat((prediction * moved).sum())


def gradient(network: nn.Module, prediction: Tensor, y: Tensor, x: Any, **settings: Any) -> Tensor:
    network.zero_grad()
    adjuster = adjuster_of(network, **settings)
    (adjuster(prediction, x, y) - y).square().mean().backward()
    assert adjuster.diagnostics.adjusted
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in network.parameters() if p.requires_grad]
    )


class Finer(nn.Module):
    """sin(w (|z| + 1) z), as FINER's authors write it."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, width), nn.Linear(width, width), nn.Linear(width, 3)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            z = layer(x)
            with torch.no_grad():
                factor = z.abs() + 1
            x = torch.sin(3.0 * factor * z)
        return self.layers[-1](x)


class SirenLayer(nn.Module):
    """As in siren-pytorch: a weight and a bias of its own, no nn.Linear."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d_out, d_in) / d_in**0.5)
        self.bias = nn.Parameter(torch.randn(d_out) / 10)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(2.0 * nn.functional.linear(x, self.weight, self.bias))


class Gabor(nn.Module):
    """WIRE's: exp(i w z - |s z|^2) with a trainable frequency and scale, both of no dimension."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_in, d_out)
        self.omega, self.scale = nn.Parameter(torch.tensor(3.0)), nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        z = self.linear(x)
        return torch.cos(self.omega * z) * torch.exp(-((self.scale * z) ** 2))


class LoRA(nn.Module):
    """A frozen layer with a trained update of low rank."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(input=torch.tanh(self.first(input=x)))


class FlatRowsOnly(nn.Module):
    """As tiny-cuda-nn's: two axes, or an error."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: Tensor) -> Tensor:
        _rows, _columns = x.shape
        return self.body(x)


def hooked() -> nn.Module:
    network = mlp()
    network[2].register_forward_hook(lambda _layer, _inputs, output: 3 * output.square())
    return network


FOREIGN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "finer": (Finer, "layerwise"),
    "lora": (lambda: nn.Sequential(LoRA(nn.Linear(2, 12)), nn.Tanh(), LoRA(nn.Linear(12, 3))), "layerwise"),
    "by keyword": (ByKeyword, "layerwise"),
    "flat rows": (FlatRowsOnly, "layerwise"),
    "siren-pytorch": (lambda: nn.Sequential(SirenLayer(2, 12), SirenLayer(12, 12), nn.Linear(12, 3)), "per_sample"),
    "wire": (lambda: nn.Sequential(Gabor(2, 12), Gabor(12, 12), nn.Linear(12, 3)), "per_sample"),
    "weight norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 12)), nn.Tanh(), nn.Linear(12, 3)),
        "per_sample",
    ),
    "weight norm of old": (
        lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 12)), nn.Tanh(), nn.Linear(12, 3)),  # type: ignore[no-untyped-call]
        "per_sample",
    ),
    "a hook that changes what a layer gives": (hooked, "layerwise"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_networks_have_the_gradient_of_the_definition(name: str) -> None:
    torch.manual_seed(0)
    make, kernel = FOREIGN[name]
    network = make().double()
    x, y = data()
    expected = by_definition(network, x, y)
    found = gradient(network, network(x), y, x, kernel=kernel)
    assert ((found - expected).norm() / expected.norm()).item() <= 1e-8


@pytest.mark.parametrize("name", [name for name, (_, kernel) in FOREIGN.items() if kernel == "per_sample"])
def test_what_has_no_rule_names_per_sample(name: str) -> None:
    network = FOREIGN[name][0]().double()
    x, y = data()
    with pytest.raises(UnsupportedNetworkError, match="per_sample"):
        gradient(network, network(x), y, x)


def test_complex_predictions_have_both_parts_adjusted() -> None:
    body, (x, y) = mlp(2).double(), data(2)
    prediction, target = (torch.view_as_complex(values.contiguous())[:, None] for values in (body(x), y))
    adjuster = adjuster_of(body)
    adjusted = adjuster.rebalance(
        adjuster.grouping.split(prediction), adjuster.transform_of_batch(prediction, x, target)
    )
    (found,) = torch.autograd.grad((adjuster.grouping.join(adjusted) - target).abs().square().sum(), body[-1].weight)
    parts = body(x)
    (expected,) = torch.autograd.grad((adjuster_of(body)(parts, x, y) - y).square().sum(), body[-1].weight)
    assert torch.allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_network_has_the_gradient_of_the_definition(in_place: bool) -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    network = mlp().double()
    x, y = data()
    expected = by_definition(network, x, y)
    compiled: Any = network
    if in_place:
        network.compile(backend="aot_eager")
    else:
        compiled = torch.compile(network, backend="aot_eager")
        with pytest.raises(ValueError, match=r"network\._orig_mod"):
            adjuster_of(compiled)
    found = gradient(network, compiled(x), y, x)
    assert ((found - expected).norm() / expected.norm()).item() <= 1e-8
    per_sample = gradient(network, compiled(x), y, x, kernel="per_sample")
    assert ((per_sample - expected).norm() / expected.norm()).item() <= 1e-8
    # Afterwards it is as compiled as before.
    assert (network._compiled_call_impl is not None) == in_place


def test_several_representatives_reach_networks_of_flat_rows() -> None:
    torch.manual_seed(0)
    network = FlatRowsOnly().double()
    inputs = torch.randn(6, 3, 2, dtype=torch.float64)
    shares = torch.rand(6, 3, dtype=torch.float64)
    found = layerwise_entk(network, inputs, shares=shares)
    rows = []
    for sample, share in zip(inputs, shares, strict=True):
        scalar = (network(sample).sum(-1) / 3**0.5 * share).sum()
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(scalar, list(network.parameters()))]))
    expected = torch.stack(rows) @ torch.stack(rows).T
    assert torch.allclose(found, expected, rtol=1e-10)
    assert torch.allclose(per_sample_entk(network, inputs, shares=shares), expected, rtol=1e-10)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.body(x), x


class Named(Pair):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"model_in": x, "model_out": self.body(x)}


@pytest.mark.parametrize(
    ("kind", "part"), [(Pair, lambda outputs: outputs[0]), (Named, lambda outputs: outputs["model_out"])]
)
@pytest.mark.parametrize("kernel", ["layerwise", "per_sample"])
def test_outputs_that_are_no_tensors(kind: type[nn.Module], part: Callable[[Any], Tensor], kernel: str) -> None:
    torch.manual_seed(0)
    network = kind().double()
    x, y = data()
    with pytest.raises(UnsupportedNetworkError, match=r"returns a (tuple|dict).*readout=lambda outputs"):
        gradient(network, part(network(x)), y, x, kernel=kernel)
    expected = by_definition(network, x, y, part=part)
    found = gradient(
        network, part(network(x)), y, x, kernel=kernel, readout=lambda outputs: part(outputs).sum(-1) / 3**0.5
    )
    assert ((found - expected).norm() / expected.norm()).item() <= 1e-8


class Squeezed(Pair):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.body(x).squeeze(0)


def test_outputs_that_lose_an_axis() -> None:
    network = Squeezed().double()
    x, y = data()
    with pytest.raises(ValueError, match=r"must return \(N, C\) for N rows, also for a single one"):
        gradient(network, network(x), y, x)


@pytest.mark.parametrize(
    ("prediction", "target", "scores", "message"),
    [
        ((N, 1), (N,), None, rf"one shape, got \({N},\) and \({N}, 1\)"),
        ((N, 3), (N, 1), None, rf"one shape, got \({N}, 1\) and \({N}, 3\)"),
        ((N,), (N,), None, rf"shape \(N, C\).*got \({N},\)"),
        ((N, 1, 3), (N, 3), None, rf"shape \(N, C\).*got \({N}, 1, 3\)"),
        ((N, 3), None, (N, 1), rf"Scores must have shape \({N},\), one per input, got \({N}, 1\)"),
        ((N - 1, 3), (N - 1, 3), None, rf"Inputs must have shape \({N - 1}, d\).*got \({N}, 2\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(prediction: Any, target: Any, scores: Any, message: str) -> None:
    x, _ = data()
    adjuster = adjuster_of(mlp().double(), representative="largest_residual" if target else "largest_weight")
    with pytest.raises(ValueError, match=message):
        adjuster(
            torch.zeros(prediction),
            x,
            None if target is None else torch.zeros(target),
            scores=None if scores is None else torch.zeros(scores),
        )


def test_inputs_may_come_in_a_list() -> None:
    torch.manual_seed(0)
    network = mlp().double()
    x, y = data()
    assert torch.equal(gradient(network, network(x), y, [x]), gradient(network, network(x), y, x))


def test_derivatives_that_are_differentiated_again_are_refused() -> None:
    network = mlp(1).double()
    x, y = data(1)
    x.requires_grad_()
    prediction = network(x)
    adjusted = adjuster_of(network)(prediction, x, y)
    with pytest.raises(RuntimeError, match="own prediction, before the adjuster"):
        torch.autograd.grad(adjusted.sum(), x, create_graph=True)
    # Of the network's own it works beside the adjusted loss.
    slope = torch.autograd.grad(prediction.sum(), x, create_graph=True)[0]
    ((adjusted - y).square().mean() + slope.square().mean()).backward()
    assert all(p.grad is not None for p in network[0].parameters())


def test_a_frozen_network_keeps_the_plain_gradient_of_what_is_trained() -> None:
    network = mlp().double().requires_grad_(False)
    x, y = data()
    offset = torch.zeros(N, 2, dtype=torch.float64, requires_grad=True)
    adjuster = adjuster_of(network)
    (adjuster(network(x + offset), x, y) - y).square().mean().backward()
    found, offset.grad = offset.grad, None
    (network(x + offset) - y).square().mean().backward()
    assert found is not None
    assert torch.equal(found, offset.grad)
    assert dict(adjuster.diagnostics.unadjusted) == {"nothing_trained": 1}
    network[0].requires_grad_(True)
    adjuster(network(x), x, y)
    assert adjuster.diagnostics.adjusted


@pytest.mark.parametrize("grouping", [Intervals(64, 8), Patches((8, 8), 4)])
def test_what_it_returns_may_be_changed_in_place(grouping: Any) -> None:
    x, y = torch.rand(64, 2), torch.rand(64, 3)
    network = mlp()
    prediction = network(x)
    before = prediction.detach().clone()
    InductiveGradientAdjuster(network, grouping, 2)(prediction, x, y).clamp_(0, 0.1).sum().backward()
    assert torch.equal(prediction, before)


def test_random_layers_are_refused_by_name() -> None:
    network = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.3), nn.Linear(8, 3))
    for function in (layerwise_entk, per_sample_entk):
        with pytest.raises(UnsupportedNetworkError, match="Dropout '1' draws other numbers"):
            function(network, torch.rand(5, 2))
        assert function(network.eval(), torch.rand(5, 2)).shape == (5, 5)
        network.train()


def test_fixed_random_points_want_groups_that_stay() -> None:
    adjuster = InductiveGradientAdjuster(mlp(), Rays(4), 3, representative="random_once")
    with pytest.raises(ValueError, match=r"'random_once' keeps a point of every group.*Use 'random'"):
        adjuster.choose((6, 4), None, torch.device("cpu"))


def fail_in_full_precision(holds: Callable[[], bool]) -> None:
    with full_precision(torch.device("cpu")):
        assert holds()
        raise KeyError


class TestPrecision:
    @pytest.fixture(autouse=True)
    def restore(self):
        backends = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]
        before = [getattr(backend, "fp32_precision", None) for backend in backends]
        yield
        for backend, precision in zip(backends, before, strict=True):
            if precision is not None:
                backend.fp32_precision = precision
        torch.set_float32_matmul_precision("highest")

    def test_the_older_switch_is_put_back_after_an_error(self) -> None:
        torch.set_float32_matmul_precision("high")
        with pytest.raises(KeyError):
            fail_in_full_precision(lambda: torch.get_float32_matmul_precision() == "highest")
        assert torch.get_float32_matmul_precision() == "high"

    @pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch before 2.9")
    def test_the_newer_switch_is_used_where_the_user_has_chosen_it(self) -> None:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        with pytest.raises(RuntimeError):
            torch.get_float32_matmul_precision()
        with pytest.raises(KeyError):
            fail_in_full_precision(lambda: torch.backends.cuda.matmul.fp32_precision == "ieee")
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        x, y = data()
        network = mlp().double()
        gradient(network, network(x), y, x)


def test_parametrized_layers_are_told_from_plain_ones() -> None:
    """A weight that is computed anew in every pass: its rule would be of the wrong parameters."""
    layer = nn.Linear(2, 3)
    parametrize.register_parametrization(layer, "weight", nn.Tanh())
    with pytest.raises(UnsupportedNetworkError, match="no layerwise kernel rule"):
        layerwise_entk(nn.Sequential(layer), torch.rand(5, 2))


class LeavesTraces(nn.Module):
    """Keeps its features and counts its calls; in place, too, and draws numbers, where there is more of it."""

    def __init__(self, more: bool) -> None:
        super().__init__()
        self.body, self.last_features, self.more = mlp(), None, more
        self.register_buffer("reassigned", torch.zeros(()))
        self.register_buffer("in_place", torch.zeros(()))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.last_features = self.body(x)
        self.calls += 1
        self.reassigned = self.reassigned + 1
        if self.more:
            self.in_place += 1
            torch.rand(3)
        if x.shape[0] != N:
            self.noticed = True
        return self.last_features


@pytest.mark.parametrize("kernel", ["layerwise", "per_sample"])
@pytest.mark.parametrize("forward_first", [True, False])
def test_the_kernel_s_passes_leave_no_trace_on_the_network_nor_in_the_random_numbers(
    kernel: str, forward_first: bool
) -> None:
    # torch's vmap refuses changes in place and random numbers by itself.
    network = LeavesTraces(more=kernel == "layerwise").double()
    x, y = data()
    prediction = network(x) if forward_first else y
    features, state, buffers = network.last_features, torch.get_rng_state(), dict(network.named_buffers())
    adjuster = adjuster_of(network, kernel=kernel)
    adjuster(prediction, x, y)
    assert adjuster.diagnostics.adjusted
    assert network.last_features is features
    calls = int(forward_first)
    assert (network.calls, network.reassigned.item()) == (calls, calls)
    assert network.in_place.item() == calls * network.more
    assert all(buffer is buffers[name] for name, buffer in network.named_buffers())
    assert not hasattr(network, "noticed")
    assert torch.equal(torch.get_rng_state(), state)


class Annealed(nn.Module):
    """Its output grows with every pass, by a buffer that is changed in place and that backward needs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * self.scale.mul_(1.1)


def test_a_pass_of_the_kernel_s_does_not_stand_in_the_way_of_backward() -> None:
    torch.manual_seed(0)
    network = Annealed().double()
    x, y = data()
    found = gradient(network, network(x), y, x)
    assert network.scale.item() == pytest.approx(1.1)
    expected = by_definition(network.body, x, y, part=lambda outputs: 1.1 * outputs)
    assert ((found - expected).norm() / expected.norm()).item() <= 1e-8


@pytest.mark.parametrize("kernel", ["layerwise", "per_sample"])
@pytest.mark.parametrize("how", ["a layer", "a function", "forward"])
@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="torch before 2.6")
def test_networks_that_are_compiled_in_part_have_the_gradient_of_the_definition(how: str, kernel: str) -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    network = mlp().double()
    x, y = data()
    expected = by_definition(network, x, y)
    if how == "a layer":
        network[2] = torch.compile(network[2], backend="aot_eager")
    elif how == "a function":
        network[2].register_forward_hook(
            torch.compile(lambda _layer, _inputs, output: output.sin().asin(), backend="aot_eager")
        )
        expected = by_definition(network, x, y)
    else:
        network.forward = torch.compile(network.forward, backend="aot_eager")
    network(x).sum().backward()  # compiled without our hooks
    found = gradient(network, network(x), y, x, kernel=kernel)
    assert ((found - expected).norm() / expected.norm()).item() <= 1e-8


class SortsRows(nn.Module):
    """As networks that send rows to experts: a layer has them in another order than the others have."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        order = x[:, 0].argsort()
        return self.second(torch.tanh(self.first(x[order]))[order.argsort()])


def test_rows_in_another_order_are_found_though_the_first_and_the_last_are_in_their_places() -> None:
    torch.manual_seed(0)
    x = torch.rand(16, 2, dtype=torch.float64)
    x[:2, 0], x[-2:, 0] = torch.tensor([-2.0, -1.0]), torch.tensor([2.0, 3.0])
    network = SortsRows().double()
    with pytest.raises(UnsupportedNetworkError, match="disagrees with autograd"):
        layerwise_entk(network, x)
    assert torch.allclose(layerwise_entk(network, x[x[:, 0].argsort()]), per_sample_entk(network, x[x[:, 0].argsort()]))


class InBfloat16(nn.Module):
    """As accelerate makes networks: the weights in float32, an autocast within forward."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.body(x).float()


@pytest.mark.parametrize("kernel", [layerwise_entk, per_sample_entk])
@pytest.mark.parametrize("precision", ["inner autocast", "bfloat16", "float16"])
def test_networks_of_half_precision_are_not_taken_for_wrong(precision: str, kernel: Callable[..., Tensor]) -> None:
    for seed in range(6):
        torch.manual_seed(seed)
        network, x = SirenLayers().float(), torch.rand(12, 2)
        expected = kernel(network, x)
        dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32)
        half = InBfloat16(network) if precision == "inner autocast" else network.to(dtype)
        found = kernel(half, x.to(dtype))
        assert found.dtype == torch.float32
        assert ((found - expected).norm() / expected.norm()).item() <= 0.05


class SirenLayers(nn.Module):
    """Frequent enough that errors of rounding grow."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.sin(10.0 * self.first(x)))


class ByNumber(nn.Module):
    """As auto-decoders: a code for each row by its number, which comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.codes, self.body = nn.Embedding(8, 4), nn.Linear(6, 3)

    def forward(self, number: Tensor, x: Tensor) -> Tensor:
        return self.body(torch.cat([self.codes(number[..., 0]), x], -1).sin())


def test_integers_as_inputs_decide_nothing_of_the_kernel_s_numbers() -> None:
    torch.manual_seed(0)
    network = ByNumber().double()
    numbers, x = torch.randint(0, 8, (5, 2, 1)), torch.rand(5, 2, 2, dtype=torch.float64)
    found = per_sample_entk(network, (numbers, x))
    assert found.dtype == torch.float64
    shares = torch.full((5, 2), 0.5, dtype=torch.float64)
    assert torch.allclose(found, per_sample_entk(network, (numbers, x), shares=shares))
    assert found.diagonal().min() > 0


class Table(nn.Embedding):
    """As a hash grid's level: its rows are looked up by number."""


def test_a_rule_of_a_table_gets_the_numbers_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_rules, "_rules", dict(layer_rules._rules))
    seen: list[Tensor] = []

    @layer_rules.register_layer_rule(Table)
    def table_rule(_layer: Table, rows: Tensor, cotangents: Tensor) -> list[layer_rules.LookupFactors]:
        seen.append(rows)
        return [layer_rules.LookupFactors(rows, torch.ones_like(rows, dtype=cotangents.dtype), cotangents)]

    class Grid(nn.Module):
        """Two corners a point, and one in a column of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.corners, self.single, self.last = Table(9, 3), Table(9, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            cell = (x[:, 0] * 4).long()
            corners = (
                self.corners(torch.stack([cell, cell + 1], -1)) * torch.stack([1 - x[:, 1], x[:, 1]], -1)[..., None]
            )
            return self.last((corners.sum(1) + self.single(2 * cell)).sin())

    torch.manual_seed(0)
    network, x = Grid().double(), torch.rand(7, 2, dtype=torch.float64)
    assert torch.allclose(layerwise_entk(network, x), per_sample_entk(network, x), rtol=1e-10)
    assert [(tuple(rows.shape), rows.dtype) for rows in seen] == [((7, 2, 1), torch.int64), ((7, 1, 1), torch.int64)]


class Modulated(nn.Linear):
    """As in pi-GAN: scaled by a second input."""

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) * scale


def test_a_ruled_layer_that_is_called_with_more_than_one_tensor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_rules, "_rules", dict(layer_rules._rules) | {Modulated: layer_rules.linear_rule})

    class Film(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = Modulated(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x, x[:, :1])

    with pytest.raises(UnsupportedNetworkError, match=r"'layer' was called with \(Tensor, Tensor\).*per_sample_entk"):
        layerwise_entk(Film(), torch.rand(5, 2))


class CastsDown(nn.Module):
    """Coordinates as NumPy gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.float())


def test_coordinates_of_double_precision_and_weights_of_single() -> None:
    torch.manual_seed(0)
    network, x = CastsDown(), torch.rand(9, 2, dtype=torch.float64)
    expected = per_sample_entk(copy.deepcopy(network.body).double(), x.float().double())
    for kernel in (layerwise_entk, per_sample_entk):
        assert torch.allclose(kernel(network, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [layerwise_entk, per_sample_entk])
def test_readouts_of_which_there_is_no_gradient_are_named(kernel: Callable[..., Tensor]) -> None:
    x = torch.rand(5, 2, dtype=torch.float64)
    with pytest.raises(UnsupportedNetworkError, match=r"^The readout gave complex scalars.*view_as_real"):
        kernel(nn.Linear(2, 3, dtype=torch.complex128), x.to(torch.complex128))
    with pytest.raises(UnsupportedNetworkError, match="do not depend on any parameter"):
        layerwise_entk(mlp().double(), x, readout=lambda outputs: outputs.detach().sum(-1))


@pytest.mark.parametrize("representative", ["largest_residual", "previous_residual", "random", "middle"])
@pytest.mark.parametrize("grouping", [Intervals(1200, 2), Intervals(1200, 7), Rays(4)])
def test_the_default_device_is_a_matter_of_the_user_s_tensors(representative: str, grouping: Any) -> None:
    """torch.set_default_device("cuda") is common; tensors on "meta" hold nothing, so that a use of one fails."""
    if isinstance(grouping, Rays) and representative == "previous_residual":
        representative = "all_maxima"
    torch.manual_seed(0)
    network, x, y = mlp(), torch.rand(1200, 2), torch.rand(1200, 3)
    adjuster = adjuster_of(network, grouping=grouping, representative=representative)
    torch.set_default_device("meta")
    try:
        for _ in range(2):
            (adjuster(network(x), x, y) - y).square().mean().backward()
            assert adjuster.diagnostics.adjusted
        adjuster.load_state_dict(adjuster.state_dict())
        adjuster(network(x), x, y)
        assert float(adjuster.diagnostics.target) > 0
    finally:
        torch.set_default_device("cpu")


class UsedTwice(nn.Module):
    """A weight that is used outside its layer too, behind a last layer of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = mlp(), nn.Linear(3, 3)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x) + nn.functional.linear(x, self.body[0].weight[:3]).square())


def test_a_weight_s_second_use_behind_a_last_layer_of_zeros_is_found_in_training() -> None:
    torch.manual_seed(0)
    network = UsedTwice().double()
    x, y = data()
    adjuster = adjuster_of(network)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            (adjuster(network(x), x, y) - y).square().mean().backward()
            optimizer.step()

    train(9)
    with pytest.raises(UnsupportedNetworkError, match="a weight is used outside its layer"):
        train(1)


class Doubled(nn.Module):
    """As a layer that is put in place of another: what it adds to the output is no layer's."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + nn.functional.linear(x, self.layer.weight).square()


def test_what_is_put_in_a_layer_s_place_later_is_checked() -> None:
    torch.manual_seed(0)
    network = mlp().double()
    x, y = data()
    adjuster = adjuster_of(network)
    for _ in range(3):
        adjuster(network(x), x, y)
    network[2] = Doubled(network[2])
    for _ in range(2):
        with pytest.raises(UnsupportedNetworkError, match="a weight is used outside its layer"):
            adjuster(network(x), x, y)
    network[2] = network[2].layer
    adjuster(network(x), x, y)
    assert adjuster.diagnostics.adjusted


@pytest.mark.parametrize("when", ["at once", "in training mode later"])
def test_rows_that_influence_each_other_are_refused_by_the_per_sample_kernel_too(when: str) -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.last = mlp(), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.body(x)
            return self.last((hidden @ hidden.T).softmax(1) @ hidden if self.training else hidden)

    torch.manual_seed(0)
    network = Attends().double()
    x, y = data()
    adjuster = adjuster_of(network, kernel="per_sample")
    if when != "at once":
        network.eval()
        adjuster(network(x), x, y)
        network.train()
    with pytest.raises(UnsupportedNetworkError, match=r"Rows influence each other .*attention"):
        adjuster(network(x), x, y)


@pytest.mark.parametrize("structure_changes", [False, True])
def test_a_step_is_checked_at_first_then_seldom_and_when_the_network_changes(
    structure_changes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[bool] = []
    entk = adjuster_module.layerwise_entk
    monkeypatch.setattr(
        adjuster_module, "layerwise_entk", lambda *args, check: checked.append(check) or entk(*args, check=check)
    )
    network = mlp().double()
    x, y = data()
    adjuster = adjuster_of(network)
    for step in range(101):
        if structure_changes and step == 50:
            network[0].bias.requires_grad_(False)
        adjuster(network(x), x, y)
    expected = [0, 9, 50, 59] if structure_changes else [0, 9, 99]
    assert [step for step, check in enumerate(checked) if check] == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"end": 3.0}, "end must be a whole number, got 3.0"),
        ({"end": 2.5}, "end must be a whole number, got 2.5"),
        ({"end": float("nan")}, "end must be a whole number, got nan"),
        ({"end": "20"}, "end must be a whole number, got '20'"),
        ({"end": None}, "end must be a whole number, got None"),
        ({"start": True}, "start must be a whole number, got True"),
        ({"refresh_interval": 1.5}, "refresh_interval must be a whole number, got 1.5"),
        ({"num_representatives": 1.0}, "num_representatives must be a whole number, got 1.0"),
        ({"power": "1"}, r"lies in \(0, 1\], got '1'"),
        ({"floor": "0"}, r"lies in \[0, 1\), got '0'"),
        ({"grouping": 4}, r"a grouping, as Patches.*got Sequential and int"),
        ({"seed": None}, "seed must be a whole number, got None"),
        ({"readout": "sum"}, r"readout is a function of the network's output.*got 'sum'"),
    ],
)
def test_settings_of_wrong_types_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adjuster_of(mlp(), **settings)


def test_reconfigured_settings_of_wrong_types_are_named_and_numbers_of_numpy_s_are_taken() -> None:
    network, (x, _) = mlp().double(), data()
    numbers = {"end": np.int64(3), "start": np.int32(1), "power": np.float32(0.5), "grouping": Rays(np.int64(4))}
    adjuster = adjuster_of(network, **numbers)
    with pytest.raises(ValueError, match=r"end must be a whole number, got 3\.0"):
        adjuster.reconfigure(end=3.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="samples_per_ray must be a whole number, got '4'"):
        Rays("4")  # type: ignore[arg-type]
    adjuster(network(x), x)
    assert adjuster.diagnostics.adjusted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            lambda p, x, y: (p, {"x": x}, y),
            r"Inputs must be a tensor, or a tuple of them for network\(\*inputs\), got dict",
        ),
        (lambda p, x, y: (p, x.numpy(), y), "Inputs must be .*got ndarray"),
        (lambda p, x, y: (p, (x, None), y), "Inputs must be .*got NoneType"),
        (lambda p, x, y: (p, x, y.numpy()), "The target must be a tensor, got ndarray"),
        (lambda p, x, y: ((p, x), x, y), "The prediction must be a tensor, got tuple"),
        (lambda p, x, y: (None, x, y), "The prediction must be a tensor, got NoneType"),
    ],
)
def test_what_is_no_tensor_is_named(arguments: Callable[..., Any], message: str) -> None:
    network = mlp().double()
    x, y = data()
    with pytest.raises(ValueError, match=message):
        adjuster_of(network)(*arguments(network(x), x, y))
    with pytest.raises(ValueError, match="The scores must be a tensor, got list"):
        adjuster_of(network)(network(x), x, scores=y[:, 0].tolist())
    for function in (layerwise_entk, per_sample_entk):
        with pytest.raises(ValueError, match=r"Inputs must be .*got dict"):
            function(network, {"x": x})


def fast_weights(network: nn.Module, x: Tensor) -> Tensor:
    """As in meta-learning: a prediction by weights that are not the module's own."""
    return functional_call(
        network, {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}, x
    )


@pytest.mark.parametrize("kernel", ["layerwise", "per_sample"])
@pytest.mark.parametrize("predict", [fast_weights, lambda network, x: copy.deepcopy(network)(x)])
def test_a_prediction_by_other_weights_than_the_network_s_is_refused(
    predict: Callable[[nn.Module, Tensor], Tensor], kernel: str
) -> None:
    network = mlp().double()
    x, y = data()
    adjuster = adjuster_of(network, kernel=kernel)
    adjuster(network(x), x, y)
    with pytest.raises(ValueError, match="not made by the adjuster's network"):
        adjuster(predict(network, x), x, y)


@pytest.mark.parametrize(
    "predict",
    [
        lambda network, x: functional_call(network, dict(network.named_parameters()), x),
        lambda network, x: torch.jit.trace(network, x)(x),
        lambda network, x: nn.DataParallel(network)(x),
        lambda network, x: checkpoint(network, x, use_reentrant=False),
        lambda network, x: checkpoint(network, x.clone().requires_grad_(), use_reentrant=True),
        lambda network, x: network(x) + nn.Linear(2, 3).double()(x),
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning")
def test_a_prediction_by_way_of_something_else_is_the_network_s(predict: Callable[[nn.Module, Tensor], Tensor]) -> None:
    network = mlp().double()
    x, y = data()
    gradient(network, predict(network, x), y, x)


@pytest.mark.parametrize(
    "transformed",
    [
        lambda network, loss, x: grad(lambda p: loss(functional_call(network, p, x)))(dict(network.named_parameters())),
        lambda network, loss, x: vmap(lambda inputs: loss(network(inputs)))(torch.stack([x, x])),
    ],
)
def test_transforms_of_torch_func_are_refused(transformed: Callable[..., Any]) -> None:
    network = mlp().double()
    x, y = data()
    adjuster = adjuster_of(network)
    with pytest.raises(ValueError, match=r"within a transform of torch\.func"):
        transformed(network, lambda prediction: (adjuster(prediction, x, y) - y).square().mean(), x)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [(nn.DataParallel, r"wrapped in DataParallel.*network\.module"), (torch.jit.script, "compiled by torch.jit")],
)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning")
def test_wrapped_networks_name_the_module_inside(wrap: Callable[[nn.Module], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adjuster_of(wrap(mlp()))


@pytest.mark.parametrize("way", ["wrapped", "inside", "fully_shard"])
def test_networks_whose_parameters_are_spread_over_processes_are_refused(way: str) -> None:
    from torch.distributed import destroy_process_group, init_device_mesh, init_process_group
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.testing._internal.distributed.fake_pg import FakeStore

    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if way == "fully_shard" and not hasattr(fsdp, "fully_shard"):
        pytest.skip("torch before 2.6")
    init_process_group("fake", rank=0, world_size=1, store=FakeStore())
    try:
        network: nn.Module = mlp()
        if way == "fully_shard":
            fsdp.fully_shard(network, mesh=init_device_mesh("cpu", (1,)))
        else:
            wrapped = FullyShardedDataParallel(network, use_orig_params=True, device_id=torch.device("cpu"))
            network = wrapped if way == "wrapped" else network
        with pytest.raises(ValueError, match=r"spread over processes.*Use DistributedDataParallel"):
            adjuster_of(network)
    finally:
        destroy_process_group()


@pytest.mark.parametrize("kernel", ["layerwise", "per_sample"])
@pytest.mark.parametrize("changes", [True, False])
def test_hooks_that_change_gradients_of_parameters_are_named(changes: bool, kernel: str) -> None:
    network = mlp().double()
    x, y = data()
    network[2].weight.register_hook(lambda g: g * (torch.arange(12) > 5) if changes else None)
    if not changes:
        gradient(network, network(x), y, x, kernel=kernel)
        return
    with pytest.raises(UnsupportedNetworkError, match=r"gradients of 2\.weight go through hooks"):
        gradient(network, network(x), y, x, kernel=kernel)


class GoesByValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: Tensor) -> Tensor:
        if x.abs().max() > 1:
            raise ValueError(f"Expected inputs in [-1, 1], got {x.abs().max()}.")
        return self.body(x)


class WithSlopes(nn.Module):
    """As NeuS': colours of a surface's normals, which are derivatives of a network."""

    def __init__(self) -> None:
        super().__init__()
        self.surface, self.colour = mlp(1), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        (slopes,) = torch.autograd.grad(self.surface(x).sum(), x, create_graph=True)
        return self.colour(slopes)


@pytest.mark.parametrize("kind", [GoesByValues, WithSlopes])
def test_what_cannot_be_differentiated_row_by_row_is_told(kind: type[nn.Module]) -> None:
    network = kind().double()
    x, y = data()
    with pytest.raises(
        UnsupportedNetworkError, match=r"torch\.func cannot differentiate the network row by row: .*left"
    ):
        gradient(network, network(x), y, x, kernel="per_sample")


def test_booleans_are_a_target_for_the_choice_of_representatives() -> None:
    network = mlp(1).double()
    x, y = data(1)
    chosen = [adjuster_of(network, representative="largest_residual") for _ in range(2)]
    for adjuster, target in zip(chosen, (y > 0.5, (y > 0.5).double()), strict=True):
        adjuster(network(x), x, target)
    assert torch.equal(*(adjuster.diagnostics.eigenvalues for adjuster in chosen))


def test_threads_put_the_precision_back_that_was_chosen() -> None:
    def train() -> None:
        network = mlp().double()
        x, y = data()
        adjuster = adjuster_of(network)
        for _ in range(20):
            adjuster(network(x), x, y)

    torch.set_float32_matmul_precision("high")
    try:
        threads = [threading.Thread(target=train) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
