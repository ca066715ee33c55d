"""A field that has died is told, once and early; one that learns is not."""

from __future__ import annotations

import logging

import pytest
import torch

from iga_nerfstudio.nerf.collapse import CollapseWatch
from tests.nerf.conftest import PipelineFactory, train


@pytest.mark.parametrize("dead", [True, False])
def test_a_dead_field_is_told_within_500_steps(
    dead: bool, make_pipeline: PipelineFactory, caplog: pytest.LogCaptureFixture
) -> None:
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
    for _ in range(10):
        for _ in range(150):
            watch.see(flat, varied)
        for _ in range(25):
            watch.see(varied, varied)
    assert not caplog.records
    for _ in range(500):
        watch.see(flat, varied)
    assert len(caplog.records) == 1
