"""Muon through nerfstudio's optimiser settings."""

from __future__ import annotations

import copy

import pytest
import torch
from nerfstudio.engine.optimizers import Optimizers
from torch import nn

from iga_nerfstudio.muon import MuonWithAdam
from iga_nerfstudio.nerf.method_configs import iga_nerf, iga_nerf_muon
from iga_nerfstudio.nerf.optimizers import MuonOptimizerConfig
from iga_nerfstudio.nerf.schedulers import PowerDecaySchedulerConfig
from iga_nerfstudio.networks import NeRFMLP


def test_nerfstudios_optimisers_take_muons_steps() -> None:
    """Two steps through nerfstudio are those of the optimiser alone, both learning rates on the schedule."""
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    config = MuonOptimizerConfig(lr=0.1, momentum=0.9, adam_lr=0.01, eps=1e-3)
    settings = {"fields": {"optimizer": config, "scheduler": PowerDecaySchedulerConfig(decay_rate=0.5, decay_steps=1)}}
    optimisers = Optimizers(settings, {"fields": list(ours.parameters())})
    alone = MuonWithAdam(theirs.parameters(), lr=0.1, momentum=0.9, adam_lr=0.01, eps=1e-3)
    for step in range(2):
        x = torch.randn(5, 4)
        for layer in (ours, theirs):
            layer.zero_grad()
            layer(x).square().sum().backward()
        optimisers.optimizer_step_all()
        optimisers.scheduler_step_all(step)
        alone.step()
        for group in alone.param_groups:
            group["lr"] *= 0.5
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_eps_reaches_adam() -> None:
    layers = [nn.Linear(2, 2) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    for layer, eps in zip(layers, (1e-8, 1.0), strict=True):
        layer.bias.grad = torch.ones(2)
        MuonOptimizerConfig(eps=eps).setup(list(layer.parameters())).step()
    assert not torch.equal(layers[0].bias, layers[1].bias)


def test_the_muon_preset_differs_in_the_optimiser_and_has_no_floor() -> None:
    adam, muon = iga_nerf.config, copy.deepcopy(iga_nerf_muon.config)
    assert muon.method_name == "iga-nerf-muon"
    assert (adam.pipeline.model.adjustment.floor, muon.pipeline.model.adjustment.floor) == (0.03, 0.0)
    muon.pipeline.model.adjustment.floor = 0.03
    assert muon.pipeline == adam.pipeline
    optimiser = muon.optimizers["fields"]["optimizer"].setup(list(NeRFMLP().parameters()))
    assert isinstance(optimiser, MuonWithAdam)
    matrices, others = optimiser.param_groups
    assert all(p.ndim == 2 for p in matrices["params"])
    assert all(p.ndim == 1 for p in others["params"])


def test_a_schedule_stops_falling_where_it_is_told_to() -> None:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = PowerDecaySchedulerConfig(decay_rate=0.1, decay_steps=10, until=20).setup()
    factor = schedule.get_scheduler(optimiser, 2.0).lr_lambdas[0]
    assert [factor(step) for step in (0, 10, 20, 500)] == pytest.approx([1, 0.1, 0.01, 0.01])
