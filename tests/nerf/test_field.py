"""Rendering takes short cuts that training does not; what is seen is the same."""

from __future__ import annotations

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components.ray_samplers import UniformSampler

from iga_nerfstudio.nerf.field import IGANerfField
from iga_nerfstudio.networks import NeRFMLP


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network(seed: int = 0, **settings: int) -> NeRFMLP:
    torch.manual_seed(seed)
    sizes = {"num_layers": 4, "hidden_dim": 20, "skip_layer": 1, "view_dim": 12, "position_octaves": 4}
    return NeRFMLP(**(sizes | settings))


@pytest.mark.parametrize("settings", [{}, {"skip_layer": 0}, {"num_layers": 2, "skip_layer": 0}, {"num_layers": 6}])
@pytest.mark.parametrize("points", [(), (5,), (3, 5)])
def test_no_gradient_no_concatenation_the_same_outputs(settings, points):
    field = network(**settings)
    inputs = torch.randn(*points, 3), torch.randn(*points, 3)
    expected = field(*inputs)
    with torch.no_grad():
        found = field(*inputs)
    assert expected.requires_grad
    assert found.shape == (*points, 4)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("density", [-3.0, -0.05, 0.1, 3.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_colours_that_weigh_nothing_are_left_out_and_nothing_else(density, seed):
    field = IGANerfField(network(seed, position_octaves=6))
    torch.nn.init.constant_(field.network.density.bias, density)
    directions = torch.nn.functional.normalize(torch.randn(40, 3), dim=-1)
    ones = torch.ones(40, 1)
    rays = RayBundle(-4 * directions + 0.3, directions, ones * 1e-3, nears=2 * ones, fars=6 * ones)
    samples = UniformSampler(num_samples=16).eval()(rays)
    weights = samples.get_weights(field.activate(field.raw_outputs(samples))[1].detach())
    expected = (weights * field.activate(field.raw_outputs(samples))[0]).detach()
    with torch.no_grad():
        raw = field.raw_outputs(samples)
        found = samples.get_weights(field.activate(raw)[1]) * field.activate(raw)[0]
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)
    assert bool((raw[..., :3][weights[..., 0] == 0] == 0).all())
