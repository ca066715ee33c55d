"""The two-layer network of the paper's first experiment, and its NTK in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from iga_nerfstudio.adjustment import layerwise_entk, sum_of_logits
from iga_nerfstudio.networks.two_layer import TwoLayerReLU, two_layer_ntk


def circle(count: int) -> Tensor:
    angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def test_the_network_is_its_formula() -> None:
    torch.manual_seed(0)
    network = TwoLayerReLU(5).double()
    torch.nn.init.normal_(network.hidden.bias)
    x = circle(7)
    expected = [
        sum(
            a.item() * max((w @ point + b).item() / math.sqrt(2), 0.0) / math.sqrt(5)
            for a, w, b in zip(network.signs, network.hidden.weight, network.hidden.bias, strict=True)
        )
        for point in x
    ]
    assert torch.allclose(network(x)[:, 0], torch.tensor(expected, dtype=torch.float64))
    assert set(network.signs.tolist()) <= {-1.0, 1.0}
    # The last layer is no parameter.
    assert [name for name, _ in network.named_parameters()] == ["hidden.weight", "hidden.bias"]


def test_the_closed_form_is_the_limit_of_wide_networks() -> None:
    """The mean over draws of the weights is the closed form, and its error falls as their number grows."""
    x = circle(16)
    ntk = two_layer_ntk(x)
    errors = []
    for width in (100, 10_000, 1_000_000):
        torch.manual_seed(1)
        entk = layerwise_entk(TwoLayerReLU(width).double(), (x,), sum_of_logits)
        errors.append(((entk - ntk).norm() / ntk.norm()).item())
    assert errors[0] > 5 * errors[1] > 20 * errors[2]
    assert errors[2] < 2e-3


def test_the_kernel_of_one_point_with_itself() -> None:
    """Half of the neurons see it, each with |x|^2 + 1 over 2: 1/2; opposite points share no neuron."""
    kernel = two_layer_ntk(torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64))
    assert torch.allclose(kernel, torch.eye(2, dtype=torch.float64) / 2)


@pytest.mark.parametrize("point", [[2.0, 0.0], [0.0, 0.0]])
def test_points_off_the_sphere_are_refused(point: list[float]) -> None:
    with pytest.raises(ValueError, match="on the unit sphere"):
        two_layer_ntk(torch.tensor([point]))


def test_a_network_needs_neurons() -> None:
    with pytest.raises(ValueError, match="got width 0"):
        TwoLayerReLU(0)
