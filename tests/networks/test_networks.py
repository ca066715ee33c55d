"""Every network: its kernel, its initialisation, its refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from iga_nerfstudio import InductiveGradientAdjuster, Patches, UnsupportedNetworkError, layerwise_entk, per_sample_entk
from iga_nerfstudio.networks import (
    ComplexGabor,
    Finer,
    FourierFeatures,
    FourierReparameterisation,
    FourierReparameterisedLinear,
    FrequencyEncoding,
    Gauss,
    NetworkConfig,
    RealGabor,
    Sine,
    begin_near,
    build_network,
)

KINDS = ["relu", "pe", "fourier", "siren", "gauss", "wire", "complex_wire", "finer", "gauss_finer", "wire_finer"]
SMALL_FR = FourierReparameterisation(enabled=True, num_high=6, num_low=5, num_phases=4, alpha=0.05)


def double(network: nn.Module) -> nn.Module:
    """Double precision, complex layers included."""
    for parameter in (*network.parameters(), *network.buffers()):
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.data = parameter.data.to(torch.complex128 if parameter.is_complex() else torch.float64)
    return network


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("points", [(), (3,)])
def test_layerwise_kernel_is_that_of_per_sample_gradients(kind, points):
    torch.manual_seed(0)
    network = double(build_network(NetworkConfig(kind, hidden_dim=20, num_features=9), 2, 3))
    x = torch.rand(8, *points, 2, dtype=torch.float64) * 2 - 1
    assert relative(layerwise_entk(network, x), per_sample_entk(network, x)) < 1e-10


@pytest.mark.parametrize("kind", ["relu", "pe", "fourier", "siren"])
@pytest.mark.parametrize("points", [(), (3,)])
def test_kernel_of_fourier_reparameterised_networks(kind, points):
    torch.manual_seed(0)
    config = NetworkConfig(kind, hidden_dim=20, num_features=9, fourier_reparameterisation=SMALL_FR)
    network = double(build_network(config, 2, 3))
    assert sum(isinstance(layer, FourierReparameterisedLinear) for layer in network.modules()) == 2
    x = torch.rand(8, *points, 2, dtype=torch.float64) * 2 - 1
    assert relative(layerwise_entk(network, x), per_sample_entk(network, x)) < 1e-10


@pytest.mark.parametrize("kind", ["relu", "pe", "fourier"])
def test_kernel_of_batch_normed_networks(kind):
    torch.manual_seed(0)
    network = double(build_network(NetworkConfig(kind, hidden_dim=20, num_features=9, batch_norm=True), 2, 3))
    x = torch.rand(50, 2, dtype=torch.float64) * 2 - 1
    network(x)
    with pytest.raises(UnsupportedNetworkError, match="PointwiseBatchNorm"):
        layerwise_entk(network, x)
    network.eval()
    for inputs in (x[:8], x[:24].reshape(8, 3, 2)):
        assert relative(layerwise_entk(network, inputs), per_sample_entk(network, inputs)) < 1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_every_network_trains_with_the_adjustment(kind):
    torch.manual_seed(0)
    network = build_network(NetworkConfig(kind, hidden_dim=32, num_features=16, omega=None), 2, 3)
    axes = torch.linspace(-1, 1, 16)
    coordinates = torch.stack(torch.meshgrid(axes, axes, indexing="ij"), -1).reshape(-1, 2)
    target = torch.stack([(6 * coordinates[:, 0]).sin(), coordinates[:, 1], coordinates.prod(1)], 1)
    adjuster = InductiveGradientAdjuster(network, Patches((16, 16), 4), end=4)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = (adjuster(network(coordinates), coordinates, target) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert adjuster.diagnostics.steps_unadjusted == 0


class TestActivations:
    x = torch.linspace(-2, 2, 101, dtype=torch.float64)

    @pytest.mark.parametrize(
        ("module", "expected"),
        [
            (Sine(5.0), lambda x: math.sin(5 * x)),
            (Finer(5.0), lambda x: math.sin(5 * (abs(x) + 1) * x)),
            (Gauss(2.0), lambda x: math.exp(-4 * x * x)),
            (RealGabor(5.0, 2.0), lambda x: math.cos(5 * x) * math.exp(-4 * x * x)),
        ],
    )
    def test_values(self, module, expected):
        assert torch.allclose(module(self.x), torch.tensor([expected(float(x)) for x in self.x], dtype=torch.float64))

    def test_complex_gabor_on_complex_numbers(self):
        z = torch.complex(self.x, self.x.flip(0) * 0.3)
        expected = torch.exp(1j * 5 * z - (2 * z).abs() ** 2)
        assert torch.allclose(ComplexGabor(5.0, 2.0)(z), expected)

    def test_no_gradient_flows_through_finers_factor(self):
        x = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(Finer(3.0)(x).sum(), x)
        assert gradient.item() == pytest.approx(3 * 1.7 * math.cos(3 * 1.7 * 0.7))


class TestInitialisation:
    def hidden(self, kind: str, width: int = 512, **settings) -> list[Tensor]:
        """Inputs of every activation at initialisation, over random coordinates in [-1, 1]."""
        torch.manual_seed(0)
        network = build_network(NetworkConfig(kind, hidden_dim=width, **settings), 2, 3)
        seen: list[Tensor] = []
        for layer in network.layers:
            if isinstance(layer, nn.Linear | FourierReparameterisedLinear):
                layer.register_forward_hook(lambda _m, _a, output: seen.append(output.detach()))
        network(torch.rand(4000, 2) * 2 - 1)
        return seen

    def test_siren_keeps_its_distribution(self):
        """Sitzmann et al., Sec. 3.2: omega times a hidden layer's output is close to normal, alike at any depth.

        The weights give it variance 1; torch's bias, uniform in +-1/sqrt(512), adds (30^2 / 512) / 3.
        """
        expected = math.sqrt(1 + 30**2 / 512 / 3)
        for output in self.hidden("siren", hidden_layers=6)[1:-1]:
            assert (30 * output).std().item() == pytest.approx(expected, rel=0.06)
            assert (30 * output).mean().abs().item() < 0.1
        first = self.hidden("siren")[0]
        assert first.abs().max() < 0.5 * 2 + 2**-0.5 + 1e-6

    def test_siren_weights_lie_in_their_ranges(self):
        network = build_network(NetworkConfig("siren", hidden_dim=64), 2, 3)
        linears = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        for layer, bound in zip(linears, [1 / 2, *[math.sqrt(6 / 64) / 30] * 3], strict=True):
            assert 0.9 * bound < layer.weight.abs().max().item() <= bound

    @pytest.mark.parametrize(("kind", "bound"), [("gauss_finer", 1 / 8 / 10), ("wire_finer", 1 / math.sqrt(45) / 20)])
    def test_finer_variants(self, kind, bound):
        network = build_network(NetworkConfig(kind, hidden_dim=64), 2, 3)
        linears = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        assert 0.8 < linears[0].bias.abs().max().item() <= 1.0
        assert 0.4 < linears[0].weight.abs().max().item() <= 0.5
        for layer in linears[1:]:
            assert 0.9 * bound < layer.weight.abs().max().item() <= bound

    def test_relu_shrinks_as_torchs_default_does(self):
        """Uniform in +-1/sqrt(d): a ReLU layer passes on a sixth of the power it is fed, plus the bias's."""
        outputs = self.hidden("pe")
        power = outputs[0].relu().square().mean()
        assert outputs[1].var(1).mean().item() == pytest.approx((power / 3).item(), rel=0.25)

    @pytest.mark.parametrize("kind", ["gauss", "wire", "complex_wire", "finer"])
    def test_outputs_are_neither_dead_nor_exploding(self, kind):
        for output in self.hidden(kind, width=128):
            assert torch.isfinite(torch.view_as_real(output) if output.is_complex() else output).all()
            assert 1e-4 < output.abs().std().item() < 10

    def test_fourier_reparameterised_weight_has_the_variance_of_its_range(self):
        """Each basis contributes (6/M) / 3 / d on average: entries of W have variance 2 / d, He's."""
        torch.manual_seed(0)
        layer = FourierReparameterisedLinear(256, 400, 16, 16, 8, alpha=0.05)
        assert layer.weight.var().item() == pytest.approx(2 / 256, rel=0.15)


def test_fourier_bases_are_the_sources():
    layer = FourierReparameterisedLinear(5, 2, num_high=2, num_low=4, num_phases=3, alpha=0.5)
    assert layer.bases.shape == ((2 + 4) * 3, 5)
    points = [(-0.5 + i / 4) * 2 * math.pi / 0.25 for i in range(5)]
    rows = [
        [0.5 * math.cos(w * t + 2 * math.pi * p / 3) for t in points]
        for w in (0.25, 0.5, 0.75, 1.0, 1.0, 2.0)
        for p in range(3)
    ]
    assert torch.allclose(layer.bases, torch.tensor(rows), atol=1e-5)
    x = torch.randn(7, 5)
    assert torch.allclose(layer(x), x @ layer.weight.T + layer.bias, atol=1e-6)
    assert {name for name, _ in layer.named_parameters()} == {"combination", "bias"}


def test_encodings():
    encoding = FrequencyEncoding(2, 3, scale=math.pi)
    x = torch.tensor([[0.3, -0.8]])
    expected = [0.3, -0.8]
    for octave in range(3):
        expected += [f(2**octave * math.pi * v) for f in (math.sin, math.cos) for v in (0.3, -0.8)]
    assert torch.allclose(encoding(x)[0], torch.tensor(expected), atol=1e-5)
    torch.manual_seed(0)
    features = FourierFeatures(2, 4000, scale=3.0)
    assert features.frequencies.std().item() == pytest.approx(3.0, rel=0.05)
    assert features(x).shape == (1, 8000)
    assert torch.allclose(features(x).square().sum(), torch.tensor(4000.0), rtol=1e-4)
    assert "frequencies" in features.state_dict()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (NetworkConfig("transformer"), "Unknown network 'transformer'"),
        (NetworkConfig("siren", batch_norm=True), "Batch normalisation and siren do not go together"),
        (NetworkConfig("wire", fourier_reparameterisation=SMALL_FR), "not defined for wire"),
        (NetworkConfig("pe", hidden_layers=0), "must be positive"),
    ],
)
def test_what_cannot_be_built_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        build_network(config, 2, 3)


@pytest.mark.parametrize("value", [0.0, -3.0, math.nan, math.inf])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("siren", "omega"),
        ("finer", "omega"),
        ("wire", "omega_wavelet"),
        ("gauss", "scale"),
        ("pe", "octave_scale"),
        ("fourier", "feature_scale"),
        ("wire_finer", "omega_wavelet"),
        ("complex_wire", "scale"),
    ],
)
def test_frequencies_and_widths_are_positive(kind: Any, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"The network's {name} must be positive, got {value}"):
        build_network(NetworkConfig(kind, 8, **{name: value}), 2, 1)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_range_of_biases_is_none_below_0(value: float) -> None:
    with pytest.raises(ValueError, match="first_bias is a range"):
        build_network(NetworkConfig("finer", 8, first_bias=value), 2, 1)
    build_network(NetworkConfig("finer", 8, first_bias=0.0), 2, 1)


def test_bad_layers_are_refused():
    with pytest.raises(ValueError, match="at least one frequency"):
        FourierReparameterisedLinear(4, 4, num_high=0, num_low=0)
    with pytest.raises(ValueError, match="num_octaves >= 0"):
        FrequencyEncoding(2, -1)
    with pytest.raises(ValueError, match="num_features >= 1"):
        FourierFeatures(2, 0)


@pytest.mark.parametrize("settings", [{"kind": kind} for kind in KINDS] + [{"fourier_reparameterisation": SMALL_FR}])
def test_a_network_can_begin_near_given_values(settings):
    torch.manual_seed(0)
    config = NetworkConfig(**settings, hidden_dim=20, num_features=9)
    values, x = torch.tensor([-2.0, 0.5, 30.0]), torch.rand(200, 2) * 2 - 1
    network = build_network(config, 2, 3)
    bias = network.layers[-1].bias.real.detach().clone()
    around = (network(x) - bias).detach()
    begin_near(network, values)
    torch.testing.assert_close((network(x) - values).detach(), around / 10, rtol=1e-4, atol=1e-4)
    for wrong in (torch.zeros(2), torch.zeros(()), torch.zeros(1, 3)):
        with pytest.raises(ValueError, match="has 3 outputs"):
            begin_near(network, wrong)
