"""An adjuster as its settings describe it, for all methods."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import nn

from iga_nerfstudio.adjustment.adjuster import InductiveGradientAdjuster
from iga_nerfstudio.adjustment.grouping import Grouping
from iga_nerfstudio.settings import AdjustmentSettings


def adjuster_of(
    settings: AdjustmentSettings, network: nn.Module, grouping: Grouping, **others: Any
) -> InductiveGradientAdjuster:
    """The adjuster that settings describe.

    Args:
        settings: The settings; what a method adds to :class:`AdjustmentSettings` is the method's.
        network: The network to train.
        grouping: How a batch's rows form groups.
        others: Its further arguments: readout, seed, gather, cuda_graph.

    Raises:
        ValueError: If a setting is invalid, or one that a run fills in is still open.
    """
    return InductiveGradientAdjuster(network, grouping, **arguments_of(settings), **others)


def arguments_of(settings: AdjustmentSettings) -> dict[str, Any]:
    """The settings that an adjuster takes, by their names.

    Raises:
        ValueError: If one that a run fills in is still open.
    """
    values = {setting.name: getattr(settings, setting.name) for setting in fields(AdjustmentSettings)}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise ValueError(f"An adjuster needs {', '.join(missing)}.")
    return values
