"""A field that has died is told, once and early; one that learns is not."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from iga_nerfstudio.nerf.collapse import CollapseWatch
from tests.nerf.conftest import PipelineFactory, train


@pytest.mark.parametrize("dead", [True, False])
def test_a_dead_field_is_told_early(dead: bool, make_pipeline: PipelineFactory, caplog: Any) -> None:
    pipeline = make_pipeline(rays=16)
    if dead:  # ReLU densities that start below zero have no gradient
        with torch.no_grad():
            for field in (pipeline.model.field_coarse, pipeline.model.field_fine):
                field.network.density.bias.fill_(-100.0)
    with caplog.at_level(logging.WARNING, logger="iga_nerfstudio"):
        train(pipeline, 250)
    told = [record.getMessage() for record in caplog.records if "one colour everywhere" in record.getMessage()]
    assert len(told) == dead
    assert all("--machine.seed" in message for message in told)


def test_flat_views_and_short_spells_are_no_collapse(caplog: pytest.LogCaptureFixture) -> None:
    watch, flat, varied = CollapseWatch(), torch.ones(8, 3), torch.rand(8, 3)
    for _ in range(1000):
        watch.see(flat, torch.ones(8, 4))  # nothing to see
    for i in range(1750):
        watch.see(flat if i % 175 < 150 else varied, varied)
    assert not caplog.records
    for _ in range(500):
        watch.see(flat, varied)
    assert len(caplog.records) == 1
