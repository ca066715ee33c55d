"""A pipeline small enough to step through in a test."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.pipelines.base_pipeline import VanillaPipeline

from iga_nerfstudio.nerf.method_configs import iga_nerf_tiny

PipelineFactory = Callable[..., VanillaPipeline]


@pytest.fixture
def make_pipeline(scene: Path) -> PipelineFactory:
    """Builds ``iga-nerf-tiny``'s pipeline on the tiny scene; keyword arguments go to the adjustment."""

    def make(rays: int = 48, seed: int = 0, **adjustment: Any) -> VanillaPipeline:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        config = copy.deepcopy(iga_nerf_tiny.config.pipeline)
        config.datamanager.data = scene
        config.datamanager.train_num_rays_per_batch = rays
        model = config.model
        model.num_coarse_samples, model.num_importance_samples, model.hidden_dim = 8, 8, 24
        model.adjustment.end = 6
        for name, value in adjustment.items():
            setattr(model.adjustment, name, value)
        pipeline = config.setup(device="cpu", test_mode="val")
        pipeline.train()
        return pipeline

    return make


def train(pipeline: VanillaPipeline, steps: int) -> list[float]:
    """Adam for some steps; the fine losses."""
    optimiser = torch.optim.Adam(pipeline.get_param_groups()["fields"], lr=2e-3)
    losses = []
    for step in range(steps):
        optimiser.zero_grad()
        _, loss, _ = pipeline.get_train_loss_dict(step)
        sum(loss.values()).backward()
        optimiser.step()
        losses.append(loss["rgb_loss_fine"].item())
    return losses
