"""One class of settings, whose adjuster is that of the same arguments."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest
from torch import nn

from iga_nerfstudio import InductiveGradientAdjuster, Intervals
from iga_nerfstudio.adjustment.settings import adjuster_of
from iga_nerfstudio.nerf.model import AdjustmentConfig
from iga_nerfstudio.settings import AdjustmentSettings
from iga_nerfstudio.tasks.config import TaskAdjustmentConfig

SETTINGS = [field.name for field in fields(AdjustmentSettings)]


def test_every_setting_reaches_the_adjuster() -> None:
    others: dict[str, object] = {
        "enabled": False,
        "start": 2,
        "end": 3,
        "rule": "sgd",
        "power": 0.5,
        "representative": "random",
        "num_representatives": 2,
        "eigen_method": "dense",
        "refresh_interval": 4,
    }
    assert set(others) == set(SETTINGS)
    settings = AdjustmentSettings(**others)  # type: ignore[arg-type]
    adjuster = adjuster_of(settings, nn.Linear(1, 1), Intervals(64, 8))
    assert {name: getattr(adjuster, name) for name in SETTINGS} == others


def test_those_of_all_methods_are_of_that_class() -> None:
    arguments = inspect.signature(InductiveGradientAdjuster.__init__).parameters
    assert set(SETTINGS) <= set(arguments)
    for kind in (TaskAdjustmentConfig, AdjustmentConfig):
        assert issubclass(kind, AdjustmentSettings)


def test_what_is_left_open_is_named() -> None:
    with pytest.raises(ValueError, match="needs end, rule, power"):
        adjuster_of(AdjustmentSettings(), nn.Linear(1, 1), Intervals(64, 8))
